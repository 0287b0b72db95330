package sqs

import (
	"cmp"
	"container/heap"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
)

// What a standard queue may do to its messages at any time, and what time does.
// Each tells how many messages it met.

// Redeliver makes up to n messages in flight visible at once, as if they had
// been delivered twice.
func (q *Queue) Redeliver(random *rand.Rand, n int) int {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	now := time.Now()
	met := q.some(random, n, func(m *message) bool { return m.receives > 0 && m.visibleAt.After(now) })
	for _, m := range met {
		m.visibleAt = now
		heap.Fix(&q.order, m.index)
	}
	q.wake()
	return len(met)
}

// Duplicate puts copies of up to n messages into the queue, each visible after a
// random time up to spread.
func (q *Queue) Duplicate(random *rand.Rand, n int, spread time.Duration) int {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	now := time.Now()
	met := q.some(random, n, func(*message) bool { return true })
	for _, m := range met {
		q.server.sequence++
		q.put(&message{
			Message: m.Message, id: uuid.NewString(), sent: m.sent, sequence: q.server.sequence,
			visibleAt: now.Add(upTo(random, spread)),
		})
	}
	return len(met)
}

// Scatter hides each of the next n messages that are sent for a random time up
// to spread, so that they come late and out of order. What it returns tells how
// many it has met so far.
func (q *Queue) Scatter(random *rand.Rand, n int, spread time.Duration) (met func() int) {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	s := &scatter{random: random, left: n, spread: spread}
	q.scattered = append(q.scattered, s)
	return func() int {
		q.server.mu.Lock()
		defer q.server.mu.Unlock()
		return n - s.left
	}
}

type scatter struct {
	random *rand.Rand
	left   int
	spread time.Duration
}

// late returns how long a message that is sent now is late; it needs the server's
// mu.
func (q *Queue) late() time.Duration {
	if len(q.scattered) == 0 {
		return 0
	}
	s := q.scattered[0]
	if s.left--; s.left == 0 {
		q.scattered = q.scattered[1:]
	}
	return upTo(s.random, s.spread)
}

// Pass makes everything that is hidden visible sooner by d, as if that time had
// passed: visibility timeouts, leases and delays run out.
func (q *Queue) Pass(d time.Duration) int {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	now := time.Now()
	met := 0
	for _, m := range q.byID { // the same for all keeps the heap
		if m.visibleAt.After(now) {
			met++
		}
		m.visibleAt = m.visibleAt.Add(-d)
	}
	q.wake()
	return met
}

// Idle reports whether no message is visible, and how long until one is; 0 if
// the queue is empty.
func (q *Queue) Idle() (bool, time.Duration) {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	if len(q.order) == 0 {
		return true, 0
	}
	wait := time.Until(q.order[0].visibleAt)
	return wait > 0, max(0, wait)
}

// some returns up to n messages at random; it needs the server's mu.
func (q *Queue) some(random *rand.Rand, n int, want func(*message) bool) []*message {
	all := slices.SortedFunc(maps.Values(q.byID), func(a, b *message) int { return cmp.Compare(a.sequence, b.sequence) })
	all = slices.DeleteFunc(all, func(m *message) bool { return !want(m) })
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

func upTo(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d) + 1))
}
