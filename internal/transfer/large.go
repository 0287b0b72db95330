package transfer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// uploadTries is how many multipart uploads one call may work on: the one it
// found, and one more where that turned out to be lost or corrupt.
const uploadTries = 2

// large carries an object of several parts, and leaves nothing behind that the
// transfer's next delivery could not use.
func (j *job) large(ctx, work context.Context) (wire.Verified, error) {
	c, err := j.judge(ctx)
	var held *journal.Newest
	if err == nil {
		held, err = j.peek(ctx)
	}
	if err == nil {
		err = j.makeWay(ctx, held)
	}
	if err != nil {
		return "", j.tidyEarlier(ctx, err)
	}
	if !j.Now().Before(j.t.NotAfter) {
		return "", ended{wire.Expired, "the URL's time is over"}
	}
	u, err := j.open(ctx)
	if err != nil {
		return "", err
	}
	for try := 1; ; try++ {
		var verified wire.Verified
		if err = j.work(ctx, work, u); err == nil {
			verified, err = j.complete(ctx, u, c)
		}
		switch {
		case errors.Is(err, errUploadLost) && try < uploadTries:
			// Perhaps another worker on this transfer has completed it.
			if c, err = j.judge(ctx); err == nil {
				u, err = j.reopen(ctx, u)
			}
		case errors.Is(err, errDigest) && try < uploadTries:
			j.doubtful = j.abort(ctx, u.Upload) != nil
			u, err = j.reopen(ctx, u)
		default:
			return verified, settled(j.tidy(ctx, u, err))
		}
		if err != nil {
			return "", j.tidy(ctx, u, err)
		}
	}
}

// work has brought all that u misses once it returns nil.
func (j *job) work(ctx, work context.Context, u *upload) error {
	if err := j.sweep(ctx); err != nil {
		return err
	}
	if u.Segments != nil {
		return j.share(ctx, u)
	}
	if err := j.list(ctx, u, u.parts); err != nil {
		return err
	}
	return j.fill(ctx, work, u, u.parts)
}

// isFinal reports whether err ends the transfer, so that nothing that was
// brought will be needed.
func isFinal(err error) bool {
	end, ok := errors.AsType[ended](err)
	return ok && end.outcome != wire.Expired || fault.IsPermanent(err)
}

// settled classifies what is left of the errors that the engine mends itself.
func settled(err error) error {
	switch {
	case errors.Is(err, errDigest):
		return fault.Transient(classDigest, err)
	case errors.Is(err, errUploadLost), errors.Is(err, errConflict):
		return fault.Transient(classBusy, err)
	default:
		return err
	}
}

// fill brings what u misses of parts, a run of its own.
func (j *job) fill(ctx, work context.Context, u *upload, parts []part) error {
	missing := u.missing(parts)
	j.remaining = len(missing)
	pulls, stop := context.WithCancelCause(work)
	defer stop(nil)
	f := &filler{job: j, upload: u, stop: stop, running: map[*hedged]struct{}{}}
	for _, p := range missing {
		f.left.Add(p.size)
	}
	draining, drained := context.WithCancel(pulls)
	var hedges sync.WaitGroup
	hedge := sync.OnceFunc(func() { hedges.Go(func() { f.hedgeAll(draining) }) })
	var group errgroup.Group // without its context: parts that were pulled are stored whatever befalls the others
	for _, p := range missing {
		if f.streams(p) {
			hedge() // a late range holds up all that come after it
			if !f.startStream(ctx, pulls, p, &group) {
				break
			}
			continue
		}
		buf, err := j.memory.take(pulls, p.size)
		if err != nil {
			group.Go(func() error { return err })
			break
		}
		if f.halt.Load() {
			j.memory.give(buf)
			break
		}
		ranges := f.open(pulls, p, buf)
		group.Go(func() error {
			defer j.memory.give(buf)
			if err := ranges.Wait(); err != nil {
				return err
			}
			return f.settle(f.bring(ctx, pulls, p, buf))
		})
	}
	hedge() // the last ranges decide when it ends
	err := group.Wait()
	drained()
	hedges.Wait()
	if err == nil && f.short {
		return errNoTime
	}
	return err
}

