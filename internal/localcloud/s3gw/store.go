package s3gw

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/valyala/fasthttp"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// store is versitygw's file backend with the differences from S3 taken out
// that a replication would trip over, and with events.
//
// Strings of a request alias its buffers: clone what outlives the call.
type store struct {
	backend.Backend
	keys   keyLocks
	events *notifier // nil: no bucket has events
}

func (s *store) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	if err := collision(*in.Bucket, *in.Key); err != nil {
		return s3response.PutObjectOutput{}, err
	}
	metadata, err := withStorageClass(ctx, in.Metadata)
	if err != nil {
		return s3response.PutObjectOutput{}, err
	}
	in.Metadata = metadata
	in.ContentEncoding = withoutFraming(in.ContentEncoding)
	commit := s.keys.writer(*in.Bucket, *in.Key)
	defer commit.unlock()
	if in.IfNoneMatch != nil && s.underMarker(ctx, *in.Bucket, *in.Key) {
		commit.lock()
		if s.underMarker(ctx, *in.Bucket, *in.Key) {
			in.IfNoneMatch = nil
		} else {
			commit.unlock()
		}
	}
	if !isFormUpload(ctx) {
		in.Body = wholeBody(in.Body, *in.ContentLength, func() error { commit.lock(); return nil })
	}
	out, err := s.Backend.PutObject(ctx, in)
	if err != nil {
		return out, err
	}
	commit.lock()
	return out, s.announce(*in.Bucket, commit, func() (change, error) {
		return change{createdByPut, *in.Key, aws.ToInt64(out.Size), out.ETag, out.VersionID}, nil
	})
}

func (s *store) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	if err := collision(*in.Bucket, *in.Key); err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	if err := existingSource(in.CopySource); err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	metadata, err := withStorageClass(ctx, in.Metadata)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	in.Metadata = metadata
	in.ContentEncoding = withoutFraming(in.ContentEncoding)
	commit := s.keys.writer(*in.Bucket, *in.Key)
	defer commit.unlock()
	commit.lock()
	write := s.Backend.CopyObject
	if ontoItself(in) {
		write = s.rewrite
	}
	out, err := write(ctx, in)
	if err != nil {
		return out, err
	}
	return out, s.announce(*in.Bucket, commit, func() (change, error) { return s.current(ctx, createdByCopy, *in.Bucket, *in.Key) })
}

// ontoItself reports whether in replaces an object's metadata.
func ontoItself(in s3response.CopyObjectInput) bool {
	bucket, key, version, err := backend.ParseCopySource(*in.CopySource)
	return err == nil && bucket == *in.Bucket && key == *in.Key && version == "" && in.MetadataDirective == types.MetadataDirectiveReplace
}

// rewrite is CopyObject of an object onto itself, which makes a new version: the
// backend changes the one that is there. Conditions on the source are not looked at.
func (s *store) rewrite(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	out, err := s.Backend.GetObject(ctx, &s3.GetObjectInput{Bucket: in.Bucket, Key: in.Key})
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	defer out.Body.Close()
	tagging := in.Tagging
	if in.TaggingDirective != types.TaggingDirectiveReplace {
		tags, err := s.GetObjectTagging(ctx, *in.Bucket, *in.Key, "")
		if err != nil && !errors.Is(err, s3err.GetAPIError(s3err.ErrBucketTaggingNotFound)) {
			return s3response.CopyObjectOutput{}, err
		}
		query := url.Values{}
		for key, value := range tags {
			query.Set(key, value)
		}
		tagging = aws.String(query.Encode())
	}
	put, err := s.Backend.PutObject(ctx, s3response.PutObjectInput{
		Bucket: in.Bucket, Key: in.Key, Body: out.Body, ContentLength: out.ContentLength,
		ChecksumAlgorithm: cmp.Or(in.ChecksumAlgorithm, types.ChecksumAlgorithmCrc64nvme),
		ContentType:       in.ContentType, ContentEncoding: in.ContentEncoding, ContentDisposition: in.ContentDisposition,
		ContentLanguage: in.ContentLanguage, CacheControl: in.CacheControl, Expires: in.Expires,
		WebsiteRedirectLocation: in.WebsiteRedirectLocation, Metadata: in.Metadata, Tagging: tagging,
	})
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	now := time.Now().UTC()
	return s3response.CopyObjectOutput{
		VersionId: text(put.VersionID), CopySourceVersionId: out.VersionId,
		CopyObjectResult: &s3response.CopyObjectResult{ETag: &put.ETag, LastModified: &now},
	}, nil
}

