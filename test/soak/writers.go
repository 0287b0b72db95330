package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/demo"
	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// partSize is of the source's uploads in parts.
const partSize = 6 * mib

// written is what the source must hold.
type written struct {
	source *s3.Client
	bucket string

	mu      sync.Mutex
	current map[string]version // by key
	bytes   int64              // ever written
}

// version is what a write left.
type version struct{ etag, id string }

func newWritten(cloud *localcloud.Cloud) *written {
	return &written{source: client(cloud.Source), bucket: cloud.Source.Bucket, current: map[string]version{}}
}

func (w *written) get(key string) version {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current[key]
}

func (w *written) set(key string, v version, size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes += size
	w.current[key] = v
}

func (w *written) unset(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.current, key)
}

// write does the operations of some keys, each when its time has come.
func (s *soak) write(ctx context.Context, own []operation) error {
	for _, o := range own {
		if err := s.until(ctx, o.At); err != nil {
			return err
		}
		before := s.written.get(o.Key)
		if err := s.written.do(ctx, o); err != nil {
			return fmt.Errorf("%s %q in the source: %w", o.Action, o.Key, err)
		}
		s.operations.Add(1)
		if o.Forget && o.Action != retag && before.id != "" && o.Size >= forgetFrom {
			if err := s.written.forget(ctx, o.Key, before); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *written) do(ctx context.Context, o operation) error {
	switch {
	case o.Action == remove:
		return w.remove(ctx, o.Key)
	case o.Action == retag && w.get(o.Key) != (version{}):
		return w.retag(ctx, o)
	}
	put := w.put
	if o.Parts {
		put = w.upload
	}
	v, err := put(ctx, o)
	if err == nil {
		w.set(o.Key, v, o.Size)
	}
	return err
}

// remove deletes a key, which leaves its versions behind a delete marker.
func (w *written) remove(ctx context.Context, key string) error {
	if _, err := w.source.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &w.bucket, Key: &key}); err != nil {
		return err
	}
	w.unset(key)
	return nil
}

// retag gives an object other tags, or takes all of them off.
func (w *written) retag(ctx context.Context, o operation) error {
	if o.Seed%4 == 0 {
		_, err := w.source.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: &w.bucket, Key: &o.Key})
		return err
	}
	_, err := w.source.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{
		Bucket: &w.bucket, Key: &o.Key, Tagging: &types.Tagging{TagSet: []types.Tag{
			{Key: aws.String("team"), Value: aws.String("west + south")}, {Key: aws.String("number"), Value: aws.String(fmt.Sprint(o.Seed))},
		}},
	})
	return err
}

// forget deletes a version for good, as a lifecycle rule does: a transfer of it
// may be under way.
func (w *written) forget(ctx context.Context, key string, v version) error {
	_, err := w.source.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &w.bucket, Key: &key, VersionId: &v.id})
	if err != nil {
		return fmt.Errorf("delete version %s of %q: %w", v.id, key, err)
	}
	return nil
}

// algorithms are those that the destination can compare too.
var algorithms = []types.ChecksumAlgorithm{
	types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmSha256,
}

func (w *written) put(ctx context.Context, o operation) (version, error) {
	out, err := w.source.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &w.bucket, Key: &o.Key, Body: demo.Pattern(o.Seed, o.Size), ContentLength: &o.Size,
		ChecksumAlgorithm: algorithms[o.Seed%int64(len(algorithms))],
		ContentType:       aws.String("application/x-soak"), Metadata: metadata(o), Tagging: tags(o),
	})
	if err != nil {
		return version{}, err
	}
	return version{strings.Trim(*out.ETag, `"`), aws.ToString(out.VersionId)}, nil
}

func metadata(o operation) map[string]string {
	return map[string]string{"number": fmt.Sprint(o.Seed), "author": "=?UTF-8?B?5p2O?="}
}

// tags gives one object in eight tags.
func tags(o operation) *string {
	if o.Seed%8 != 0 {
		return nil
	}
	return aws.String(fmt.Sprintf("team=east+asia&number=%d", o.Seed))
}

// upload puts an object in parts, which gives it an ETag that is no MD5.
func (w *written) upload(ctx context.Context, o operation) (version, error) {
	begun, err := w.source.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &w.bucket, Key: &o.Key, Metadata: metadata(o), Tagging: tags(o),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		return version{}, err
	}
	var parts []types.CompletedPart
	body := demo.Pattern(o.Seed, o.Size)
	for left := o.Size; left > 0; left -= partSize {
		buf := make([]byte, min(left, partSize))
		if _, err := io.ReadFull(body, buf); err != nil {
			return version{}, err
		}
		number := aws.Int32(int32(len(parts)) + 1) //nolint:gosec // a few dozen
		part, err := w.source.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &w.bucket, Key: &o.Key, UploadId: begun.UploadId, PartNumber: number, Body: bytes.NewReader(buf),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		})
		if err != nil {
			return version{}, err
		}
		parts = append(parts, types.CompletedPart{PartNumber: number, ETag: part.ETag, ChecksumCRC64NVME: part.ChecksumCRC64NVME})
	}
	out, err := w.source.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &w.bucket, Key: &o.Key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		return version{}, err
	}
	return version{strings.Trim(*out.ETag, `"`), aws.ToString(out.VersionId)}, nil
}

func hash(key string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, key) // never fails
	return h.Sum64()
}
