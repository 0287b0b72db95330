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
	// garbage from outside cannot turn into load on the store. For so long a Fetch
	// that failed is not made again either.
	Pause time.Duration

	mu    sync.Mutex
	value T
	read  time.Time // of the last successful Fetch; zero: never

	err    error // of the last Fetch
	failed time.Time
}

// fetchTimeout bounds a Fetch, for which all who want the document wait.
const fetchTimeout = 10 * time.Second

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
	var none T
	if c.err != nil && time.Since(c.failed) < c.Pause {
		return none, c.err
	}
	fetching, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	value, err := c.Fetch(fetching)
	if err != nil {
		if ctx.Err() == nil { // else it is this caller's time that is over
			c.err, c.failed = err, time.Now()
		}
		return none, err
	}
	c.value, c.read, c.err = value, time.Now(), nil
	return value, nil
}