// text is s, or nil where there is none.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (s *store) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	if err := collision(*in.Bucket, *in.Key); err != nil {
		return s3response.InitiateMultipartUploadResult{}, err
	}
	metadata, err := withStorageClass(ctx, in.Metadata)
	if err != nil {
		return s3response.InitiateMultipartUploadResult{}, err
	}
	in.Metadata = metadata
	in.ContentEncoding = withoutFraming(in.ContentEncoding)
	return s.Backend.CreateMultipartUpload(ctx, in)
}

// UploadPart answers NoSuchUpload if the upload has ended while the part was on its
// way; the backend makes the upload anew for it, and nobody would ever end that.
func (s *store) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	commit := s.keys.writer(*in.Bucket, *in.Key)
	defer commit.unlock()
	in.Body = wholeBody(in.Body, *in.ContentLength, func() error {
		commit.lock()
		return s.underWay(ctx, in.Bucket, in.Key, in.UploadId)
	})
	return s.Backend.UploadPart(ctx, in)
}

// underWay returns an error if there is no such upload.
func (s *store) underWay(ctx context.Context, bucket, key, upload *string) error {
	_, err := s.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: upload, MaxParts: aws.Int32(1)})
	return err
}

func (s *store) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	commit := s.keys.writer(*in.Bucket, *in.Key)
	defer commit.unlock()
	commit.lock()
	return s.Backend.AbortMultipartUpload(ctx, in)
}

func (s *store) UploadPartCopy(ctx context.Context, in *s3.UploadPartCopyInput) (s3response.CopyPartResult, error) {
	if err := existingSource(in.CopySource); err != nil {
		return s3response.CopyPartResult{}, err
	}
	return s.Backend.UploadPartCopy(ctx, in)
}

// CompleteMultipartUpload answers NoSuchUpload for an upload that is not there;
// the backend takes any upload ID for a finished one if the key exists.
func (s *store) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	none := s3response.CompleteMultipartUploadResult{}
	if err := collision(*in.Bucket, *in.Key); err != nil {
		return none, "", err
	}
	commit := s.keys.writer(*in.Bucket, *in.Key)
	defer commit.unlock()
	commit.lock()
	if err := s.underWay(ctx, in.Bucket, in.Key, in.UploadId); err != nil {
		return none, "", err
	}
	if in.IfNoneMatch != nil && s.underMarker(ctx, *in.Bucket, *in.Key) {
		in.IfNoneMatch = nil
	}
	out, versionID, err := s.Backend.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return out, versionID, err
	}
	return out, versionID, s.announce(*in.Bucket, commit, func() (change, error) {
		return s.current(ctx, createdByComplete, *in.Bucket, *in.Key)
	})
}

