// Package obs is how the functions log: one JSON object a line, with the request
// ID, and with no secret in it.
package obs

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/s3ferry/s3ferry/internal/secret"
)

// Logger returns the logger of a function. It writes to standard output in the
// format that the function's logging configuration asks for.
func Logger() *slog.Logger {
	return slog.New(Scrub(lambdacontext.NewLogHandler()))
}

// Scrub returns a handler that hands records on to next with every text through
// secret.Scrub.
func Scrub(next slog.Handler) slog.Handler { return scrubber{next} }

type scrubber struct{ next slog.Handler }

func (s scrubber) Enabled(ctx context.Context, level slog.Level) bool {
	return s.next.Enabled(ctx, level)
}

func (s scrubber) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, secret.Scrub(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(scrubAttr(a))
		return true
	})
	return s.next.Handle(ctx, clean)
}

func (s scrubber) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = scrubAttr(a)
	}
	return scrubber{s.next.WithAttrs(clean)}
}

func (s scrubber) WithGroup(name string) slog.Handler { return scrubber{s.next.WithGroup(name)} }

func scrubAttr(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(secret.Scrub(a.Value.String()))
	case slog.KindGroup:
		group := make([]slog.Attr, 0, len(a.Value.Group()))
		for _, member := range a.Value.Group() {
			group = append(group, scrubAttr(member))
		}
		a.Value = slog.GroupValue(group...)
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(secret.Scrub(err.Error()))
		} else if raw, err := json.Marshal(a.Value.Any()); err == nil && secret.Scrub(string(raw)) != string(raw) {
			a.Value = slog.StringValue(secret.Scrub(string(raw))) // no JSON any more, perhaps
		}
	}
	return a
}