// filler is one pass over the missing parts of an upload. Ranges are handed out
// in the order of the object, so that few parts are open at once however many
// connections there are, and buffers become free early.
type filler struct {
	*job
	upload *upload
	stop   context.CancelCauseFunc // ends all pulls
	halt   atomic.Bool             // no further part is begun
	short  bool                    // of time: parts were left for another delivery
	rate   float64                 // bytes a second of the last streamed part; 0 until there was one
	came   atomic.Int64            // bytes that were pulled
	left   atomic.Int64            // bytes that no range was opened for

	mu      sync.Mutex // guards upload.done, finished and remaining too
	running map[*hedged]struct{}
}

// open starts ranges that fill buf with p, each as soon as it gets a connection,
// and returns what waits for them.
func (f *filler) open(pulls context.Context, p part, buf []byte) *errgroup.Group {
	var ranges errgroup.Group
	for from := int64(0); from < p.size; {
		if err := f.connections.acquire(pulls, false); err != nil {
			ranges.Go(func() error { return err })
			break
		}
		size := f.rangeSize(p.size-from, f.left.Load())
		offset, into := p.offset+from, buf[from:from+size]
		ranges.Go(func() error { return f.settle(f.pullHedged(pulls, offset, into)) })
		from += size
		f.left.Add(-size)
	}
	return &ranges
}

// settle ends all pulls if err is final. Otherwise only no further part is
// begun: what runs may end, since its bytes will be needed, and a download
// outlives its URL.
func (f *filler) settle(err error) error {
	switch {
	case err == nil, errors.Is(err, errCut):
	case isFinal(err):
		f.stop(err)
	default:
		f.halt.Store(true)
	}
	return err
}

// bring stores the part that buf holds. Bytes that the destination refuses are
// pulled again. pulls ends before ctx does.
func (f *filler) bring(ctx, pulls context.Context, p part, buf []byte) error {
	for try := 1; ; try++ {
		d, err := f.store(ctx, f.upload, p, buf)
		switch {
		case err == nil:
			f.note(p, d)
			return nil
		case !errors.Is(err, errDigest):
			return err
		case try == digestTries:
			// Not errDigest any more: one part is no reason to begin all over.
			return fault.Transientf(classDigest, "part %d: %v", p.number, err)
		}
		if err := f.pull(pulls, p.offset, buf); err != nil {
			return err
		}
	}
}

func (f *filler) note(p part, d donePart) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.upload.done[p.number] = d
	f.finished++
	f.remaining--
}

// tidy ends the upload of a transfer that has ended with err, which it returns, or
// why that has to be tried again. One that goes on another time keeps its upload,
// as does one whose URL has to be signed again.
func (j *job) tidy(ctx context.Context, u *upload, err error) error {
	switch {
	case err == nil:
		j.forgetOnceTold(u.Upload)
		return nil
	case isFinal(err):
		return j.drop(ctx, u.Upload, err)
	default:
		return err
	}
}

// tidyEarlier ends what an earlier message of the transfer may have begun, where
// this one found the matter settled by err, which it returns like tidy.
func (j *job) tidyEarlier(ctx context.Context, err error) error {
	if _, ok := errors.AsType[ended](err); !ok {
		return err
	}
	held, readErr := j.Journal.Upload(ctx, j.t.ID, j.Bucket, j.key)
	switch {
	case fault.IsPermanent(readErr):
		j.leave(readErr)
		return err
	case readErr != nil:
		return readErr
	case held != nil:
		err = j.drop(ctx, held, err)
	}
	if sweepErr := j.sweep(ctx); sweepErr != nil {
		return sweepErr
	}
	return err
}

// drop aborts u and lets the journal forget it once err is told. It returns err,
// or why that has to be tried again; what no other try could do is left.
func (j *job) drop(ctx context.Context, u *journal.Upload, err error) error {
	if abortErr := j.abort(ctx, u); fault.IsPermanent(abortErr) {
		j.leave(abortErr)
	} else if abortErr != nil {
		return abortErr
	}
	j.forgetOnceTold(u)
	return err
}

// forgetOnceTold keeps the entry of u until the outcome is told: that it is gone
// says to all others that they need not.
func (j *job) forgetOnceTold(u *journal.Upload) {
	j.told = func(ctx context.Context) error { return j.Journal.Forget(ctx, u) }
}