// ListMultipartUploads pages by key and upload ID; the backend's markers lose
// the rest of a key's uploads.
func (s *store) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	if aws.ToString(in.Delimiter) != "" {
		return s.Backend.ListMultipartUploads(ctx, in)
	}
	all := *in
	all.KeyMarker, all.UploadIdMarker, all.MaxUploads = nil, nil, aws.Int32(math.MaxInt32)
	out, err := s.Backend.ListMultipartUploads(ctx, &all)
	if err != nil {
		return out, err
	}
	limit := int(aws.ToInt32(in.MaxUploads))
	out.MaxUploads, out.KeyMarker, out.UploadIDMarker = limit, aws.ToString(in.KeyMarker), aws.ToString(in.UploadIdMarker)
	slices.SortFunc(out.Uploads, func(a, b s3response.Upload) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.UploadID, b.UploadID))
	})
	out.Uploads = slices.DeleteFunc(out.Uploads, func(u s3response.Upload) bool {
		return u.Key < out.KeyMarker || u.Key == out.KeyMarker && (out.UploadIDMarker == "" || u.UploadID <= out.UploadIDMarker)
	})
	if limit > 0 && len(out.Uploads) > limit {
		out.Uploads = out.Uploads[:limit]
		last := out.Uploads[limit-1]
		out.IsTruncated, out.NextKeyMarker, out.NextUploadIDMarker = true, last.Key, last.UploadID
	}
	return out, nil
}

func (s *store) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	in.ChecksumMode = checksumMode(ctx, in.ChecksumMode)
	defer s.keys.read(*in.Bucket, *in.Key)()
	out, err := s.Backend.HeadObject(ctx, in)
	if out != nil {
		out.StorageClass = takeStorageClass(out.Metadata)
	}
	return out, err
}

func (s *store) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	in.ChecksumMode = checksumMode(ctx, in.ChecksumMode)
	defer s.keys.read(*in.Bucket, *in.Key)()
	out, err := s.Backend.GetObject(ctx, in)
	if out == nil {
		return nil, err
	}
	out.StorageClass = takeStorageClass(out.Metadata)
	if err == nil && (out.StorageClass == types.StorageClassGlacier || out.StorageClass == types.StorageClassDeepArchive) {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		return nil, s3err.GetAPIError(s3err.ErrInvalidObjectState)
	}
	return out, err
}

func (s *store) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	commit := s.keys.writer(*in.Bucket, *in.Key)
	defer commit.unlock()
	commit.lock()
	out, err := s.Backend.DeleteObject(ctx, in)
	if err != nil || out == nil || s.events == nil || !s.events.removals {
		return out, err
	}
	return out, s.announce(*in.Bucket, commit, func() (change, error) {
		return removal(*in.Key, aws.ToString(in.VersionId), out.DeleteMarker, aws.ToString(out.VersionId)), nil
	})
}

func (s *store) PutObjectTagging(ctx context.Context, bucket, object, versionID string, tags map[string]string) error {
	return s.retag(ctx, taggedByPut, bucket, object, versionID, func() error {
		return s.Backend.PutObjectTagging(ctx, bucket, object, versionID, tags)
	})
}

func (s *store) DeleteObjectTagging(ctx context.Context, bucket, object, versionID string) error {
	return s.retag(ctx, taggedByDelete, bucket, object, versionID, func() error {
		return s.Backend.DeleteObjectTagging(ctx, bucket, object, versionID)
	})
}

func (s *store) retag(ctx context.Context, by, bucket, key, versionID string, write func() error) error {
	commit := s.keys.writer(bucket, key)
	defer commit.unlock()
	commit.lock()
	if err := write(); err != nil || s.events == nil || !s.events.tagging {
		return err
	}
	return s.announce(bucket, commit, func() (change, error) { return s.describe(ctx, by, bucket, key, versionID) })
}

// underMarker reports whether the key's current version is a delete marker, which
// to the backend, but not to S3, is an object that If-None-Match finds.
func (s *store) underMarker(ctx context.Context, bucket, key string) bool {
	out, err := s.Backend.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if out != nil && out.Body != nil {
		_ = out.Body.Close()
	}
	return err != nil && out != nil && aws.ToBool(out.DeleteMarker)
}

// removal is the change that the deletion of a key has made, or of one of its
// versions where that was asked for.
func removal(key, version string, marker *bool, made string) change {
	if version == "" && aws.ToBool(marker) {
		return change{by: removedByMarker, key: key, versionID: made}
	}
	return change{by: removedByDelete, key: key, versionID: version}
}

