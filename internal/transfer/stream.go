package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// A part of which the memory budget does not hold two is streamed: its upload reads
// it while it is pulled. It is cut into slabs, each of which is filled like a part,
// in many ranges that are tried again, go on where they stopped and are hedged, and
// is lent again as soon as it was read. So what is ahead of the upload is bounded,
// whatever the part's size.
//
// Its checksum is not known before its last byte, so it follows in a trailer, and
// the destination refuses the part if that does not fit. What a refused or broken
// upload has read is gone, so such a part is pulled again from its start, and so is
// one that was not stored when the time was up. That costs most where parts are
// largest, which is why they are as small as the limit on their number allows.

const (
	// slabs is how many of them the memory budget has room for, at least.
	slabs = 16
	// ahead of spareOf parts of the budget is for slabs; the rest is for second
	// connections of late ranges.
	ahead, spareOf = 7, 8
)

// Once a share of the time for a part has passed, it is given up if at the rate so
// far it would take longer than slack times what is left: to pull it to the bitter
// end would only cost.
const (
	paceShare = 10
	slack     = 1.5
)

// classSlow is the fault class of a part that the link does not bring within the
// time of a delivery: transient, since links have better hours.
const classSlow = "too-slow"

var (
	// errNoTime says that the next part would not be stored in time.
	errNoTime = errors.New("no time is left for another part")
	// errCut ends what is under way for a part whose upload has ended.
	errCut = errors.New("the upload of the part has ended")
)

// streams reports whether p is uploaded while it is pulled.
func (e *Engine) streams(p part) bool { return p.size > e.Memory/2 }

// slabSize returns the bytes of a slab.
func (e *Engine) slabSize() int64 { return max(1, min(e.PartSize, e.Memory/slabs)) }

// startStream starts the upload of p in group and returns when all of its ranges are
// open, so that the next part may be begun; false says that none should be.
func (f *filler) startStream(ctx, pulls context.Context, p part, group *errgroup.Group) bool {
	if f.halt.Load() || pulls.Err() != nil {
		group.Go(func() error { return context.Cause(pulls) })
		return false
	}
	limit, _ := f.limit(pulls)
	if f.rate > 0 && float64(p.size)/f.rate > time.Until(limit).Seconds() {
		f.short = true
		return false
	}
	began := time.Now()
	opened := make(chan struct{})
	open := sync.OnceFunc(func() { close(opened) })
	group.Go(func() error {
		defer open()
		return f.settle(f.stream(ctx, pulls, p, open))
	})
	<-opened
	f.rate = float64(p.size) / time.Since(began).Seconds()
	return true
}

// limit returns when p has to be pulled: by the time for pulls, or before its URL
// expires.
func (f *filler) limit(pulls context.Context) (at time.Time, expires bool) {
	at = time.Now().Add(f.t.NotAfter.Sub(f.Now()))
	if deadline, ok := pulls.Deadline(); ok && deadline.Before(at) {
		return deadline, false
	}
	return at, true
}

// stream stores p. What the destination refuses is pulled again. opened is called
// when all ranges are open.
func (f *filler) stream(ctx, pulls context.Context, p part, opened func()) error {
	for try := 1; ; try++ {
		d, err := f.pipe(ctx, pulls, p, opened)
		digest := errors.Is(err, errDigest)
		switch {
		case err == nil:
			f.note(p, d)
			return nil
		case !digest && fault.Class(err) != classBusy:
			return err
		case try < digestTries && !f.halt.Load():
		case digest:
			// Not errDigest any more: one part is no reason to begin all over.
			return fault.Transientf(classDigest, "part %d: %v", p.number, err)
		default:
			return err
		}
		if err := f.pause(pulls, try, 0); err != nil {
			return err
		}
		f.left.Add(p.size)
	}
}

