package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/fault"
)

// Upload is the multipart upload that carries a transfer.
type Upload struct {
	Transfer  string // ID
	Bucket    string // destination
	Key       string
	ID        string // upload ID
	PartSize  int64  // bytes
	Algorithm string // checksum of parts and object

	Segments *Segments // nil: one worker carries it whole

	etag string // of the entry this was read from
}

// Segments is what the workers on the segments of one object agree on.
type Segments struct {
	Parts   int    `json:"parts"`          // of each segment but the last
	Signing string `json:"signing"`        // whose segments are under way
	Begun   int    `json:"begun"`          // uploads, for this signing
	Stop    *Stop  `json:"stop,omitempty"` // nil while they are under way
}

// Stop says that work on the segments has ended early, and why. One worker tells
// so, however many find the same.
type Stop struct {
	By     int    `json:"by"`               // segment whose worker tells
	Why    string `json:"why"`              // the caller's word
	Class  string `json:"class,omitempty"`  // of a fault
	Reason string `json:"reason,omitempty"` // of a fault, in words
}

type uploadEntry struct {
	V         int       `json:"v"`
	Transfer  string    `json:"transfer"`
	Bucket    string    `json:"bucket"`
	Key       string    `json:"key"`
	UploadID  string    `json:"uploadId"`
	PartSize  int64     `json:"partSize"`
	Algorithm string    `json:"algorithm"`
	Segments  *Segments `json:"segments,omitempty"`
}

// Upload returns the upload of a transfer to key in bucket, or nil if there is
// none. An entry that names something else is a permanent fault.
func (j *Journal) Upload(ctx context.Context, transfer, bucket, key string) (*Upload, error) {
	return j.readUpload(ctx, uploadName(transfer, bucket, key), transfer, bucket, key)
}

// Uploads returns the uploads of all transfers to key in bucket.
func (j *Journal) Uploads(ctx context.Context, bucket, key string) ([]*Upload, error) {
	prefix := uploadsPrefix(bucket, key)
	var uploads []*Upload
	pages := s3.NewListObjectsV2Paginator(j.s3, &s3.ListObjectsV2Input{Bucket: &j.bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, classify(fmt.Errorf("list journal entries %q: %w", prefix, err))
		}
		for _, o := range page.Contents {
			name := aws.ToString(o.Key)
			transfer := strings.TrimSuffix(strings.TrimPrefix(name, prefix), ".json")
			u, err := j.readUpload(ctx, name, transfer, bucket, key)
			if err != nil {
				return nil, err
			}
			if u != nil { // else it is gone in between
				uploads = append(uploads, u)
			}
		}
	}
	return uploads, nil
}

func (j *Journal) readUpload(ctx context.Context, name, transfer, bucket, key string) (*Upload, error) {
	var e uploadEntry
	etag, err := j.read(ctx, name, &e)
	if err != nil || etag == "" {
		return nil, err
	}
	if err := e.check(transfer, bucket, key); err != nil {
		return nil, fault.Permanentf(ClassCorrupt, "read journal entry %q: %w", name, err)
	}
	return &Upload{
		Transfer: e.Transfer, Bucket: e.Bucket, Key: e.Key, ID: e.UploadID,
		PartSize: e.PartSize, Algorithm: e.Algorithm, Segments: e.Segments, etag: etag,
	}, nil
}

func (e *uploadEntry) check(transfer, bucket, key string) error {
	switch {
	case e.V != version:
		return fmt.Errorf("version: got %d, expected %d", e.V, version)
	case e.Transfer != transfer:
		return fmt.Errorf("transfer: got %q, expected %q", e.Transfer, transfer)
	case e.Bucket != bucket || e.Key != key:
		return fmt.Errorf("destination: got %q in %q, expected %q in %q", e.Key, e.Bucket, key, bucket)
	case e.UploadID == "" || e.Algorithm == "" || e.PartSize <= 0:
		return fmt.Errorf("got upload %q, algorithm %q, part size %d, expected all three", e.UploadID, e.Algorithm, e.PartSize)
	case e.Segments != nil && (e.Segments.Parts <= 0 || e.Segments.Signing == ""):
		return fmt.Errorf("got segments of %d parts and signing %q, expected both", e.Segments.Parts, e.Segments.Signing)
	}
	return nil
}

// Claim writes u as the upload of its transfer, in place of old or, if old is
// nil, of none. It returns the upload that the journal now names: u, or that of
// a writer who came first, in which case the caller aborts its own.
func (j *Journal) Claim(ctx context.Context, u Upload, old *Upload) (*Upload, error) {
	name := u.name()
	var instead string
	if old != nil {
		instead = old.etag
	}
	var held *Upload
	err := contest(ctx, name, func() error {
		var err error
		if held, err = j.writeUpload(ctx, instead, u); !errors.Is(err, errLost) {
			return err
		}
		held, err = j.Upload(ctx, u.Transfer, u.Bucket, u.Key)
		if err == nil && (held == nil || held.etag == instead) {
			// The entry that stood in the way is gone, or the write collided
			// with one that failed: try for what is there now.
			instead = ""
			if held != nil {
				instead = held.etag
			}
			return errLost
		}
		return err
	})
	return held, err
}

// Amend writes u in place of the entry that it was read from, and returns the
// upload that the journal now names: u, that of a writer who came first, or nil
// where the entry is gone.
func (j *Journal) Amend(ctx context.Context, u Upload) (*Upload, error) {
	read := u.etag
	var held *Upload
	err := contest(ctx, u.name(), func() error {
		var err error
		if held, err = j.writeUpload(ctx, read, u); !errors.Is(err, errLost) {
			return err
		}
		held, err = j.Upload(ctx, u.Transfer, u.Bucket, u.Key)
		if err == nil && held != nil && held.etag == read {
			return errLost // the write collided with one that failed
		}
		return err
	})
	return held, err
}

func (j *Journal) writeUpload(ctx context.Context, instead string, u Upload) (*Upload, error) {
	etag, err := j.write(ctx, u.name(), instead, uploadEntry{
		V: version, Transfer: u.Transfer, Bucket: u.Bucket, Key: u.Key, UploadID: u.ID,
		PartSize: u.PartSize, Algorithm: u.Algorithm, Segments: u.Segments,
	})
	if err != nil {
		return nil, err
	}
	u.etag = etag
	return &u, nil
}

// Forget removes the entry that u was read from. It is no error if that is gone,
// or if another has written it since: then it is theirs.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
func (j *Journal) Forget(ctx context.Context, u *Upload) error {
	name := u.name()
	in := &s3.DeleteObjectInput{Bucket: &j.bucket, Key: &name}
	if !j.Unconditional {
		in.IfMatch = &u.etag
	}
	_, err := j.s3.DeleteObject(ctx, in)
	switch code(err) {
	case "", "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey":
		return nil
	}
	return classify(fmt.Errorf("delete journal entry %q: %w", name, err))
}

func (u *Upload) name() string { return uploadName(u.Transfer, u.Bucket, u.Key) }

func uploadName(transfer, bucket, key string) string {
	return uploadsPrefix(bucket, key) + transfer + ".json"
}

// uploadsPrefix is what the entries of a key have in common, so that they can be
// listed, and a key that is mapped otherwise has others.
func uploadsPrefix(bucket, key string) string {
	return envcfg.JournalUploads + keyHash(bucket, key) + "/"
}
