package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// An object in segments has one upload and one journal entry, and each segment is
// a run of its parts that any worker may bring. The entry names the signing whose
// segments are under way: a delivery of the whole writes its own there, then
// looks for what is missing, and shares that out. So whoever came last has shared
// out everything, and segments of another signing are nobody's loss.
//
// Whoever stores a part looks afterwards whether all are there, so the last one
// sees that they are, and completes. Where work ends early, the worker that gets
// its Stop into the entry tells, as often as its message is delivered; the others
// are silent. The entry goes only after that was told: a segment without an entry
// has nothing to tell.

// errShared is the error of a delivery that ends without an outcome, since others
// have what is left to do.
var errShared = errors.New("others carry it on")

// whyAgain is why work on segments has stopped where it is not an outcome of
// package wire: another upload has to be begun.
const whyAgain = "again"

// lostTries is how many uploads of one signing may vanish. A worker killed just
// after it has completed one of an object without room for our metadata costs one.
const lostTries = 6

// classHopeless is the fault class of an object whose uploads were refused for the
// checksum of the whole uploadTries times, or have vanished lostTries times:
// permanent.
const classHopeless = "upload-hopeless"

// PutSegment brings segment n of the object that Put has cut, and completes the
// object if nothing of it is missing then. Otherwise it is like Put.
func (e *Engine) PutSegment(ctx context.Context, t *wire.Transfer, n int) (Result, error) {
	j, err := e.newJob(t)
	if err != nil {
		return Result{}, err
	}
	work, cancel := checkpointed(ctx)
	defer cancel()
	verified, err := j.segment(ctx, work, n)
	return j.result(ctx, work, verified, err)
}

// segment carries one segment and ends the transfer where that falls to it.
func (j *job) segment(ctx, work context.Context, n int) (wire.Verified, error) {
	held, err := j.Journal.Upload(ctx, j.t.ID, j.Bucket, j.key)
	switch {
	case err != nil:
		return "", err
	case held == nil:
		return "", j.orphan(ctx)
	case held.Segments == nil || held.Segments.Signing != signing(j.t):
		return "", errShared
	case held.Segments.Stop != nil:
		return "", j.tell(ctx, held, n)
	}
	u, err := j.adopt(held)
	if err != nil {
		return "", j.end(ctx, &upload{Upload: held}, n, err)
	}
	run := u.segment(n)
	if run == nil {
		return "", errShared
	}
	c, err := j.judge(ctx)
	if err == nil {
		err = j.bring(ctx, work, u, run)
	}
	var verified wire.Verified
	if err == nil {
		verified, err = j.complete(ctx, u, c)
	}
	if errors.Is(err, errUploadLost) {
		// Perhaps another worker has completed it.
		if _, judged := j.judge(ctx); judged != nil {
			err = judged
		}
	}
	return verified, j.end(ctx, u, n, err)
}

// bring stores the parts of run. It returns errShared while others are missing.
func (j *job) bring(ctx, work context.Context, u *upload, run []part) error {
	if err := j.list(ctx, u, run); err != nil {
		return err
	}
	if err := j.fill(ctx, work, u, run); err != nil {
		return err
	}
	if err := j.list(ctx, u, u.parts); err != nil {
		return err
	}
	if len(u.missing(u.parts)) > 0 {
		return errShared
	}
	return nil
}

// share looks for segments that miss parts, and leaves them to others: it
// returns errShared unless there is none.
func (j *job) share(ctx context.Context, u *upload) error {
	if err := j.list(ctx, u, u.parts); err != nil {
		return err
	}
	for n := 0; u.segment(n) != nil; n++ {
		if len(u.missing(u.segment(n))) > 0 {
			j.segments = append(j.segments, n)
		}
	}
	if j.segments != nil {
		return errShared
	}
	return nil
}

