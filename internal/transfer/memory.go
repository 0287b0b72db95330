package transfer

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// memory lends part buffers and never has more than its size out and kept
// together.
type memory struct {
	size   int64
	budget *semaphore.Weighted // bytes lent

	mu   sync.Mutex
	lent int64
	kept int64              // bytes in free
	free map[int64][][]byte // by length
}

// reuse is the least bytes of a buffer worth keeping for the next part.
const reuse = 1 << 20

func newMemory(size int64) *memory {
	return &memory{size: size, budget: semaphore.NewWeighted(size), free: map[int64][][]byte{}}
}

// take waits until n bytes may be lent. n is at most the size of m.
func (m *memory) take(ctx context.Context, n int64) ([]byte, error) {
	if err := m.budget.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	return m.make(n), nil
}

// make returns a buffer that the budget has room for.
func (m *memory) make(n int64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lent += n
	if f := m.free[n]; len(f) > 0 {
		m.free[n] = f[:len(f)-1]
		m.kept -= n
		return f[len(f)-1]
	}
	if m.lent+m.kept > m.size {
		clear(m.free)
		m.kept = 0
	}
	return make([]byte, n)
}

// tryTake is take for what can be done without.
func (m *memory) tryTake(n int64) ([]byte, bool) {
	if !m.budget.TryAcquire(n) {
		return nil, false
	}
	return m.make(n), true
}

func (m *memory) give(b []byte) {
	n := int64(len(b))
	m.mu.Lock()
	m.lent -= n
	if n >= reuse {
		m.free[n] = append(m.free[n], b)
		m.kept += n
	}
	m.mu.Unlock()
	m.budget.Release(n)
}