func (s *store) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	var result s3response.DeleteResult
	for _, object := range in.Delete.Objects {
		if misfit(aws.ToString(object.Key)) != "" {
			result.Deleted = append(result.Deleted, types.DeletedObject{Key: object.Key, VersionId: object.VersionId})
			continue
		}
		one := *in
		one.Delete = &types.Delete{Objects: []types.ObjectIdentifier{object}}
		commit := s.keys.writer(*in.Bucket, *object.Key)
		commit.lock()
		out, err := s.Backend.DeleteObjects(ctx, &one)
		if err == nil && len(out.Deleted) > 0 && s.events != nil && s.events.removals {
			d := out.Deleted[0]
			err = s.announce(*in.Bucket, commit, func() (change, error) {
				return removal(*object.Key, aws.ToString(object.VersionId), d.DeleteMarker, aws.ToString(d.DeleteMarkerVersionId)), nil
			})
		}
		commit.unlock()
		if err != nil {
			return result, err
		}
		result.Deleted = append(result.Deleted, out.Deleted...)
		result.Error = append(result.Error, out.Error...)
	}
	return result, nil
}

// current describes the object that the caller, who holds the key, has written.
func (s *store) current(ctx context.Context, by, bucket, key string) (change, error) {
	return s.describe(ctx, by, bucket, key, "")
}

// describe is current for a version of the key, where one is named.
func (s *store) describe(ctx context.Context, by, bucket, key, versionID string) (change, error) {
	in := &s3.HeadObjectInput{Bucket: &bucket, Key: &key}
	if versionID != "" {
		in.VersionId = &versionID
	}
	head, err := s.Backend.HeadObject(ctx, in)
	if err != nil {
		return change{}, fmt.Errorf("head %q for its event: %w", key, err)
	}
	return change{by, key, aws.ToInt64(head.ContentLength), aws.ToString(head.ETag), aws.ToString(head.VersionId)}, nil
}

// announce sends the event of an object just written to bucket, if bucket has
// events. It takes the event's place in the order of the key's writes before it
// gives the key up. An error means that the event may never be sent: the writer
// must hear of it and try again.
func (s *store) announce(bucket string, commit *keyWriter, describe func() (change, error)) error {
	if s.events == nil || bucket != s.events.bucket {
		return nil
	}
	object, err := describe()
	if err != nil {
		return lostEvent(err)
	}
	e, err := s.events.record(object)
	if err != nil {
		return lostEvent(err)
	}
	commit.unlock()
	if err := s.events.send(e); err != nil {
		return lostEvent(err)
	}
	return nil
}

// lostEvent logs at this edge: the client is told no more than InternalError.
func lostEvent(err error) error {
	slog.Error("an S3 event is lost, its writer is told to try again", "error", err)
	return s3err.GetAPIError(s3err.ErrInternalError)
}

