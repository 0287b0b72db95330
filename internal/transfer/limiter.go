package transfer

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// How a limiter finds its limit. Times are in round trips, since that is how
// long the link takes to answer.
const (
	firstConnections = 32   // or the budget, if that is less
	doublingGain     = 1.1  // times the rate: what twice the connections have to bring
	probe            = 8    // a step is one of so many parts of the limit
	probeGain        = 1.03 // times the rate: what a step up has to bring
	probeLoss        = 0.97 // times the rate: what a step down has to leave
	patience         = 8    // round trips until a step is judged; a new connection needs six to get going
	holdTime         = 25   // round trips after a step that was taken back
	backOff          = 0.7  // of the limit, where the source asks to slow down

	firstRoundTrip = 200 * time.Millisecond // until one has been seen
	leastWindow    = 50 * time.Millisecond
)

// limiter grants connections: as many as make the total rate grow, up to a
// budget. On a long lossy link each is slow by itself, so their number is what
// makes the rate, up to where the link is full.
//
// It starts with few and doubles them each round trip while the rate grows. Then
// it tries small steps, down and up, and keeps those that cost nothing or pay.
type limiter struct {
	budget int
	now    func() time.Time

	read atomic.Int64 // bytes in this window
	due  atomic.Int64 // when the window ends, in Unix nanoseconds

	mu        sync.Mutex
	limit     int
	open      int
	waiting   list.List // of chan struct{}; what waits has work to do
	roundTrip time.Duration
	began     time.Time // the window; zero before the first bytes
	each      float64   // bytes a second of one connection, 0 until known

	doubling  bool
	smooth    float64 // bytes a second, over some windows
	base      float64 // bytes a second before the last step
	before    int     // the limit then
	up        bool    // the direction of steps
	waited    int     // windows since the last step
	holding   int     // windows until the next one
	throttled bool    // in this window
}

func newLimiter(budget int, now func() time.Time) *limiter {
	return &limiter{budget: budget, now: now, limit: min(firstConnections, budget), doubling: true, roundTrip: firstRoundTrip}
}

// acquire waits for a connection. Who goes on with something begun is urgent and
// comes before all others: its part holds memory.
func (l *limiter) acquire(ctx context.Context, urgent bool) error {
	l.mu.Lock()
	if l.open < l.limit && (urgent || l.waiting.Len() == 0) {
		l.open++
		l.mu.Unlock()
		return nil
	}
	granted := make(chan struct{})
	var place *list.Element
	if urgent {
		place = l.waiting.PushFront(granted)
	} else {
		place = l.waiting.PushBack(granted)
	}
	l.mu.Unlock()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-granted: // in between
		l.open--
		l.grant()
	default:
		l.waiting.Remove(place)
	}
	return context.Cause(ctx)
}

// tryAcquire takes a connection that nobody else has work for.
func (l *limiter) tryAcquire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.limit || l.waiting.Len() > 0 {
		return false
	}
	l.open++
	return true
}

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	l.grant()
}

// grant hands out what is free; it needs mu.
func (l *limiter) grant() {
	for l.open < l.limit && l.waiting.Len() > 0 {
		l.open++
		close(l.waiting.Remove(l.waiting.Front()).(chan struct{})) //nolint:forcetypeassert,errcheck // nothing else is in it
	}
}

// answered tells how long a request took to be answered.
func (l *limiter) answered(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roundTrip = min(l.roundTrip, took)
}

// slowDown tells that the source has asked for less.
func (l *limiter) slowDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.throttled {
		return // once a window: many ask at the same time
	}
	l.throttled, l.doubling, l.up = true, false, true
	l.limit = max(1, int(float64(l.limit)*backOff))
	l.base, l.holding = 0, holdTime
}

// add tells of n bytes that came, and moves the limit when a window is over.
func (l *limiter) add(n int) {
	l.read.Add(int64(n))
	if l.now().UnixNano() < l.due.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.UnixNano() < l.due.Load() {
		return // somebody else was faster
	}
	window := max(l.roundTrip, leastWindow)
	took := now.Sub(l.began)
	bytes := l.read.Swap(0)
	l.began = now
	l.due.Store(now.Add(window).UnixNano())
	if took < patience*window { // else nothing was under way for a while
		l.judge(float64(bytes) / took.Seconds())
	} else if l.doubling {
		l.limit = min(2*l.limit, l.budget) // the first bytes
	}
	l.grant()
}

// judge moves the limit by the rate of the last window; it needs mu.
func (l *limiter) judge(rate float64) {
	const weight = 0.3
	l.smooth += weight * (rate - l.smooth)
	if l.throttled {
		l.throttled = false
		return
	}
	if l.waiting.Len() == 0 || l.open > l.limit {
		return // nobody would use more, or the last step is not done
	}
	l.each = rate / float64(l.open)
	switch l.waited++; {
	case l.doubling && rate > l.base*doublingGain:
		l.base, l.waited = rate, 0
		l.limit = min(2*l.limit, l.budget)
	case l.doubling && l.waited < patience:
	case l.doubling:
		l.doubling = false
		l.step()
	case l.holding > 0:
		if l.holding--; l.holding == 0 {
			l.step()
		}
	case !l.up && l.smooth < l.base*probeLoss, l.up && l.waited >= patience && l.smooth < l.base*probeGain:
		l.limit, l.up, l.holding = l.before, !l.up, holdTime
	case l.waited >= patience:
		l.step()
	}
}

// step tries other connections, and remembers what there is now; it needs mu.
func (l *limiter) step() {
	l.base, l.before, l.waited = l.smooth, l.limit, 0
	size := max(1, l.limit/probe)
	if !l.up {
		size = -size
	}
	l.limit = max(1, min(l.limit+size, l.budget))
}

// rate returns the bytes a second that one connection gives, 0 if that is not
// known yet, and how many there may be.
func (l *limiter) rate() (each float64, connections int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.each, l.limit
}
