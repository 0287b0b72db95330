package redrive

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Events reads the letters of the outbox's dead-letter queue: they go back as
// they are.
func Events(body string) (Event, error) {
	message, err := event.Parse(body)
	if err != nil {
		return Event{}, err
	}
	if len(message.Events) == 0 {
		return Event{}, errors.New("it tells of nothing to carry")
	}
	e := Event{Body: body}
	for _, told := range message.Events {
		e.Keys = append(e.Keys, told.Source.Key)
	}
	return e, nil
}

// Transfers returns how the letters of the inbox's dead-letter queue are read:
// the transfer that a trusted key has signed becomes the event again that it was
// made from. Anything else stays: whoever can fill the inbox must not be able to
// fill the outbox.
func Transfers(trust link.Trust) func(body string) (Event, error) {
	return func(body string) (Event, error) {
		t, err := wire.Verify(body, trust.Keys)
		if err != nil {
			return Event{}, err
		}
		e := Event{Keys: []string{t.Source.Key}}
		switch {
		case t.Op == wire.OpNoop:
			return e, fmt.Errorf("it asks for %q, which carries nothing", t.Op)
		case !trust.Allows(t.Source.Bucket, t.Source.Region):
			return e, fmt.Errorf("its source, %s in %s, is not linked", t.Source.Bucket, t.Source.Region)
		}
		e.Body = event.Encode(t.Op, t.Source)
		return e, nil
	}
}

// Pattern returns a match of whole keys: in pattern, * stands for any text, also
// with slashes, and ? for one character.
func Pattern(pattern string) func(key string) bool {
	expression := regexp.QuoteMeta(pattern)
	expression = strings.ReplaceAll(expression, `\*`, `.*`)
	expression = strings.ReplaceAll(expression, `\?`, `.`)
	return regexp.MustCompile(`(?s)^` + expression + `$`).MatchString
}
