package lambda

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"
)

// Schedule invokes a function at a fixed rate with a scheduled event. An
// invocation that takes longer than the interval delays the next.
type Schedule struct {
	Name     string // of the rule
	Function Invoker
	Region   string
	Account  string // twelve digits
	Interval time.Duration
	Log      *slog.Logger
}

// Run invokes until ctx ends, and returns when an invocation then running has
// ended too.
func (s Schedule) Run(ctx context.Context) {
	ticker := time.NewTicker(s.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if err := s.invoke(context.WithoutCancel(ctx), now); err != nil {
				s.Log.Error("scheduled invocation failed", "rule", s.Name, "err", err)
			}
		}
	}
}

func (s Schedule) invoke(ctx context.Context, now time.Time) error {
	payload, err := json.Marshal(events.CloudWatchEvent{
		Version: "0", ID: uuid.NewString(), DetailType: "Scheduled Event", Source: "aws.events",
		AccountID: s.Account, Time: now.UTC().Truncate(time.Second), Region: s.Region,
		Resources: []string{"arn:aws:events:" + s.Region + ":" + s.Account + ":rule/" + s.Name},
		Detail:    json.RawMessage("{}"),
	})
	if err != nil {
		return err
	}
	_, err = s.Function.Invoke(ctx, payload)
	return err
}
