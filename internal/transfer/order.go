package transfer

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// condition is what must hold of the destination's key for a write to be right.
type condition struct {
	etag string // of the object that is overwritten; empty: there is none
	none bool   // no condition at all
}

func (c condition) headers() (ifMatch, ifNoneMatch *string) {
	switch {
	case c.none:
		return nil, nil
	case c.etag == "":
		return nil, aws.String("*")
	default:
		return aws.String(c.etag), nil
	}
}

// judge looks at the destination's key and returns the condition under which it
// may be written, or ended if this event or a newer one is there already. An
// object that did not come by ferry is older than any event.
func (j *job) judge(ctx context.Context) (condition, error) {
	out, err := j.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &j.Bucket, Key: &j.key})
	if notFound(err) {
		return condition{}, nil
	}
	if err != nil {
		return condition{}, judgeError("look for the destination's object", err)
	}
	etag := aws.ToString(out.ETag)
	if sequencer, ok := out.Metadata[MetaSequencer]; ok {
		if err := j.compare(sequencer); err != nil {
			return condition{}, err
		}
		return condition{etag: etag}, nil
	}
	record, err := j.Journal.Order(ctx, j.Bucket, j.key)
	if err != nil {
		return condition{}, err
	}
	if record != nil {
		// An equal record that no object bears out is of a write that failed.
		err := j.compare(record.Sequencer)
		if end, ok := errors.AsType[ended](err); ok && (end.outcome == wire.Superseded || record.Written == etag) {
			return condition{}, err
		}
	}
	return condition{etag: etag}, nil
}

// compare returns ended unless what is there is older than the job's event.
func (j *job) compare(there string) error {
	switch order := wire.CompareSequencers(there, j.t.Source.Sequencer); {
	case order > 0:
		return ended{wire.Superseded, "the destination has a newer event's object"}
	case order == 0:
		return ended{wire.Skipped, "the destination has this event's object"}
	default:
		return nil
	}
}

// commitRounds bounds how often a lost race for a key is judged again.
const commitRounds = 8

// commit calls write, which returns the new object's ETag, under c. Where the
// key changed in between it judges again; nothing is pulled again for that.
func (j *job) commit(ctx context.Context, c condition, write func(condition) (string, error)) error {
	if err := j.advance(ctx); err != nil {
		return err
	}
	var err error
	for round := 1; round <= commitRounds; round++ {
		if j.HeadThenWrite {
			if _, err := j.judge(ctx); err != nil {
				return err
			}
			c = condition{none: true}
		}
		var etag string
		if etag, err = write(c); err == nil {
			j.confirm(ctx, etag)
			return nil
		}
		if !errors.Is(err, errConflict) {
			return err
		}
		if j.pause(ctx, round, 0) != nil {
			break
		}
		var judged error
		if c, judged = j.judge(ctx); judged != nil {
			return judged
		}
	}
	return fault.Transient(classBusy, err)
}

// advance puts the order into the journal where the object has no room for it.
func (j *job) advance(ctx context.Context) error {
	if !j.overflow || j.order != nil {
		return nil
	}
	s := &j.t.Source
	record, err := j.Journal.Advance(ctx, journal.Order{
		Bucket: j.Bucket, Key: j.key, Sequencer: s.Sequencer, ETag: s.ETag, VersionID: s.VersionID,
	})
	if err != nil {
		return err
	}
	if wire.CompareSequencers(record.Sequencer, s.Sequencer) > 0 {
		return j.compare(record.Sequencer)
	}
	j.order = record
	return nil
}

// confirm lets the next delivery see that the object of the order record is
// there. Without it that delivery would only write it once more.
func (j *job) confirm(ctx context.Context, etag string) {
	if j.order != nil {
		j.leave(j.Journal.Confirm(ctx, j.order, etag))
	}
}
