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

// present is the object at the destination's key.
type present struct {
	etag       string
	sequencer  string // of the event that brought it; empty: it did not come by ferry
	sourceETag string
	version    string // of the source
	// destinationVersion is empty where the bucket keeps one version of a key, which
	// is then another one after each write.
	destinationVersion string
	// promised says that the order record is of a write that this object does not
	// bear out: one that is under way, or failed.
	promised bool
}

// look returns the object at the destination's key, or nil if there is none.
func (j *job) look(ctx context.Context) (*present, error) {
	out, err := j.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &j.Bucket, Key: &j.key})
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, judgeError("look for the destination's object", err)
	}
	there := &present{etag: aws.ToString(out.ETag)}
	if version := aws.ToString(out.VersionId); version != "null" {
		there.destinationVersion = version
	}
	if sequencer, ok := out.Metadata[MetaSequencer]; ok {
		there.sequencer, there.sourceETag, there.version = sequencer, out.Metadata[MetaSourceETag], out.Metadata[MetaSourceVersion]
		return there, nil
	}
	record, err := j.Journal.Order(ctx, j.Bucket, j.key)
	if err != nil || record == nil {
		return there, err
	}
	there.sequencer, there.sourceETag, there.version = record.Sequencer, record.ETag, record.VersionID
	there.promised = record.Written != there.etag
	return there, nil
}

// shows reports whether the object is that of s, or of a later event.
func (p *present) shows(s *wire.Source) bool {
	return p != nil && !p.promised && (wire.CompareSequencers(p.sequencer, s.Sequencer) >= 0 || p.isVersion(s))
}

// isVersion reports whether the object is a copy of the version that s names. The
// version "null" may be another object by now.
func (p *present) isVersion(s *wire.Source) bool {
	return !p.promised && p.sourceETag == s.ETag && p.version == s.VersionID && p.version != "" && p.version != "null"
}

// judge looks at the destination's key and returns the condition under which it
// may be written, or ended if this event's object, the version it names or a newer
// event's object is there already. An object that did not come by ferry is older
// than any event.
func (j *job) judge(ctx context.Context) (condition, error) {
	there, err := j.look(ctx)
	if err != nil || there == nil {
		return condition{}, err
	}
	c := condition{etag: there.etag}
	switch order := wire.CompareSequencers(there.sequencer, j.t.Source.Sequencer); {
	case order > 0 && there.promised:
		return c, j.giveWay(ctx)
	case order > 0:
		return c, errNewer
	case order == 0 && there.promised: // it may be this event's all the same
		if err := j.giveWay(ctx); !errors.Is(err, errNewer) {
			return c, err
		}
		return c, nil
	case order == 0:
		return c, ended{wire.Skipped, "the destination has this event's object"}
	case !there.isVersion(&j.t.Source):
		return c, nil
	case j.announced:
		return c, ended{wire.Skipped, "the destination has this version"}
	}
	// It came with an older event. It may stay if what lies between the two knows of
	// this one, so that is announced before the look that counts.
	if err := j.announce(ctx); err != nil {
		return c, err
	}
	return j.judge(ctx)
}

// How a transfer ends in favour of a newer event.
var (
	errNewer   = ended{wire.Superseded, "the destination has a newer event's object"}
	errYielded = ended{wire.Superseded, "a newer event of the key has arrived"}
)

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
		if err = j.place(ctx, c, write); !errors.Is(err, errConflict) {
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

// place is one round of commit. A write to a key without an object is announced
// only where others are: nothing else can take it for what was there before.
func (j *job) place(ctx context.Context, c condition, write func(condition) (string, error)) error {
	if j.HeadThenWrite {
		var err error
		if c, err = j.judge(ctx); err != nil {
			return err
		}
	}
	if c.etag != "" {
		if err := j.announce(ctx); err != nil {
			return err
		}
	}
	c.none = j.HeadThenWrite
	etag, err := write(c)
	if err != nil {
		return err
	}
	j.confirm(ctx, etag)
	if !j.announced && !j.Deletes {
		return nil
	}
	return j.stands(ctx)
}

// advance puts the order into the journal where the object has no room for it.
func (j *job) advance(ctx context.Context) error {
	if !j.overflow || j.order != nil {
		return nil
	}
	s := &j.t.Source
	record, err := j.Journal.Advance(ctx, journal.Order{
		Bucket: j.Bucket, Key: j.key, Sequencer: s.Sequencer, SourceBucket: s.Bucket, ETag: s.ETag, VersionID: s.VersionID,
	})
	if err != nil {
		return err
	}
	if wire.CompareSequencers(record.Sequencer, s.Sequencer) > 0 {
		return j.giveWay(ctx)
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
