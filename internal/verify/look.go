package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/backfill"
	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// What may differ of an object that both sides have.
const (
	bySize     = "size"
	byVersion  = "version"    // it came from another version of the source's object
	byChecksum = "checksum"   // other bytes
	unrecorded = "unrecorded" // it did not come by ferry, and nothing shows that it is the same
	byTags     = "tags"
)

// State is an object as one side has it.
type State struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	ETag     string    `json:"etag"`
	Version  string    `json:"version,omitempty"`
	Modified time.Time `json:"modified"`

	// What the destination recorded of the object's source.
	SourceBucket  string `json:"sourceBucket,omitempty"`
	SourceETag    string `json:"sourceEtag,omitempty"`
	SourceVersion string `json:"sourceVersion,omitempty"`
	Sequencer     string `json:"sequencer,omitempty"`

	checksums map[types.ChecksumAlgorithm]string // of the whole object
	tags      int32                              // how many
}

// verdict is what a look at both sides showed.
type verdict struct {
	equal, proved bool
	elsewhere     bool // of the equal: the destination's object is another source bucket's
	kind          Kind
	reason        string

	source, destination *State
	after               string // the sequencer that a repair must come after
}

// look judges key by what both sides say of it now.
func (r *run) look(ctx context.Context, key string) (verdict, error) {
	v, err := r.lookAtObjects(ctx, key)
	if err != nil || !r.Tags || !v.equal || v.source == nil {
		return v, err
	}
	same, err := r.sameTags(ctx, v.source, v.destination)
	if err != nil {
		return refused(err)
	}
	if !same {
		v.equal, v.proved, v.kind, v.reason = false, false, Stale, byTags
	}
	return v, nil
}

// sameTags compares the tags of two objects, which it reads only where both sides
// have as many.
func (r *run) sameTags(ctx context.Context, source, destination *State) (bool, error) {
	if source.tags == 0 || source.tags != destination.tags {
		return source.tags == destination.tags, nil
	}
	ours, err := tagsOf(ctx, r.Source, source.Key)
	if err != nil {
		return false, err
	}
	theirs, err := tagsOf(ctx, r.Destination, destination.Key)
	return maps.Equal(ours, theirs), err
}

// tagsOf returns the tags of the current object under key, none where it has gone
// since it was looked at.
func tagsOf(ctx context.Context, bucket Bucket, key string) (map[string]string, error) {
	out, err := bucket.S3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &bucket.Name, Key: &key})
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok && response.HTTPStatusCode() == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get tags of %q in %s: %w", key, bucket.Name, err)
	}
	tags := make(map[string]string, len(out.TagSet))
	for _, tag := range out.TagSet {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return tags, nil
}

// lookAtObjects asks the destination first: whatever of the source's is there, the
// source then has that or newer, which is what makes a repair's place right.
func (r *run) lookAtObjects(ctx context.Context, key string) (verdict, error) {
	there := r.place(key)
	var v verdict
	destination, err := head(ctx, r.Destination, there)
	if err != nil {
		return refused(err)
	}
	if destination != nil {
		v.after = destination.Sequencer
	}
	if v.after == "" {
		if v.after, err = r.recall(ctx, there, destination); err != nil {
			return verdict{}, err
		}
	}
	source, err := head(ctx, r.Source, key)
	if err != nil {
		return refused(err)
	}
	v.source, v.destination = source, destination
	v.judge(r.Source.Name)
	if v.equal {
		return v, nil
	}
	// A repair must also come after the newest event that set out to change the key,
	// a deletion say, and the source is asked after that, too.
	newest, err := r.Journal.Newest(ctx, r.Destination.Name, there)
	if err != nil || newest == nil {
		return v, err
	}
	if wire.CompareSequencers(newest.Source.Sequencer, v.after) > 0 {
		v.after = newest.Source.Sequencer
	}
	if v.source, err = head(ctx, r.Source, key); err != nil {
		return refused(err)
	}
	v.equal, v.proved, v.kind, v.reason = false, false, "", ""
	v.judge(r.Source.Name)
	return v, nil
}

// refused is the verdict on an object that S3 will not show, whoever asks again.
// Any other error of S3 stays one.
func refused(err error) (verdict, error) {
	response, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || response.HTTPStatusCode() != http.StatusBadRequest && response.HTTPStatusCode() != http.StatusForbidden {
		return verdict{}, err
	}
	return verdict{kind: Unknown, reason: err.Error()}, nil
}

// recall reads the order record of a key, where there is one, and returns its
// sequencer. It fills in what state has no room for.
func (r *run) recall(ctx context.Context, key string, state *State) (string, error) {
	record, err := r.Journal.Order(ctx, r.Destination.Name, key)
	if err != nil || record == nil {
		return "", err
	}
	if state != nil && strings.Trim(record.Written, `"`) == state.ETag {
		state.SourceBucket, state.SourceETag, state.SourceVersion, state.Sequencer = record.SourceBucket, record.ETag, record.VersionID, record.Sequencer
	}
	return record.Sequencer, nil
}