// pipe pulls p and uploads it at the same time. Where one of the two fails it ends
// the other, and returns when nothing of either is left.
func (f *filler) pipe(ctx, pulls context.Context, p part, opened func()) (donePart, error) {
	pulls, cancel := context.WithCancelCause(pulls)
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	fail := func(err error) {
		cancel(err)
		cut()
	}
	room := f.Memory / spareOf * ahead / f.slabSize()
	b := newBody(p.size, f.upload.crc, f.memory.give, int(room))
	var ends sync.WaitGroup
	defer ends.Wait()
	ends.Go(func() {
		defer close(b.over)
		f.feed(pulls, fail, p, b, opened)
	})
	ends.Go(func() { f.pace(pulls, fail, p, b.over) })

	var d donePart
	err := b.begun() // no request waits for a source that does not answer
	if err == nil {
		err = f.repeat(ctx, func() error {
			var err error
			d, err = f.send(ctx, p, b)
			return err
		}, func(round int) bool { return round < busyRounds && b.intact() })
	}
	if cause := context.Cause(pulls); err != nil && cause != nil {
		err = cause
	}
	cancel(errCut)
	b.end()
	<-b.over
	b.release()
	return d, err
}

// feed opens the ranges of p slab by slab, as memory and connections allow, and
// returns when none is under way any more.
func (f *filler) feed(pulls context.Context, fail func(error), p part, b *body, opened func()) {
	var pulling sync.WaitGroup
	defer pulling.Wait()
	for from := int64(0); from < p.size; from += f.slabSize() {
		if !b.reserve(pulls) {
			return
		}
		buf, err := f.memory.take(pulls, min(f.slabSize(), p.size-from))
		if err != nil {
			return
		}
		s := &slab{buf: buf, pulled: make(chan struct{})}
		b.add(s)
		ranges := f.open(pulls, part{p.number, p.offset + from, int64(len(buf))}, buf)
		pulling.Go(func() {
			if err := ranges.Wait(); err != nil {
				fail(err)
				return
			}
			s.sum = b.crc.sum(buf)
			close(s.pulled)
		})
	}
	opened()
}

// pace gives p up, until nothing of it is pulled any more, when it is too slow.
func (f *filler) pace(pulls context.Context, fail func(error), p part, over <-chan struct{}) {
	limit, _ := f.limit(pulls)
	began, before := time.Now(), f.came.Load()
	ticker := time.NewTicker(max(limit.Sub(began)/paceShare, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-over:
			return
		case <-ticker.C:
		}
		if err := f.late(pulls, p, f.came.Load()-before, time.Since(began)); err != nil {
			fail(err)
			return
		}
	}
}

// late returns how the delivery ends if p, of which so much came so far, would not
// be there in time.
func (f *filler) late(pulls context.Context, p part, came int64, elapsed time.Duration) error {
	limit, expires := f.limit(pulls)
	left := time.Until(limit).Seconds()
	if float64(p.size-came) <= slack*left*float64(came)/elapsed.Seconds() {
		return nil
	}
	why := fmt.Sprintf("part %d of %d bytes: %d came in %s, which does not bring the rest in the %.0f s that are left",
		p.number, p.size, came, elapsed.Round(time.Second), left)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case expires:
		return ended{wire.Expired, why}
	case f.finished > 0:
		return errNoTime
	default:
		return fault.Transientf(classSlow, "%s", why)
	}
}

// send uploads p from b.
func (f *filler) send(ctx context.Context, p part, b *body) (donePart, error) {
	what := fmt.Sprintf("upload part %d of %s", p.number, f.upload.ID)
	out, err := f.S3.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &f.Bucket, Key: &f.key, UploadId: &f.upload.ID, PartNumber: &p.number,
		Body: b.reader(), ContentLength: &p.size,
	}, trailing(b.crc.name, b.checksum))
	if err != nil {
		return donePart{}, judgeError(what, err)
	}
	if sent := b.sent(); sent != p.size {
		return donePart{}, fault.Transientf(classBusy, "%s: answered after %d of %d bytes", what, sent, p.size)
	}
	d := donePart{aws.ToString(out.ETag), b.checksum()}
	// A destination that does not know of trailers says here what it has stored.
	stored := b.crc.listed(types.Part{
		ChecksumCRC64NVME: out.ChecksumCRC64NVME, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C,
	})
	if stored != nil && *stored != d.sum {
		return donePart{}, fmt.Errorf("%s: %w: got %s, expected %s", what, errDigest, *stored, d.sum)
	}
	return d, nil
}
