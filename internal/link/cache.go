package link

import (
	"context"
	"sync"
	"time"
)

// Cache keeps one document that both sides read far more often than it changes.
// It is safe for concurrent use; the zero value is not.
type Cache[T any] struct {
	// Fetch reads the document as it is now.
	Fetch func(ctx context.Context) (T, error)
	// Life is how long it is believed without asking again.
	Life time.Duration
	// Pause is the shortest time between two reads that Refresh causes, so that
	// garbage from outside cannot turn into load on the store.
	Pause time.Duration

	mu    sync.Mutex
	value T
	read  time.Time // of the last successful Fetch; zero: never
}

// Get returns the document, at most Life old.
func (c *Cache[T]) Get(ctx context.Context) (T, error) { return c.get(ctx, c.Life) }

// Refresh returns the document, at most Pause old: for a caller whom the one it
// has did not serve.
func (c *Cache[T]) Refresh(ctx context.Context) (T, error) { return c.get(ctx, c.Pause) }

func (c *Cache[T]) get(ctx context.Context, age time.Duration) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read.IsZero() && time.Since(c.read) < age {
		return c.value, nil
	}
	value, err := c.Fetch(ctx)
	if err != nil {
		return value, err
	}
	c.value, c.read = value, time.Now()
	return value, nil
}
