package backlog_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/s3ferry/s3ferry/internal/backlog"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/mailbox"
)

// inbox is what a gate sees.
type inbox struct {
	depth int
	pace  backlog.Pace
	err   error // of asking for the depth
	lost  error // of reading the pace
	looks int
}

func (i *inbox) ask(context.Context) (mailbox.Depth, error) {
	i.looks++
	return mailbox.Depth{Waiting: i.depth}, i.err
}

func (i *inbox) gate(senders int) *backlog.Gate {
	return &backlog.Gate{
		Life: time.Hour, Senders: senders, Log: slog.New(slog.DiscardHandler),
		Pace: func(context.Context) (backlog.Pace, error) { return i.pace, i.lost },
	}
}

// pass sends tens until the gate closes, a thousand at most, and returns how many
// went and why no more.
func pass(t *testing.T, g *backlog.Gate, i *inbox) (int, error) {
	t.Helper()
	for sent := 0; ; sent += 10 {
		if err := g.Pass(t.Context(), 10, i.ask); err != nil || sent == 10_000 {
			return sent, err
		}
	}
}

func TestWhatAGateLetsThrough(t *testing.T) {
	steady := backlog.Pace{PerSecond: 1, Over: 60} // 1,800 in half a life
	for name, tc := range map[string]struct {
		inbox   inbox
		senders int
		sent    int
		wait    time.Duration
	}{
		"an empty inbox":               {inbox{pace: steady}, 1, 1800, 5 * time.Minute},
		"shared by ten":                {inbox{pace: steady}, 10, 180, 5 * time.Minute},
		"half full":                    {inbox{pace: steady, depth: 900}, 1, 900, 5 * time.Minute},
		"a last batch goes whole":      {inbox{pace: steady, depth: 1799}, 1, 10, 5 * time.Minute},
		"full":                         {inbox{pace: steady, depth: 1800}, 1, 0, 5 * time.Minute},
		"too full for ten minutes":     {inbox{pace: steady, depth: 2400}, 1, 0, 10 * time.Minute},
		"too full for days":            {inbox{pace: steady, depth: 1e6}, 1, 0, 30 * time.Minute},
		"full, of a receiver unknown":  {inbox{depth: 1000}, 1, 0, 30 * time.Second},
		"empty, of a receiver unknown": {inbox{}, 1, 1000, 30 * time.Second},
		"the pace cannot be read":      {inbox{depth: 1e6, lost: errors.New("denied")}, 1, 10_000, 0},
		"the depth cannot be had":      {inbox{pace: steady, depth: 1e6, err: errors.New("no route")}, 1, 10_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			sent, err := pass(t, tc.inbox.gate(tc.senders), &tc.inbox)
			if sent != tc.sent || fault.RetryAfter(err) != tc.wait {
				t.Errorf("sent %d, then %v (after %s); expected %d, after %s", sent, err, fault.RetryAfter(err), tc.sent, tc.wait)
			}
			if err != nil && (fault.Class(err) != "backpressure" || !fault.IsHeld(err) || fault.IsPermanent(err)) {
				t.Errorf("got %v of class %s", err, fault.Class(err))
			}
			if tc.inbox.looks != 1 {
				t.Errorf("looked %d times", tc.inbox.looks)
			}
		})
	}
}

func TestAGateLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inbox{pace: backlog.Pace{PerSecond: 1, Over: 60}, depth: 5000}
		gate := in.gate(1)
		if sent, err := pass(t, gate, &in); sent != 0 || err == nil {
			t.Errorf("sent %d into a full inbox, %v", sent, err)
		}
		in.depth = 0
		time.Sleep(29 * time.Second)
		if sent, _ := pass(t, gate, &in); sent != 0 || in.looks != 1 {
			t.Errorf("sent %d after %d looks in half a minute", sent, in.looks)
		}
		time.Sleep(time.Second)
		if sent, _ := pass(t, gate, &in); sent != 1800 || in.looks != 2 {
			t.Errorf("sent %d after %d looks", sent, in.looks)
		}
	})
}
