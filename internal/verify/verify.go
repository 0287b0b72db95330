// Package verify compares the two sides: it lists both buckets at once, in the
// order of their keys, and looks at what the destination recorded of each
// object's source. Its memory does not grow with the number of objects.
//
// What is under way counts as missing or stale, so a verification says most while
// the queues are empty.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/outbox"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Defaults of Options.
const (
	DefaultListers = 8
	DefaultLookups = 64
)

// repairBatch is how many repairs are queued together.
const repairBatch = 100

// S3 is what a verification asks of either side's *s3.Client.
type S3 interface {
	listing.S3
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObjectTagging(context.Context, *s3.GetObjectTaggingInput, ...func(*s3.Options)) (*s3.GetObjectTaggingOutput, error)
}

var _ S3 = (*s3.Client)(nil)

// Journal knows the order of objects that have no room for it in their own
// metadata, and the newest event of a key. *journal.Journal satisfies it.
type Journal interface {
	Order(ctx context.Context, bucket, key string) (*journal.Order, error)
	Newest(ctx context.Context, bucket, key string) (*journal.Newest, error)
}

var _ Journal = (*journal.Journal)(nil)

// Bucket is one side.
type Bucket struct {
	S3   S3
	Name string
}

// Outbox is where repairs go. *outbox.Outbox satisfies it.
type Outbox interface {
	Put(context.Context, []outbox.Message) ([]error, error)
}

var _ Outbox = (*outbox.Outbox)(nil)

// Options says what Run compares. Zero means default.
type Options struct {
	Source, Destination Bucket
	Region              string  // of the source
	Journal             Journal // of the destination; required
	Prefix              string  // of the source's keys; empty: StripPrefix
	Suffix              string  // of the source's keys

	// StripPrefix and AddPrefix say where the receiver puts an object: under its
	// key without the one and with the other before it.
	StripPrefix, AddPrefix string

	// Quick leaves it at the listings: presence and size. Only what differs there
	// is looked at.
	Quick bool
	// Tags compares the tags of what is equal otherwise, and not Quick. Their repair
	// needs a sender and a receiver that carry changes of tags.
	Tags bool
	// Outbox takes an event for each object that is missing or stale; nil: nothing
	// is repaired.
	Outbox Outbox
	// DeleteExtra has Outbox take a deletion for each object that came by ferry from
	// the source bucket, and that this no longer has.
	DeleteExtra bool

	Listers int // ranges listed at once; 0 is DefaultListers
	Lookups int // objects examined at once; 0 is DefaultLookups

	// Found is called for each difference and Progress with the totals from time
	// to time, both from one goroutine at a time; nil: nobody asks.
	Found    func(Difference) error
	Progress func(Summary)
}

// Kind is a kind of difference.
type Kind string

// The kinds.
const (
	Missing Kind = "missing" // the destination has no such object
	Stale   Kind = "stale"   // it has another one
	Extra   Kind = "extra"   // it has one that the source has not, nor another source bucket brought
	Unknown Kind = "unknown" // a side does not let it be compared
)

// Difference is an object that is not the same on both sides.
type Difference struct {
	Kind        Kind   `json:"kind"`
	Key         string `json:"key"`              // the source's
	Reason      string `json:"reason,omitempty"` // of stale: what differs; of unknown: the error
	Source      *State `json:"source,omitempty"`
	Destination *State `json:"destination,omitempty"`
}

// Summary counts objects.
type Summary struct {
	Objects int64 `json:"objects"` // compared; those of both sides with one key are one
	Bytes   int64 `json:"bytes"`   // of those at the source
	Equal   int64 `json:"equal"`
	Proved  int64 `json:"proved"` // of the equal: by checksums that both sides have
	Missing int64 `json:"missing"`
	Stale   int64 `json:"stale"`
	Extra   int64 `json:"extra"`
	Unknown int64 `json:"unknown"`
	// Elsewhere are objects of the destination that came by ferry from other source
	// buckets, under keys that this one does not have. They are no difference.
	Elsewhere int64 `json:"elsewhere"`
	Queued    int64 `json:"queued"` // repairs
}

// Same reports whether the two sides are equal.
func (s Summary) Same() bool { return s.Missing+s.Stale+s.Extra+s.Unknown == 0 }

// Run compares the two sides. Its error means that it could not, or could not
// repair; that they differ is in the summary, and so is what one side refuses to
// show: an object that is encrypted with a key of the customer's, say.
func Run(ctx context.Context, o Options) (Summary, error) {
	o.Prefix = cmp.Or(o.Prefix, o.StripPrefix)
	if !strings.HasPrefix(o.Prefix, o.StripPrefix) {
		return Summary{}, fmt.Errorf("prefix: got %q, expected it to begin with %q, which the receiver takes off", o.Prefix, o.StripPrefix)
	}
	source := listing.Bucket{S3: o.Source.S3, Name: o.Source.Name}
	ranges, err := source.Split(ctx, o.Prefix)
	if err != nil {
		return Summary{}, err
	}
	r := &run{Options: o}
	looking, lookCtx := errgroup.WithContext(ctx)
	looking.SetLimit(cmp.Or(o.Lookups, DefaultLookups))
	var look lookups = func(f func(context.Context) error) { looking.Go(func() error { return f(lookCtx) }) }
	listers, listCtx := errgroup.WithContext(lookCtx)
	listers.SetLimit(cmp.Or(o.Listers, DefaultListers))
	for _, part := range ranges {
		listers.Go(func() error { return r.merge(listCtx, part, look) })
	}
	listErr := listers.Wait()
	// What ends the lookups ends the listings too, so theirs says why.
	if err = looking.Wait(); err == nil {
		err = listErr
	}
	if flushErr := r.flush(context.WithoutCancel(ctx)); err == nil {
		err = flushErr
	}
	return r.summary, err
}

