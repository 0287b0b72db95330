package transfer

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
)

// pause waits before the attempt after the given number of failures: with full
// jitter, since what went wrong went wrong for many at once, and at least after.
func (e *Engine) pause(ctx context.Context, failures int, after time.Duration) error {
	longest := e.MaxBackoff
	if shift := failures - 1; shift < 30 {
		longest = min(longest, e.Backoff<<shift)
	}
	timer := time.NewTimer(max(after, rand.N(longest))) //nolint:gosec // jitter
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// busyRounds is how often a write is sent, each time with the SDK's own retries:
// the bytes are here already, and pulling them again costs far more.
const busyRounds = 4

// insistence is how long a call is made again that leaves something behind for
// good where it fails. An outage of half a minute does not.
const insistence = 2 * time.Minute

// persist calls write again while the destination is busy.
func (e *Engine) persist(ctx context.Context, write func() error) error {
	return e.repeat(ctx, write, func(round int) bool { return round < busyRounds })
}

// insist is persist for insistence.
func (e *Engine) insist(ctx context.Context, write func() error) error {
	end := time.Now().Add(insistence)
	return e.repeat(ctx, write, func(int) bool { return time.Now().Before(end) })
}

func (e *Engine) repeat(ctx context.Context, write func() error, more func(round int) bool) error {
	for round := 1; ; round++ {
		err := write()
		if err == nil || fault.Class(err) != classBusy || !more(round) || ctx.Err() != nil {
			return err
		}
		if e.pause(ctx, round, 0) != nil {
			return err
		}
	}
}
