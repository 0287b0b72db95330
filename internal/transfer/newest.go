package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// A condition on an ETag is not enough to keep order. ETags are made of the bytes,
// so an object that was replaced by another and then by its like again has the
// ETag it had, and an absent one has none. So whoever is about to overwrite or
// delete an object announces its event in the journal first, and looks there again
// afterwards. S3 is strongly consistent, so of two that change one key at least
// one finds the other's event: the older one then makes way.
//
// The message is acknowledged after that, so a crash in between repeats it.

// orderOf compares the sequencer of another event with the job's own: negative if
// the other is older.
func (j *job) orderOf(other *journal.Newest) int {
	return wire.CompareSequencers(other.Source.Sequencer, j.t.Source.Sequencer)
}

// announce makes the job's event the newest of its key. Where a newer one is
// there it makes way for that and returns ended.
func (j *job) announce(ctx context.Context) error {
	if j.announced {
		return nil
	}
	held, err := j.Journal.Announce(ctx, journal.Newest{
		Bucket: j.Bucket, Key: j.key, Op: j.t.Op, Source: j.t.Source, At: j.Now().UTC(),
	})
	if err != nil {
		return err
	}
	if j.orderOf(held) > 0 {
		return j.yield(ctx, held)
	}
	j.announced = true
	return nil
}

// peek looks for a newer event, where keys are deleted.
func (j *job) peek(ctx context.Context) (*journal.Newest, error) {
	if !j.Deletes {
		return nil, nil
	}
	return j.newest(ctx)
}

// makeWay returns nil unless held, which may be nil, is of a newer event.
func (j *job) makeWay(ctx context.Context, held *journal.Newest) error {
	if held == nil || j.orderOf(held) <= 0 {
		return nil
	}
	return j.yield(ctx, held)
}

func (j *job) newest(ctx context.Context) (*journal.Newest, error) {
	return j.Journal.Newest(ctx, j.Bucket, j.key)
}

// stands returns nil if the event's object, which was seen at the destination or
// just written, is there to stay; ended if it makes way for a newer event; and
// errConflict if an older one took it away, unaware of it.
func (j *job) stands(ctx context.Context) error {
	held, err := j.newest(ctx)
	if err != nil || held == nil {
		return err
	}
	switch order := j.orderOf(held); {
	case order > 0:
		return j.yield(ctx, held)
	case order == 0:
		return nil
	}
	if err := j.announce(ctx); err != nil {
		return err
	}
	_, err = j.judge(ctx)
	if end, ok := errors.AsType[ended](err); ok && end.outcome == wire.Skipped {
		return nil
	}
	if err == nil {
		return errConflict
	}
	return err
}

// yield makes way for held, a newer event, and returns errYielded. A write of this
// event's, perhaps by an earlier delivery, may have come on top of what held did:
// a deletion is done once more, and an object is asked for again.
func (j *job) yield(ctx context.Context, held *journal.Newest) error {
	for range commitRounds {
		if held.Op == wire.OpPut {
			there, err := j.look(ctx)
			if err != nil {
				return err
			}
			if !there.shows(&held.Source) {
				j.again = &held.Source
			}
			return errYielded
		}
		if _, err := j.remove(ctx, held.Source.Sequencer); err != nil {
			return err
		}
		// That, too, may have come on top of something newer.
		next, err := j.newest(ctx)
		if err != nil {
			return err
		}
		if next == nil || wire.CompareSequencers(next.Source.Sequencer, held.Source.Sequencer) <= 0 {
			return errYielded
		}
		held = next
	}
	return fault.Transientf(classBusy, "make way for newer events of %q: others came %d times", j.key, commitRounds)
}

// giveWay ends the job in favour of a newer event where one was announced: an
// object of this event's, which an earlier delivery left, may still be there. If
// there is none it returns errNewer.
func (j *job) giveWay(ctx context.Context) error {
	held, err := j.newest(ctx)
	if err == nil {
		err = j.makeWay(ctx, held)
	}
	if err != nil {
		return err
	}
	return errNewer
}

// remove deletes the destination's object unless one of a later event than
// sequencer is there; then newer is true.
func (j *job) remove(ctx context.Context, sequencer string) (newer bool, err error) {
	for round := 1; round <= commitRounds; round++ {
		there, err := j.look(ctx)
		if err != nil || there == nil {
			return false, err
		}
		if wire.CompareSequencers(there.sequencer, sequencer) > 0 {
			return true, nil
		}
		in := &s3.DeleteObjectInput{Bucket: &j.Bucket, Key: &j.key}
		if !j.HeadThenWrite {
			in.IfMatch = &there.etag
		}
		err = j.persist(ctx, func() error {
			_, err := j.S3.DeleteObject(ctx, in)
			return judgeError("delete the destination's object", err)
		})
		if !errors.Is(err, errConflict) {
			return false, err
		}
		if err := j.pause(ctx, round, 0); err != nil {
			return false, err
		}
	}
	return false, fault.Transientf(classBusy, "delete the destination's %q: it changed %d times", j.key, commitRounds)
}

// Delete deletes the object of t's key unless a newer event's is there. It needs
// Options.Deletes. A key without an object counts as deleted; a versioned bucket
// keeps the object under a delete marker.
//
// Its errors are those of Put.
func (e *Engine) Delete(ctx context.Context, t *wire.Transfer) (Result, error) {
	j, err := e.newJob(t)
	if err != nil {
		return Result{}, err
	}
	r := Result{Outcome: wire.Deleted}
	err = j.delete(ctx)
	if end, ok := errors.AsType[ended](err); ok {
		r.Outcome, err = end.outcome, nil
	}
	if err != nil {
		return Result{}, fmt.Errorf("delete %q: %w", t.Source.Key, err)
	}
	r.Again = j.again
	return r, nil
}

func (j *job) delete(ctx context.Context) error {
	if err := j.announce(ctx); err != nil {
		return err
	}
	newer, err := j.remove(ctx, j.t.Source.Sequencer)
	if err != nil {
		return err
	}
	// Is it still the newest?
	if err := j.giveWay(ctx); newer || !errors.Is(err, errNewer) {
		return err
	}
	return nil
}
