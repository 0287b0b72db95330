package transfer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// uploadTries is how many multipart uploads one call may work on: the one it
// found, and one more where that turned out to be lost or corrupt.
const uploadTries = 2

// large carries an object of several parts, and leaves nothing behind that the
// transfer's next delivery could not use.
func (j *job) large(ctx, work context.Context) (wire.Verified, error) {
	c, err := j.judge(ctx)
	if err != nil {
		j.tidyEarlier(ctx, err)
		return "", err
	}
	u, err := j.open(ctx)
	if err != nil {
		return "", err
	}
	for try := 1; ; try++ {
		var verified wire.Verified
		if err = j.fill(ctx, work, u); err == nil {
			verified, err = j.complete(ctx, u, c)
		}
		switch {
		case errors.Is(err, errUploadLost) && try < uploadTries:
			// Perhaps another worker on this transfer has completed it.
			if c, err = j.judge(ctx); err == nil {
				u, err = j.reopen(ctx, u)
			}
		case errors.Is(err, errDigest) && try < uploadTries:
			j.leave(j.abort(ctx, u))
			u, err = j.reopen(ctx, u)
		default:
			j.tidy(ctx, u, err)
			return verified, settled(err)
		}
		if err != nil {
			j.tidy(ctx, u, err)
			return "", err
		}
	}
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
	case errors.Is(err, errUploadLost):
		return fault.Transient(classBusy, err)
	default:
		return err
	}
}

// fill brings every part of u that is missing.
func (j *job) fill(ctx, work context.Context, u *upload) error {
	if err := j.list(ctx, u); err != nil {
		return err
	}
	j.remaining = len(u.parts) - len(u.done)

	pulls, stop := context.WithCancelCause(work)
	defer stop(nil)
	var halt atomic.Pointer[error] // why no further part is begun
	var mu sync.Mutex
	var g errgroup.Group // without its context: parts that were pulled are stored whatever befalls the others
	g.SetLimit(j.Connections)
	for _, p := range u.missing() {
		g.Go(func() error {
			if err := halt.Load(); err != nil {
				return *err
			}
			d, err := j.bring(ctx, pulls, u, p)
			if isFinal(err) {
				stop(err)
				return err
			}
			if err != nil {
				// What runs may end: its bytes will be needed, and a download
				// outlives its URL.
				halt.CompareAndSwap(nil, &err)
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			u.done[p.number] = d
			j.finished++
			j.remaining--
			return nil
		})
	}
	return g.Wait()
}

// bring pulls one part and stores it. pulls ends before ctx does.
func (j *job) bring(ctx, pulls context.Context, u *upload, p part) (donePart, error) {
	buf, err := j.memory.take(pulls, p.size)
	if err != nil {
		return donePart{}, err
	}
	defer j.memory.give(buf)
	for range digestTries {
		if err := j.pull(pulls, p.offset, buf); err != nil {
			return donePart{}, err
		}
		var d donePart
		if d, err = j.store(ctx, u, p, buf); !errors.Is(err, errDigest) {
			return d, err
		}
	}
	// Not errDigest any more: one part is no reason to begin all over.
	return donePart{}, fault.Transientf(classDigest, "part %d: %v", p.number, err)
}

// tidy ends the upload of a transfer that has ended with err. One that goes on
// another time keeps it, as does one whose URL has to be signed again.
func (j *job) tidy(ctx context.Context, u *upload, err error) {
	switch {
	case err == nil:
	case isFinal(err):
		j.leave(j.abort(ctx, u))
	default:
		return
	}
	j.leave(j.Journal.Forget(ctx, j.t.ID))
}

// tidyEarlier ends what an earlier message of the transfer may have begun, where
// this one found the matter settled.
func (j *job) tidyEarlier(ctx context.Context, err error) {
	end, ok := errors.AsType[ended](err)
	if !ok {
		return
	}
	if end.outcome == wire.Superseded {
		held, err := j.Journal.Upload(ctx, j.t.ID, j.Bucket, j.key)
		j.leave(err)
		if held == nil {
			return
		}
		j.leave(j.abort(ctx, &upload{Upload: held}))
	}
	j.leave(j.Journal.Forget(ctx, j.t.ID))
}
