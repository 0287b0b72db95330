package transfer

import (
	"context"
	"errors"
	"testing"
	"time"
)

// simulation is a link whose every connection gives the same, up to what the
// whole can carry, and somebody who always wants one more.
type simulation struct {
	*limiter
	clock     time.Time
	each, all float64 // bytes a second
}

func simulate(t *testing.T, budget int, each, all float64) *simulation {
	t.Helper()
	s := &simulation{clock: time.Unix(0, 0), each: each, all: all}
	s.limiter = newLimiter(budget, func() time.Time { return s.clock })
	s.waiting.PushBack(make(chan struct{}))
	s.open = s.limit
	return s
}

// run lets so many round trips pass and returns the highest limit among them.
func (s *simulation) run(roundTrips int) (highest int) {
	for range roundTrips {
		s.clock = s.clock.Add(firstRoundTrip)
		s.add(int(min(float64(s.open)*s.each, s.all) * firstRoundTrip.Seconds()))
		s.mu.Lock()
		if s.waiting.Len() == 0 {
			s.waiting.PushBack(make(chan struct{}))
		}
		s.open = s.limit // ranges end and begin within the round trip
		s.mu.Unlock()
		highest = max(highest, s.limit)
	}
	return highest
}

func TestLimiterUsesItsBudgetWhereThatPays(t *testing.T) {
	s := simulate(t, 256, 128e3, 100e6)
	s.run(5)
	if s.limit != 256 {
		t.Fatalf("limit after 5 round trips: got %d, want 256", s.limit)
	}
	for range 300 {
		if s.run(1); s.limit < 220 {
			t.Fatalf("limit fell to %d though every connection pays", s.limit)
		}
	}
}

func TestLimiterStepsBackWhereTheLinkIsFull(t *testing.T) {
	s := simulate(t, 256, 1e6, 60e6)
	if highest := s.run(5); highest < 128 {
		t.Fatalf("limit got to %d, want it to try twice what the link can use", highest)
	}
	s.run(300)
	if s.limit < 55 || s.limit > 90 {
		t.Errorf("limit: got %d, want about the 60 that fill the link", s.limit)
	}
	s.all = 120e6 // others have left it
	s.run(600)
	if s.limit < 105 {
		t.Errorf("limit on the wider link: got %d, want about 120", s.limit)
	}
}

func TestLimiterSlowsDownOnceAWindow(t *testing.T) {
	s := simulate(t, 100, 1e6, 1e9)
	s.run(10)
	for range 50 { // all connections are told at the same time
		s.slowDown()
	}
	if s.limit != 70 {
		t.Errorf("limit: got %d, want 70", s.limit)
	}
	s.run(1)
	s.slowDown()
	if s.limit != 49 {
		t.Errorf("limit: got %d, want 49", s.limit)
	}
	s.run(300)
	if s.limit < 90 {
		t.Errorf("limit: got %d, want it to have come back to about 100", s.limit)
	}
	for range 100 {
		s.run(1)
		s.slowDown()
	}
	if s.limit != 1 {
		t.Errorf("limit: got %d, want 1 at the least", s.limit)
	}
}

func TestLimiterLearnsNothingFromIdleness(t *testing.T) {
	s := simulate(t, 256, 128e3, 100e6)
	s.run(5)
	s.waiting.Init()
	for range 100 {
		s.clock = s.clock.Add(firstRoundTrip)
		s.add(1)
	}
	if s.limit != 256 {
		t.Errorf("limit: got %d, want 256 as before", s.limit)
	}
}

func TestLimiterServesTheUrgentFirst(t *testing.T) {
	l := newLimiter(1, time.Now)
	if err := l.acquire(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 2)
	wait := func(name string, urgent bool) {
		l.mu.Lock()
		queued := l.waiting.Len()
		l.mu.Unlock()
		go func() {
			if err := l.acquire(t.Context(), urgent); err == nil {
				order <- name
				l.release()
			}
		}()
		for queuedNow := queued; queuedNow == queued; {
			l.mu.Lock()
			queuedNow = l.waiting.Len()
			l.mu.Unlock()
		}
	}
	wait("new", false)
	wait("begun", true)
	if l.tryAcquire() {
		t.Error("a spare connection though others wait")
	}
	l.release()
	if first, second := <-order, <-order; first != "begun" || second != "new" {
		t.Errorf("got %s, then %s", first, second)
	}
}

func TestLimiterForgetsWhoGoesAway(t *testing.T) {
	l := newLimiter(1, time.Now)
	if err := l.acquire(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	for _, urgent := range []bool{true, false} {
		if err := l.acquire(ctx, urgent); !errors.Is(err, gone) {
			t.Errorf("got %v, want the reason", err)
		}
	}
	l.release()
	if !l.tryAcquire() {
		t.Error("the connection is lost")
	}
}

// Every read of every connection passes through add.
func BenchmarkLimiterAdd(b *testing.B) {
	l := newLimiter(256, time.Now)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.add(16 << 10)
		}
	})
}

func BenchmarkLimiterAcquire(b *testing.B) {
	l := newLimiter(256, time.Now)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.acquire(b.Context(), false); err != nil {
				b.Fatal(err)
			}
			l.release()
		}
	})
}
