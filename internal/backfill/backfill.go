// Package backfill carries what no event told of: the objects that were in the
// source bucket before it was linked, or while its events went elsewhere. It puts
// an event for each into the outbox; the rest is the usual way.
//
// Such an event is older than any of S3's for the same key, so a backfill may
// run while others write: what they write wins. See Place.
package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/outbox"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// DefaultWorkers is how many parts of the work are done at once.
const DefaultWorkers = 8

// From is where the objects are known from: a *Listing or an *Inventory.
type From interface {
	// Divide cuts the work into parts.
	Divide(context.Context) ([]Shard, error)
	// Pages yields a part from its cursor on, and ends with the first error.
	Pages(context.Context, Shard) iter.Seq2[Page, error]
}

// Page is a run of objects and the cursor behind them.
type Page struct {
	Objects []listing.Object
	Cursor  string
}

// Outbox is where the events go. *outbox.Outbox satisfies it.
type Outbox interface {
	Put(context.Context, []outbox.Message) ([]error, error)
}

var _ Outbox = (*outbox.Outbox)(nil)

// Options says what Run does. Zero means default.
type Options struct {
	Region, Bucket string // of the source; required
	Suffix         string // only keys that end in it
	Outbox         Outbox // nil: nothing is sent, only counted
	State          *State // required
	Rate           int    // objects a second; 0 is as fast as it goes
	Workers        int    // 0 is DefaultWorkers
	// Progress is called with totals whenever more is queued, from one goroutine
	// at a time; nil: nobody asks.
	Progress func(Totals)
}

// Totals is how far a backfill is, earlier runs of its state included, but for Bytes.
type Totals struct {
	Queued int64 `json:"queued"` // objects whose event is in the outbox
	Bytes  int64 `json:"bytes"`  // of those of this run
	// Unfit are objects that no event can name, and an example.
	Unfit   int64  `json:"unfit"`
	Example string `json:"example,omitempty"`
}

// Run queues every object that from knows of. An object counts as done only when
// its event is in the outbox; after an error, or a crash, Run with the same state
// goes on from there, and may queue the last thousand objects of each part once
// more, which changes nothing.
func Run(ctx context.Context, from From, o Options) (totals Totals, err error) {
	if len(o.State.shards()) == 0 {
		shards, err := from.Divide(ctx)
		if err != nil {
			return totals, fmt.Errorf("divide the backfill: %w", err)
		}
		if err := o.State.divide(shards); err != nil {
			return totals, err
		}
	}
	r := &run{Options: o, from: from, limit: rate.NewLimiter(rate.Inf, 0)}
	if o.Rate > 0 {
		r.limit = rate.NewLimiter(rate.Limit(o.Rate), o.Rate)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(o.Workers, DefaultWorkers))
	shards := o.State.shards()
	for _, shard := range shards {
		r.totals.Queued += shard.Queued
		r.totals.Unfit += shard.Unfit
		r.totals.Example = cmp.Or(r.totals.Example, shard.Example)
	}
	for i, shard := range shards {
		if !shard.Done {
			group.Go(func() error { return r.shard(ctx, i, shard) })
		}
	}
	err = group.Wait()
	return r.totals, errors.Join(err, o.State.flush())
}

type run struct {
	Options
	from  From
	limit *rate.Limiter

	mu     sync.Mutex
	totals Totals
}

func (r *run) shard(ctx context.Context, i int, shard Shard) error {
	for page, err := range r.from.Pages(ctx, shard) {
		if err != nil {
			return err
		}
		done, err := r.page(ctx, page.Objects)
		if err != nil {
			return err
		}
		if err := r.State.advance(i, page.Cursor, done); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.State.finish(i)
}

// page queues objects, a second's worth at a time where there is a rate.
func (r *run) page(ctx context.Context, objects []listing.Object) (done Totals, err error) {
	var messages []outbox.Message
	for _, object := range objects {
		if !strings.HasSuffix(object.Key, r.Suffix) {
			continue
		}
		source := Source(r.Region, r.Bucket, object, "")
		if err := source.Validate(wire.OpPut); err != nil {
			done.Unfit++
			done.Example = fmt.Sprintf("%q: %v", object.Key, err)
			continue
		}
		done.Queued++
		done.Bytes += object.Size
		messages = append(messages, outbox.Message{Body: event.Encode(wire.OpPut, source)})
	}
	for chunk := range slices.Chunk(messages, cmp.Or(r.Rate, max(1, len(messages)))) {
		if err := r.limit.WaitN(ctx, len(chunk)); err != nil {
			return done, err
		}
		if r.Outbox != nil {
			if _, err := r.Outbox.Put(ctx, chunk); err != nil {
				return done, err
			}
		}
		r.count(Totals{Queued: int64(len(chunk))})
	}
	r.count(Totals{Bytes: done.Bytes, Unfit: done.Unfit, Example: done.Example})
	return done, nil
}

func (r *run) count(more Totals) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.totals.Queued += more.Queued
	r.totals.Bytes += more.Bytes
	r.totals.Unfit += more.Unfit
	r.totals.Example = cmp.Or(r.totals.Example, more.Example)
	if r.Progress != nil {
		r.Progress(r.totals)
	}
}

// Listing knows the objects under Prefix from the bucket itself.
type Listing struct {
	Bucket listing.Bucket
	Prefix string
}

var _ From = (*Listing)(nil)

// Divide implements From.
func (l *Listing) Divide(ctx context.Context) ([]Shard, error) {
	ranges, err := l.Bucket.Split(ctx, l.Prefix)
	if err != nil {
		return nil, err
	}
	shards := make([]Shard, len(ranges))
	for i := range ranges {
		shards[i].Range = &ranges[i]
	}
	return shards, nil
}

// Pages implements From.
func (l *Listing) Pages(ctx context.Context, shard Shard) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		if shard.Range == nil {
			yield(Page{}, errors.New("continue a backfill: its state is of an inventory, not of a listing"))
			return
		}
		rest := *shard.Range
		rest.After = cmp.Or(shard.Cursor, rest.After)
		for objects, err := range l.Bucket.Pages(ctx, rest) {
			page := Page{Objects: objects}
			if len(objects) > 0 {
				page.Cursor = objects[len(objects)-1].Key
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}