type run struct {
	Options

	mu      sync.Mutex
	summary Summary
	repairs []outbox.Message
}

// place returns the destination's key for the source's.
func (r *run) place(key string) string { return r.AddPrefix + strings.TrimPrefix(key, r.StripPrefix) }

// lookups takes work that is done while the listings go on; it waits while there
// is too much.
type lookups func(func(context.Context) error)

// merge walks both listings of a range side by side. Taking one prefix off every
// key and putting another before it keeps their order.
func (r *run) merge(ctx context.Context, part listing.Range, look lookups) error {
	there := listing.Range{Prefix: r.place(part.Prefix)}
	if part.After != "" {
		there.After = r.place(part.After)
	}
	if part.Last != "" {
		there.Last = r.place(part.Last)
	}
	next, stop := iter.Pull2(listing.Bucket{S3: r.Source.S3, Name: r.Source.Name}.Objects(ctx, part))
	defer stop()
	nextThere, stopThere := iter.Pull2(listing.Bucket{S3: r.Destination.S3, Name: r.Destination.Name}.Objects(ctx, there))
	defer stopThere()

	a, err, more := next()
	b, errThere, moreThere := nextThere()
	for (more || moreThere) && err == nil && errThere == nil {
		order := strings.Compare(r.place(a.Key), b.Key)
		switch {
		case !moreThere || more && order < 0:
			r.compare(look, a.Key, &a, nil)
			a, err, more = next()
		case !more || order > 0:
			r.compare(look, r.StripPrefix+strings.TrimPrefix(b.Key, r.AddPrefix), nil, &b)
			b, errThere, moreThere = nextThere()
		default:
			r.compare(look, a.Key, &a, &b)
			a, err, more = next()
			b, errThere, moreThere = nextThere()
		}
	}
	return errors.Join(err, errThere)
}

// compare judges one key by what the listings say of it, or looks closer.
func (r *run) compare(look lookups, key string, source, destination *listing.Object) {
	if !strings.HasSuffix(key, r.Suffix) {
		return
	}
	if r.Quick && source != nil && destination != nil && source.Size == destination.Size {
		r.count(verdict{equal: true}, source.Size)
		return
	}
	look(func(ctx context.Context) error {
		v, err := r.look(ctx, key)
		if err != nil {
			return err
		}
		size := int64(0)
		if v.source != nil {
			size = v.source.Size
		}
		r.count(v, size)
		if v.equal {
			return nil
		}
		return r.differs(ctx, key, v)
	})
}

const progressEvery = 100

func (r *run) count(v verdict, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary.Objects++
	r.summary.Bytes += size
	switch {
	case v.elsewhere:
		r.summary.Elsewhere++
	case v.equal && v.proved:
		r.summary.Proved++
		fallthrough
	case v.equal:
		r.summary.Equal++
	case v.kind == Missing:
		r.summary.Missing++
	case v.kind == Stale:
		r.summary.Stale++
	case v.kind == Extra:
		r.summary.Extra++
	default:
		r.summary.Unknown++
	}
	if r.Progress != nil && r.summary.Objects%progressEvery == 0 {
		r.Progress(r.summary)
	}
}

// differs tells of a difference and queues its repair. What is extra stays unless
// DeleteExtra is on and it came by ferry from this very source bucket.
func (r *run) differs(ctx context.Context, key string, v verdict) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Found != nil {
		if err := r.Found(Difference{Kind: v.kind, Key: key, Reason: v.reason, Source: v.source, Destination: v.destination}); err != nil {
			return err
		}
	}
	if r.Outbox == nil || v.kind == Unknown || v.kind == Extra && (!r.DeleteExtra || v.destination.Sequencer == "" || v.destination.SourceBucket != r.Source.Name) {
		return nil
	}
	op, repair := wire.OpPut, wire.Source{}
	switch {
	case v.kind == Extra:
		op, repair = wire.OpDelete, v.removal(r.Region, r.Source.Name, key)
	case v.reason == byTags:
		op, repair = wire.OpTag, v.retagging(r.Region, r.Source.Name, key)
	default:
		repair = v.repair(r.Region, r.Source.Name, key)
	}
	if err := repair.Validate(op); err != nil {
		return fmt.Errorf("repair %q: %w", key, err)
	}
	r.repairs = append(r.repairs, outbox.Message{Body: event.Encode(op, repair)})
	if len(r.repairs) < repairBatch {
		return nil
	}
	return r.send(ctx)
}

func (r *run) flush(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.send(ctx)
}

// send queues the repairs that wait. The caller holds the lock.
func (r *run) send(ctx context.Context) error {
	if len(r.repairs) == 0 {
		return nil
	}
	errs, err := r.Outbox.Put(ctx, r.repairs)
	for _, failed := range errs {
		if failed == nil {
			r.summary.Queued++
		}
	}
	r.repairs = nil
	return err
}
