// Package transfer carries one object version from a presigned URL into the
// destination bucket. It knows S3 and bytes; queues, Lambda and signatures are
// other packages' business.
//
// Small objects take one GET and one conditional PUT. Large ones take a
// multipart upload whose parts are pulled in parallel, each range pinned to the
// source's ETag; what is done survives the invocation, since the journal names
// the upload and S3 lists its parts. Larger ones still are cut into segments, each
// of which another invocation can carry; segments.go says how they end as one.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Defaults of Options.
const (
	DefaultConnections = 256
	DefaultPartSize    = 8 << 20
	DefaultSegmentSize = 1 << 30
	DefaultRangeSize   = 4 << 20
	DefaultMemory      = 512 << 20
	DefaultAttempts    = 10
	DefaultBackoff     = 200 * time.Millisecond
	DefaultMaxBackoff  = 20 * time.Second
	DefaultStallWindow = 10 * time.Second
	DefaultStallFloor  = 8 << 10
	DefaultHedgeAfter  = time.Second
)

// Options configures an Engine. Zero means default.
type Options struct {
	S3      S3     // of the destination; required
	Bucket  string // destination; required
	Journal *journal.Journal
	HTTP    *http.Client // to the source; must not follow redirects
	Mapping Mapping

	Connections int   // GETs under way at once, over all transfers: at most, where more make it faster
	PartSize    int64 // bytes; an object up to this is small. Grown where MaxParts would not do
	MaxParts    int   // of an upload
	SegmentSize int64 // bytes; a larger object is cut into segments of about this, whole parts each
	RangeSize   int64 // bytes of one GET at most: a larger part is pulled in several, over as many connections
	Memory      int64 // bytes of buffers, over all transfers. A part of more than half of it is streamed

	Attempts    int           // of one range in a row that bring next to nothing
	Backoff     time.Duration // longest wait before the second attempt; doubles from there
	MaxBackoff  time.Duration // longest wait before any attempt
	StallWindow time.Duration // a connection slower than StallFloor over this is given up
	StallFloor  int64         // bytes per second
	HedgeAfter  time.Duration // what any range may take longer than others: its answer is several round trips away

	// Deletes says that there are deletions too: each put then also looks for one
	// that came before it.
	Deletes bool

	// TagChanges says that there are changes of tags too: each put then also looks
	// for one of its version.
	TagChanges bool

	// HeadThenWrite is for a destination without conditional writes and deletes: it
	// is asked before each instead, which keeps order only as long as no two
	// transfers of a key are under way at once.
	HeadThenWrite bool

	Now func() time.Time
}

