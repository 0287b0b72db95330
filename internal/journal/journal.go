// Package journal keeps what must survive an invocation, as small objects in
// the journal bucket: which multipart upload a transfer is using, the newest event
// that set out to change a key, the tags that were last put on it, and the order of
// objects that have no room for their own.
//
// All are written conditionally, so the bucket is also the lock. Every other
// truth stays where it is: which parts are done, only ListParts knows.
package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3ferry/s3ferry/internal/fault"
)

// Fault classes of this package.
const (
	ClassBusy    = "journal-busy"    // transient
	ClassDenied  = "journal-denied"  // permanent
	ClassCorrupt = "journal-corrupt" // permanent: an entry that is malformed or another's
)

const (
	version = 1
	// maxEntry is the most bytes of an entry: the keys of both sides, each 1,024
	// bytes and escaped, and some short fields.
	maxEntry = 16 << 10
	// rounds bounds how often a lost race is looked at again.
	rounds = 5
	pause  = 50 * time.Millisecond
)

// S3 is what a Journal asks of *s3.Client.
type S3 interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

var _ S3 = (*s3.Client)(nil)

// Journal keeps entries in one bucket. It is safe for concurrent use.
type Journal struct {
	// Unconditional is for a bucket without conditional writes: of two writers of
	// an entry the last one then wins.
	Unconditional bool

	s3     S3
	bucket string
}

// New returns the journal in bucket.
func New(client S3, bucket string) *Journal { return &Journal{s3: client, bucket: bucket} }

// errLost says that somebody else wrote the entry in between.
var errLost = errors.New("entry written by another")

// read decodes the entry under name into v and returns its ETag, or "" if there
// is none. The entry must be byte for byte what write would make of it.
func (j *Journal) read(ctx context.Context, name string, v any) (etag string, err error) {
	out, err := j.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &j.bucket, Key: &name})
	if code(err) == "NoSuchKey" {
		return "", nil
	}
	if err != nil {
		return "", classify(fmt.Errorf("read journal entry %q: %w", name, err))
	}
	defer out.Body.Close()
	data, err := io.ReadAll(io.LimitReader(out.Body, maxEntry+1))
	if err != nil {
		return "", classify(fmt.Errorf("read journal entry %q: %w", name, err))
	}
	if err := decode(data, v); err != nil {
		return "", fault.Permanentf(ClassCorrupt, "read journal entry %q: %w", name, err)
	}
	return aws.ToString(out.ETag), nil
}

func decode(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("not in canonical form: members repeated, reordered, missing or followed by more text")
	}
	return nil
}

// write puts v under name in place of the entry with the ETag instead, or of
// none if that is empty. It fails with errLost where another came first.
func (j *Journal) write(ctx context.Context, name, instead string, v any) (etag string, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write journal entry %q: %w", name, err)
	}
	in := &s3.PutObjectInput{
		Bucket: &j.bucket, Key: &name, Body: bytes.NewReader(data), ContentType: aws.String("application/json"),
	}
	switch {
	case j.Unconditional:
	case instead == "":
		in.IfNoneMatch = aws.String("*")
	default:
		in.IfMatch = &instead
	}
	out, err := j.s3.PutObject(ctx, in)
	switch code(err) {
	case "":
		return aws.ToString(out.ETag), nil
	case "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey":
		return "", errLost
	}
	return "", classify(fmt.Errorf("write journal entry %q: %w", name, err))
}

// contest calls try until it does not end in errLost, a bounded number of times.
func contest(ctx context.Context, name string, try func() error) error {
	for range rounds {
		if err := try(); !errors.Is(err, errLost) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("write journal entry %q: %w", name, context.Cause(ctx))
		case <-time.After(rand.N(pause)): //nolint:gosec // jitter
		}
	}
	return fault.Transientf(ClassBusy, "write journal entry %q: another writer came first %d times", name, rounds)
}

// code returns the S3 error code of err: "" for nil, "unknown" for an error
// that S3 did not send.
func code(err error) string {
	if err == nil {
		return ""
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return "unknown"
}

func classify(err error) error {
	switch code(err) {
	case "ExpiredToken", "RequestTimeTooSkewed": // both come as 403, and pass
		return fault.Transient(ClassBusy, err)
	}
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		switch resp.HTTPStatusCode() {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fault.Permanent(ClassDenied, err)
		}
	}
	if code(err) == "NoSuchBucket" {
		return fault.Permanent(ClassDenied, err)
	}
	return fault.Transient(ClassBusy, err)
}
