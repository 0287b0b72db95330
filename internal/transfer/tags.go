package transfer

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// S3 gives changes of tags no place in an order, so they are carried without one:
// a delivery reads the source's tags, sets them, and reads them again until both
// are the same. So whoever is the last to set tags has looked at the source after
// that, and a change after that look has a delivery of its own.
//
// A copy that is made meanwhile brings the tags that the sender saw. So the change
// is noted in the journal before the look at the destination, and whoever has made
// a copy looks for a note afterwards: of the two, at least one finds the other.

// tagRounds bounds how often a delivery sets tags that keep changing.
const tagRounds = 8

// Tag gives the copy of t's version the tags that the version has now, read from
// t.URL. It needs Options.TagChanges. Where there is no copy of just that version
// the outcome is skipped: Put brings tags with it.
//
// redelivered says that an earlier call may have done something. Errors are those
// of Put.
func (e *Engine) Tag(ctx context.Context, t *wire.Transfer, redelivered bool) (Result, error) {
	j, err := e.newJob(t)
	if err != nil {
		return Result{}, err
	}
	r := Result{Outcome: wire.Tagged}
	err = j.tag(ctx, redelivered)
	if end, ok := errors.AsType[ended](err); ok {
		r.Outcome, err = end.outcome, nil
	}
	if err != nil {
		return Result{}, fmt.Errorf("tag %q: %w", t.Source.Key, err)
	}
	r.Again, r.Retag = j.again, j.retag
	return r, nil
}

func (j *job) tag(ctx context.Context, redelivered bool) error {
	if err := j.Journal.NoteTags(ctx, j.Bucket, j.key, &j.t.Source, j.Now()); err != nil {
		return err
	}
	var on *present // what was tagged last, and with what
	var with map[string]string
	for range tagRounds {
		there, err := j.look(ctx)
		switch {
		case err != nil:
			return err
		case there == nil:
			return ended{wire.Skipped, "there is no copy"}
		case there.promised:
			// Which version it is nobody knows, until the one of the record is written once
			// more; with that come its tags, or whoever writes it finds the note.
			j.again = there.source(j)
			return ended{wire.Skipped, "the copy is being made"}
		case there.sourceETag != j.t.Source.ETag || there.version != j.t.Source.VersionID:
			// Where no version can be named, it may have come between look and tags.
			if there.sourceETag != "" && there.destinationVersion == "" && (on != nil || redelivered) {
				j.retag = tagsOf(there.source(j))
			}
			return ended{wire.Skipped, "the destination has another version"}
		}
		tags, err := j.pullTags(ctx)
		if err != nil {
			return err
		}
		if on != nil && *on == *there && maps.Equal(with, tags) {
			return nil
		}
		if err := j.setTags(ctx, there, tags); err != nil {
			return err
		}
		on, with = there, tags
	}
	return fault.Transientf(classBusy, "the tags of %q, or what has them, changed %d times", j.key, tagRounds)
}

// source names the event that brought the object, or is to bring it, as far as the
// destination knows it: the size is for the sender to find out.
func (p *present) source(j *job) *wire.Source {
	return &wire.Source{
		Region: j.t.Source.Region, Bucket: j.t.Source.Bucket, Key: j.t.Source.Key,
		VersionID: p.version, ETag: p.sourceETag, Sequencer: p.sequencer, EventTime: j.Now().UTC(),
	}
}

// tagsOf returns what a change of the tags of s would name.
func tagsOf(s *wire.Source) *wire.Source {
	tags := *s
	tags.Size, tags.Sequencer = 0, ""
	return &tags
}

// recallTags has the tags of a copy that is there carried once more if they have
// changed since the version was made.
func (j *job) recallTags(ctx context.Context) error {
	if !j.TagChanges {
		return nil
	}
	noted, err := j.Journal.TagsNoted(ctx, j.Bucket, j.key, &j.t.Source)
	if noted {
		j.retag = tagsOf(&j.t.Source)
		j.retag.EventTime = j.Now().UTC()
	}
	return err
}

// setTags replaces the tags of the destination's object, of just its version where
// it has one.
func (j *job) setTags(ctx context.Context, on *present, tags map[string]string) error {
	set := make([]types.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		set = append(set, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	err := j.persist(ctx, func() error {
		_, err := j.S3.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{
			Bucket: &j.Bucket, Key: &j.key, VersionId: text(on.destinationVersion), Tagging: &types.Tagging{TagSet: set},
		})
		return judgeError("set tags of the destination's object", err)
	})
	return settled(err) // a conflict: it is gone, and what came instead is for another try
}

// maxTagging is the most bytes of a list of tags: ten of 128 and 256 characters,
// each of up to six bytes with its escapes, and their markup.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
const maxTagging = 64 << 10

// pullTags reads the tags of the source's version.
func (j *job) pullTags(ctx context.Context) (map[string]string, error) {
	if err := j.connections.acquire(ctx, true); err != nil {
		return nil, err
	}
	var tags map[string]string
	err := j.attempts(ctx, "pull tags", 1, func() (int, error) {
		var err error
		tags, err = j.askTags(ctx)
		return 0, err
	})
	return tags, err
}

func (j *job) askTags(ctx context.Context) (map[string]string, error) {
	if !j.Now().Before(j.t.NotAfter) {
		return nil, ended{wire.Expired, "the URL's time is over"}
	}
	watched, dog := watch(ctx, j.StallWindow, 1)
	defer dog.stop()
	resp, err := j.get(watched, http.Header{})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, j.refusal(resp, 0)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTagging))
	if err != nil {
		return nil, lost(watched, fmt.Errorf("read tags: %w", err))
	}
	var answer struct {
		XMLName xml.Name                      `xml:"Tagging"`
		Tags    []struct{ Key, Value string } `xml:"TagSet>Tag"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		return nil, fault.Permanentf(classSourceMismatch, "pull tags: got %d bytes that are no list of tags: %w", len(body), err)
	}
	tags := make(map[string]string, len(answer.Tags))
	for _, t := range answer.Tags {
		tags[t.Key] = t.Value
	}
	return tags, nil
}