func (o Options) resolve() Options {
	o.Connections = or(o.Connections, DefaultConnections)
	o.PartSize = or(o.PartSize, DefaultPartSize)
	o.MaxParts = or(o.MaxParts, DefaultMaxParts)
	o.SegmentSize = or(o.SegmentSize, DefaultSegmentSize)
	o.RangeSize = or(o.RangeSize, DefaultRangeSize)
	o.Memory = or(o.Memory, DefaultMemory)
	o.PartSize = min(o.PartSize, o.Memory)
	o.Attempts = or(o.Attempts, DefaultAttempts)
	o.Backoff = or(o.Backoff, DefaultBackoff)
	o.MaxBackoff = or(o.MaxBackoff, DefaultMaxBackoff)
	o.StallWindow = or(o.StallWindow, DefaultStallWindow)
	o.StallFloor = or(o.StallFloor, DefaultStallFloor)
	o.HedgeAfter = or(o.HedgeAfter, DefaultHedgeAfter)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Engine carries transfers under one budget of connections and one of memory.
// It is safe for concurrent use; there is one per process.
type Engine struct {
	Options
	connections *limiter
	memory      *memory
}

// New returns an Engine.
func New(o Options) *Engine {
	o = o.resolve()
	return &Engine{
		Options:     o,
		connections: newLimiter(o.Connections, time.Now),
		memory:      newMemory(o.Memory),
	}
}

// Result is what a delivery has done.
type Result struct {
	Outcome  wire.Outcome  // copied, skipped, superseded, gone, expired, deleted or tagged; empty: others carry it on
	Bytes    int64         // of the object if copied, else 0
	Verified wire.Verified // if copied

	// Segments are to be sent to workers, each by itself, before the delivery
	// counts as done: its index for PutSegment, or Whole for Put.
	Segments []int

	// Told, if set, is to be called once the receipt of the outcome, or of the
	// error beside this Result, is safe. Until it has succeeded the delivery does
	// not count as done.
	Told func(context.Context) error

	// Again names a newer put whose object this delivery may have undone. It has to
	// be asked for, whatever the outcome, before the delivery counts as done.
	Again *wire.Source

	// Retag names a version whose copy may have other tags than it has. They have to
	// be asked for, whatever the outcome, before the delivery counts as done.
	Retag *wire.Source

	// Residue is what no other delivery could tidy up either. The buckets'
	// lifecycle rules take it; it is worth a line of log.
	Residue error
}

// Unfinished is the error of a Put whose time was up first. What is done stays
// done: the next Put of the same transfer goes on from there.
type Unfinished struct { //nolint:errname // a clean stop rather than a failure
	Parts     int // finished by this call
	Remaining int // still to do
	Err       error
}

func (u *Unfinished) Error() string {
	return fmt.Sprintf("time is up with %d parts finished and %d to do: %v", u.Parts, u.Remaining, u.Err)
}

// Unwrap returns what ended the time.
func (u *Unfinished) Unwrap() error { return u.Err }

// ended is the error by which a transfer leaves early with an outcome that is
// none.
type ended struct {
	outcome wire.Outcome
	why     string
}

func (e ended) Error() string { return fmt.Sprintf("%s: %s", e.outcome, e.why) }

// Whole stands among Result.Segments for the transfer itself.
const Whole = -1

// Put carries t, whose URL the caller has checked, to the key of the destination
// bucket that the mapping gives. A key of which a newer event has arrived is left
// alone, as is one that already has this event's object.
//
// redelivered says that an earlier Put of t may have done something; then a
// small object is looked for before it is pulled, and uploads of a large one's key
// are aborted that the journal does not name.
//
// New work stops a while before the deadline of ctx, so that what was pulled
// can be stored; the error is then *Unfinished. Any other error has a class
// from package fault. An outcome of expired leaves the upload in place for the
// next URL.
//
// An object above SegmentSize is not carried here: Result.Segments says what is
// missing of it.
func (e *Engine) Put(ctx context.Context, t *wire.Transfer, redelivered bool) (Result, error) {
	j, err := e.newJob(t)
	if err != nil {
		return Result{}, err
	}
	work, cancel := checkpointed(ctx)
	defer cancel()

	var verified wire.Verified
	if t.Source.Size <= e.PartSize {
		verified, err = j.small(ctx, work, redelivered)
	} else {
		j.doubtful = redelivered || t.Round > 0
		verified, err = j.large(ctx, work)
	}
	return j.result(ctx, work, verified, err)
}

// result is what the caller of Put or PutSegment gets.
func (j *job) result(ctx, work context.Context, verified wire.Verified, err error) (Result, error) {
	err = j.lookBack(ctx, err)
	r := Result{Residue: j.residue, Segments: j.segments, Told: j.told, Again: j.again, Retag: j.retag}
	if err == nil {
		r.Outcome, r.Bytes, r.Verified = wire.Copied, j.t.Source.Size, verified
		return r, nil
	}
	if errors.Is(err, errShared) {
		return r, nil
	}
	if end, ok := errors.AsType[ended](err); ok {
		r.Outcome = end.outcome
		return r, nil
	}
	if work.Err() != nil && !fault.IsPermanent(err) {
		return r, &Unfinished{Parts: j.finished, Remaining: j.remaining, Err: context.Cause(work)}
	}
	if errors.Is(err, errNoTime) {
		return r, &Unfinished{Parts: j.finished, Remaining: j.remaining, Err: errNoTime}
	}
	return r, fmt.Errorf("put %q: %w", j.t.Source.Key, err)
}

// lookBack returns how a put that ends with err really ends. What it leaves at the
// destination, or what an earlier delivery left there, must stand in the order.
func (j *job) lookBack(ctx context.Context, err error) error {
	end, ok := errors.AsType[ended](err)
	switch {
	case err == nil:
		return j.recallTags(ctx)
	case !ok || end.outcome == wire.Expired || end == errNewer || end == errYielded:
		return err
	case end.outcome == wire.Skipped:
		if lost := j.stands(ctx); lost != nil {
			return settled(lost)
		}
		if lost := j.recallTags(ctx); lost != nil {
			return lost
		}
	default:
		if way := j.giveWay(ctx); !errors.Is(way, errNewer) {
			return way
		}
	}
	return err
}

// Until returns a context for Puts that stop as before a deadline once stop is
// done: they pull no more, but what was pulled is still stored.
func Until(ctx, stop context.Context) context.Context { return context.WithValue(ctx, stopKey{}, stop) }

type stopKey struct{}

// checkpointed returns a context for pulls: it ends before the deadline of ctx by
// what storing the parts in flight may take, and when Until says so.
func checkpointed(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := beforeDeadline(ctx)
	stop, ok := ctx.Value(stopKey{}).(context.Context)
	if !ok {
		return work, cancel
	}
	release := context.AfterFunc(stop, cancel)
	return work, func() {
		release()
		cancel()
	}
}

func beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	const most, share = 20 * time.Second, 5
	reserve := min(most, time.Until(deadline)/share)
	return context.WithDeadline(ctx, deadline.Add(-reserve))
}
