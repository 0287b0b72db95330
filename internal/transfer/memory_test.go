package transfer

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestMemoryNeverHasMoreThanItsSize(t *testing.T) {
	const size = 10 * reuse
	m := newMemory(size)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for round := range 50 {
				n := int64((worker+round)%4+1) * reuse
				b, err := m.take(t.Context(), n)
				if err != nil || int64(len(b)) != n {
					t.Errorf("take %d: got %d bytes, %v", n, len(b), err)
					return
				}
				m.mu.Lock()
				if m.lent+m.kept > size {
					t.Errorf("%d bytes lent and %d kept, want at most %d", m.lent, m.kept, size)
				}
				m.mu.Unlock()
				m.give(b)
			}
		})
	}
	wg.Wait()
	if m.lent != 0 {
		t.Errorf("%d bytes lent after all were given back", m.lent)
	}
}

func TestMemoryIsReused(t *testing.T) {
	m := newMemory(2 * reuse)
	first, err := m.take(t.Context(), reuse)
	if err != nil {
		t.Fatal(err)
	}
	m.give(first)
	second, err := m.take(t.Context(), reuse)
	if err != nil {
		t.Fatal(err)
	}
	if &first[0] != &second[0] {
		t.Error("a buffer of the same size was made anew")
	}
}

func TestMemoryWaitsNoLongerThanItsCaller(t *testing.T) {
	m := newMemory(1)
	if _, err := m.take(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(over)
	if _, err := m.take(ctx, 1); !errors.Is(err, over) {
		t.Errorf("got %v, want the caller's reason", err)
	}
}