// end is what becomes of segment n of u and its transfer after err.
func (j *job) end(ctx context.Context, u *upload, n int, err error) error {
	end, isEnd := errors.AsType[ended](err)
	stop := journal.Stop{By: n}
	switch {
	case err == nil:
		j.forgetOnceTold(u.Upload)
		return nil
	case isEnd && end.outcome == wire.Skipped:
		// A message that came late may have begun u after all was done.
		return j.drop(ctx, u.Upload, err)
	case isEnd:
		stop.Why = string(end.outcome)
	case errors.Is(err, errDigest) && u.Segments.Begun < uploadTries, errors.Is(err, errUploadLost) && u.Segments.Begun < lostTries:
		stop.Why = whyAgain
	case errors.Is(err, errDigest), errors.Is(err, errUploadLost):
		err = fault.Permanent(classHopeless, err)
	case !fault.IsPermanent(err):
		return err
	}
	if stop.Why == "" {
		stop.Why, stop.Class, stop.Reason = string(wire.Failed), fault.Class(err), err.Error()
	}
	marked := *u.Upload
	segments := *u.Segments
	segments.Stop, marked.Segments = &stop, &segments
	held, amendErr := j.Journal.Amend(ctx, marked)
	switch {
	case amendErr != nil:
		return fmt.Errorf("end the transfer (%s): %w", err.Error(), amendErr) // not err itself: it is not told yet
	case held == nil || held.ID != u.ID || held.Segments == nil || held.Segments.Stop == nil:
		return errShared // another has told or begun again
	default:
		return j.tell(ctx, held, n)
	}
}

// tell returns what the worker on segment n has to say of a transfer that has
// stopped.
func (j *job) tell(ctx context.Context, held *journal.Upload, n int) error {
	stop := held.Segments.Stop
	if stop.By != n {
		return errShared
	}
	if stop.Why == string(wire.Expired) {
		return ended{wire.Expired, "the URL's time is over"}
	}
	switch stop.Why {
	case whyAgain:
		if err := j.abort(ctx, held); err != nil {
			return err
		}
		j.segments = []int{Whole}
		return errShared
	case string(wire.Failed):
		return j.drop(ctx, held, fault.Recalled(stop.Class, stop.Reason))
	default:
		return j.drop(ctx, held, ended{wire.Outcome(stop.Why), "found by a segment"})
	}
}

// entryLife is for how long past its URL's life a transfer's entry is there at
// least: the bucket's lifecycle rule takes it 30 days after it was written, which
// is after the URL was signed, for at most 7 days.
const entryLife = 23 * 24 * time.Hour

// orphan is a segment whose transfer has no entry: it has ended and was told of,
// unless the lifecycle rule has removed the entry.
func (j *job) orphan(ctx context.Context) error {
	if j.Now().Before(j.t.NotAfter.Add(entryLife)) {
		return errShared
	}
	if _, err := j.judge(ctx); err != nil {
		return err
	}
	return ended{wire.Expired, "the URL's time is over"}
}

// divide returns how an upload with parts of that size is cut, nil where it is
// not. It replaces old, if there is one.
func (j *job) divide(partSize int64, old *journal.Upload) *journal.Segments {
	if j.t.Source.Size <= j.SegmentSize {
		return nil
	}
	s := &journal.Segments{Parts: int(max(1, j.SegmentSize/partSize)), Signing: signing(j.t), Begun: 1}
	if old != nil && old.Segments != nil && old.Segments.Signing == s.Signing {
		s.Begun += old.Segments.Begun
	}
	return s
}

// takeOver makes held, an upload in segments, the one of this signing. One that
// has ended is begun again.
func (j *job) takeOver(ctx context.Context, held *journal.Upload) (*upload, error) {
	stop := held.Segments.Stop
	if stop != nil && stop.Why != string(wire.Expired) {
		if err := j.abort(ctx, held); err != nil {
			return nil, err
		}
		return j.begin(ctx, held)
	}
	ours := *held
	if name := signing(j.t); stop != nil || held.Segments.Signing != name {
		ours.Segments = &journal.Segments{Parts: held.Segments.Parts, Signing: name}
		now, err := j.Journal.Amend(ctx, ours)
		if err != nil {
			return nil, err
		}
		if now == nil || now.Segments == nil || now.Segments.Signing != name || now.Segments.Stop != nil {
			return nil, fault.Transientf(classBusy, "take over upload %s: another worker has changed its entry", held.ID)
		}
		held = now
	}
	return j.adopt(held)
}

// segment returns the parts of segment n, nil if there is no such.
func (u *upload) segment(n int) []part {
	size := u.Segments.Parts
	if n < 0 || n >= (len(u.parts)+size-1)/size {
		return nil
	}
	return u.parts[n*size : min(len(u.parts), (n+1)*size)]
}

// signing names what was signed at one time of a transfer: each has its own URL.
func signing(t *wire.Transfer) string {
	const letters = 16
	var signature string
	if u, err := url.Parse(t.URL.Reveal()); err == nil {
		signature = u.Query().Get("X-Amz-Signature")
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s", t.NotAfter.UTC().Format(time.RFC3339Nano), signature))
	return hex.EncodeToString(sum[:])[:letters]
}