// existingSource returns NoSuchKey for a copy source whose key cannot be held.
func existingSource(source *string) error {
	_, key, _, err := backend.ParseCopySource(*source)
	if err == nil && misfit(key) != "" {
		return s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	return err
}

// request is the HTTP request behind a backend call, or nil.
func request(ctx context.Context) *fasthttp.RequestCtx {
	r, _ := ctx.(*fasthttp.RequestCtx)
	return r
}

// isFormUpload reports a browser's POST, whose length includes the form.
func isFormUpload(ctx context.Context) bool {
	r := request(ctx)
	return r != nil && r.IsPost()
}

// checksumMode also honours the query of a presigned URL, as S3 does.
func checksumMode(ctx context.Context, asked types.ChecksumMode) types.ChecksumMode {
	if r := request(ctx); r != nil && strings.EqualFold(string(r.QueryArgs().Peek("X-Amz-Checksum-Mode")), string(types.ChecksumModeEnabled)) {
		return types.ChecksumModeEnabled
	}
	return asked
}

// withoutFraming drops aws-chunked, which describes the request and not the
// object, from a Content-Encoding.
func withoutFraming(encoding *string) *string {
	if encoding == nil {
		return nil
	}
	codings := slices.DeleteFunc(strings.Split(*encoding, ","), func(c string) bool {
		return strings.EqualFold(strings.TrimSpace(c), "aws-chunked")
	})
	return aws.String(strings.TrimSpace(strings.Join(codings, ",")))
}

// storageClassKey keeps the storage class, of which the backend knows nothing,
// among the metadata. No header name has a space, so no user entry is like it.
const storageClassKey = "storage class"

func withStorageClass(ctx context.Context, metadata map[string]string) (map[string]string, error) {
	r := request(ctx)
	if r == nil {
		return metadata, nil
	}
	class := types.StorageClass(r.Request.Header.Peek("X-Amz-Storage-Class"))
	if class == "" || class == types.StorageClassStandard {
		return metadata, nil
	}
	if !slices.Contains(class.Values(), class) {
		return nil, s3err.APIError{
			Code:           "InvalidStorageClass",
			Description:    "The storage class you specified is not valid",
			HTTPStatusCode: http.StatusBadRequest,
		}
	}
	if metadata == nil {
		metadata = map[string]string{}
	}
	metadata[storageClassKey] = string(class)
	return metadata, nil
}

func takeStorageClass(metadata map[string]string) types.StorageClass {
	class := cmp.Or(types.StorageClass(metadata[storageClassKey]), types.StorageClassStandard)
	delete(metadata, storageClassKey)
	return class
}

// wholeBody returns body with an end that comes only after length bytes: a
// shorter body ends in IncompleteBody. atEnd is called before the end is told, and
// its error is told instead.
func wholeBody(body io.Reader, length int64, atEnd func() error) io.Reader {
	if body == nil {
		body = strings.NewReader("")
	}
	whole := &wholeReader{body: body, left: length, atEnd: atEnd}
	if sum, ok := body.(middlewares.ChecksumReader); ok {
		return &wholeChecksumReader{wholeReader: whole, ChecksumReader: sum}
	}
	return whole
}

type wholeReader struct {
	body  io.Reader
	left  int64
	atEnd func() error
}

func (r *wholeReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.left -= int64(n)
	switch {
	case r.left < 0, err == io.EOF && r.left > 0, errors.Is(err, io.ErrUnexpectedEOF):
		return n, s3err.GetAPIError(s3err.ErrIncompleteBody)
	case err == io.EOF:
		if ended := r.atEnd(); ended != nil {
			return n, ended
		}
	}
	return n, err
}

// wholeChecksumReader keeps the trailing checksum of the body it wraps visible.
type wholeChecksumReader struct {
	*wholeReader
	middlewares.ChecksumReader
}

func (r *wholeChecksumReader) Read(p []byte) (int, error) { return r.wholeReader.Read(p) }

// keyLocks keeps readers of a key from seeing one object's headers with
// another's data, and gives the writes of a key one order. Keys share locks.
type keyLocks [1024]sync.RWMutex

var seed = maphash.MakeSeed()

func (l *keyLocks) of(bucket, key string) *sync.RWMutex {
	return &l[maphash.Comparable(seed, [2]string{bucket, key})%uint64(len(l))]
}

func (l *keyLocks) read(bucket, key string) (unlock func()) {
	mu := l.of(bucket, key)
	mu.RLock()
	return mu.RUnlock
}

func (l *keyLocks) writer(bucket, key string) *keyWriter { return &keyWriter{mu: l.of(bucket, key)} }

// keyWriter is one writer's hold on a key. It belongs to one goroutine; taking
// or giving up the hold twice is harmless.
type keyWriter struct {
	mu   *sync.RWMutex
	held bool
}

func (w *keyWriter) lock() {
	if !w.held {
		w.mu.Lock()
		w.held = true
	}
}

func (w *keyWriter) unlock() {
	if w.held {
		w.mu.Unlock()
		w.held = false
	}
}
