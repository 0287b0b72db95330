package main

import (
	"context"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// await returns when no message is under way. While every queue waits for the
// end of a delay and nobody is at work, it lets that time pass at once.
func (s *soak) await(ctx context.Context) error {
	begun, last, moved := time.Now(), "", time.Now()
	for still := 0; still < settled; {
		state, left, wait := s.underWay()
		switch {
		case left == 0:
			still++
		case wait > 0:
			s.skipped += wait
			for _, name := range ways {
				s.cloud.Queue(name).Pass(wait)
			}
			fallthrough
		default:
			still = 0
		}
		if state != last {
			last, moved = state, time.Now()
		}
		if time.Since(moved) > s.patience || time.Since(begun) > longest*s.patience {
			return nil // whatever is left is stuck, which the report says
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

const (
	look    = 200 * time.Millisecond
	settled = 15 // looks in a row that find nothing
	longest = 4  // times the patience, for what moves and does not end
)

// ways are the queues of what is under way.
var ways = []string{"outbox", "inbox", "receipts"}

// underWay describes what is under way, counts it, and gives the time until the
// next message is visible if nothing will happen before.
func (s *soak) underWay() (state string, left int, wait time.Duration) {
	busy := false
	for _, name := range []string{localcloud.Sender, localcloud.Receiver, localcloud.Courier} {
		busy = busy || s.cloud.Function(name).Busy()
	}
	for _, name := range ways {
		c := s.cloud.Queue(name).Counts()
		left += c.Visible + c.InFlight + c.Delayed
		idle, next := s.cloud.Queue(name).Idle()
		busy = busy || !idle
		if next > 0 && (wait == 0 || next < wait) {
			wait = next
		}
	}
	state = s.cloud.Totals().String()
	if busy {
		return state, left, 0
	}
	return state, left, wait
}