// judge compares what both sides have, of the source bucket given.
func (v *verdict) judge(bucket string) {
	a, b := v.source, v.destination
	switch {
	case a == nil && b == nil: // both have lost it since they were listed
		v.equal = true
		return
	case a == nil && b.SourceBucket != "" && b.SourceBucket != bucket:
		v.equal, v.elsewhere = true, true
		return
	case a == nil:
		v.kind = Extra
		return
	case b == nil:
		v.kind = Missing
		return
	}
	agree, both := sameChecksum(a, b)
	v.kind = Stale
	switch {
	case a.Size != b.Size:
		v.reason = bySize
	case b.SourceETag == "" && !agree && a.ETag != b.ETag:
		v.reason = unrecorded
	case b.SourceETag != "" && a.ETag != b.SourceETag,
		b.SourceVersion != "" && a.Version != b.SourceVersion:
		v.reason = byVersion
	case both && !agree:
		v.reason = byChecksum
	default:
		v.equal, v.proved, v.kind = true, agree, ""
	}
}

// repair returns the event that brings the source's object to the destination.
// It comes after whatever is there, and before whatever S3 tells of next.
func (v *verdict) repair(region, bucket, key string) wire.Source {
	source := backfill.Source(region, bucket, listing.Object{
		Key: key, ETag: v.source.ETag, Size: v.source.Size, Modified: v.source.Modified,
	}, v.after)
	if d := v.destination; d == nil || d.SourceVersion != v.source.Version || d.SourceETag != v.source.ETag {
		// Else the receiver would take it for what it has.
		source.VersionID = v.source.Version
	}
	return source
}

// removal returns the event that deletes what only the destination has.
func (v *verdict) removal(region, bucket, key string) wire.Source {
	now := time.Now()
	return wire.Source{Region: region, Bucket: bucket, Key: key, Sequencer: backfill.Place(v.after, now), EventTime: now.UTC()}
}

// retagging returns the event that has the tags of the source's object carried.
func (v *verdict) retagging(region, bucket, key string) wire.Source {
	return wire.Source{Region: region, Bucket: bucket, Key: key, VersionID: v.source.Version, ETag: v.source.ETag, EventTime: time.Now().UTC()}
}

// sameChecksum compares the checksums of the whole object that both have.
func sameChecksum(a, b *State) (agree, both bool) {
	for algorithm, sum := range a.checksums {
		if other, ok := b.checksums[algorithm]; ok {
			return sum == other, true
		}
	}
	return false, false
}

// head returns the current object under key, or nil if there is none.
func head(ctx context.Context, bucket Bucket, key string) (*State, error) {
	out, err := bucket.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &bucket.Name, Key: &key, ChecksumMode: types.ChecksumModeEnabled,
	})
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok && response.HTTPStatusCode() == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("head %q in %s: %w", key, bucket.Name, err)
	}
	return &State{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: strings.Trim(aws.ToString(out.ETag), `"`),
		Version: version(aws.ToString(out.VersionId)), Modified: aws.ToTime(out.LastModified),
		SourceBucket:  out.Metadata[transfer.MetaSourceBucket],
		SourceETag:    out.Metadata[transfer.MetaSourceETag],
		SourceVersion: version(out.Metadata[transfer.MetaSourceVersion]),
		Sequencer:     out.Metadata[transfer.MetaSequencer],
		checksums:     checksums(out),
		tags:          aws.ToInt32(out.TagCount),
	}, nil
}

// version is a version ID, or "" for the one that an object has in a bucket that
// keeps no versions, or kept none when it came.
func version(id string) string {
	if id == "null" {
		return ""
	}
	return id
}

func checksums(out *s3.HeadObjectOutput) map[types.ChecksumAlgorithm]string {
	if out.ChecksumType == types.ChecksumTypeComposite {
		return nil
	}
	sums := map[types.ChecksumAlgorithm]string{}
	for algorithm, sum := range map[types.ChecksumAlgorithm]*string{
		types.ChecksumAlgorithmCrc64nvme: out.ChecksumCRC64NVME,
		types.ChecksumAlgorithmCrc32c:    out.ChecksumCRC32C,
		types.ChecksumAlgorithmCrc32:     out.ChecksumCRC32,
		types.ChecksumAlgorithmSha256:    out.ChecksumSHA256,
		types.ChecksumAlgorithmSha1:      out.ChecksumSHA1,
	} {
		if sum != nil && !strings.Contains(*sum, "-") { // base64, which of a composite one ends in its parts
			sums[algorithm] = *sum
		}
	}
	return sums
}
