package sender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Classes of what the source bucket answers.
const (
	busy         = "source-busy"       // transient: no answer, a throttle, an error of S3
	restoring    = "restoring"         // transient: out of the archive in a few hours
	archived     = "archived"          // permanent: somebody has to restore it first
	denied       = "access-denied"     // permanent
	refused      = "source-refused"    // permanent: S3 has no such request
	customerKey  = "customer-key"      // permanent: SSE-C, which no signed URL can read
	lostMetadata = "metadata-unusable" // permanent: S3 cannot put it into headers
)

// Source looks at objects of the source bucket.
type Source struct{ S3 S3 }

// S3 is what a Source asks of *s3.Client.
type S3 interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObjectTagging(context.Context, *s3.GetObjectTaggingInput, ...func(*s3.Options)) (*s3.GetObjectTaggingOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
}

var _ S3 = (*s3.Client)(nil)

// noTransfer is why there is nothing to carry: the object is gone, or was
// overwritten and has an event of its own on the way.
type noTransfer struct{ why string } //nolint:errname // an outcome rather than an error

func (n *noTransfer) Error() string { return n.why }

// Look returns the size in bytes of the object version that source names, and
// what it carries beside its bytes. If it is no longer there, or no longer the
// same, the error is a *noTransfer; every other one is classified.
func (s *Source) Look(ctx context.Context, source wire.Source) (int64, wire.Object, error) {
	head, err := s.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &source.Bucket, Key: &source.Key, VersionId: version(source), ChecksumMode: types.ChecksumModeEnabled,
	})
	if n := status(err); n == http.StatusBadRequest || n == http.StatusForbidden {
		err = s.explain(ctx, source, err)
	}
	if err != nil {
		return 0, wire.Object{}, judge("head", source.Key, err)
	}
	if etag := strings.Trim(aws.ToString(head.ETag), `"`); etag != source.ETag {
		return 0, wire.Object{}, &noTransfer{fmt.Sprintf("superseded: got ETag %q, the event has %q", etag, source.ETag)}
	}
	if err := readable(head, source.Key); err != nil {
		return 0, wire.Object{}, err
	}
	object := wire.Object{
		ContentType:        aws.ToString(head.ContentType),
		CacheControl:       aws.ToString(head.CacheControl),
		ContentDisposition: aws.ToString(head.ContentDisposition),
		ContentEncoding:    aws.ToString(head.ContentEncoding),
		ContentLanguage:    aws.ToString(head.ContentLanguage),
		Expires:            aws.ToString(head.ExpiresString),
		WebsiteRedirect:    aws.ToString(head.WebsiteRedirectLocation),
		Metadata:           head.Metadata,
		StorageClass:       string(head.StorageClass),
		Checksum:           checksum(head),
	}
	if aws.ToInt32(head.TagCount) > 0 {
		if object.Tags, err = s.tags(ctx, source); err != nil {
			return 0, wire.Object{}, err
		}
	}
	return aws.ToInt64(head.ContentLength), object, nil
}

// Current returns source's event about the version that is current now, or nil if
// its key has none. Errors are classified.
func (s *Source) Current(ctx context.Context, source wire.Source) (*wire.Source, error) {
	head, err := s.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &source.Bucket, Key: &source.Key, ChecksumMode: types.ChecksumModeEnabled,
	})
	if status(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, judge("head", source.Key, err)
	}
	source.VersionID = aws.ToString(head.VersionId)
	source.ETag, source.Size = strings.Trim(aws.ToString(head.ETag), `"`), aws.ToInt64(head.ContentLength)
	return &source, nil
}

func (s *Source) tags(ctx context.Context, source wire.Source) (map[string]string, error) {
	out, err := s.S3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{
		Bucket: &source.Bucket, Key: &source.Key, VersionId: version(source),
	})
	if err != nil {
		return nil, judge("get tags of", source.Key, err)
	}
	tags := make(map[string]string, len(out.TagSet))
	for _, tag := range out.TagSet {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return tags, nil
}

// explain asks for a byte of the object to learn why its HEAD, whose answer has
// no body, was refused: of a GET, S3 gives the reason.
func (s *Source) explain(ctx context.Context, source wire.Source, otherwise error) error {
	out, err := s.S3.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &source.Bucket, Key: &source.Key, VersionId: version(source), Range: aws.String("bytes=0-0"),
	})
	if err == nil {
		_ = out.Body.Close()
		return otherwise
	}
	return err
}

// judge classifies an error of S3.
func judge(what, key string, err error) error {
	err = fmt.Errorf("%s %q: %w", what, key, err)
	code := ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	switch s := status(err); {
	case code == "InvalidRequest" && strings.Contains(err.Error(), "Server Side Encryption"):
		return fault.Permanentf(customerKey, "the object is encrypted with a key of the customer's (SSE-C): %w", err)
	case code == "ExpiredToken" || code == "RequestTimeTooSkewed":
		return fault.Transient(busy, err)
	case s == http.StatusNotFound, s == http.StatusMethodNotAllowed: // the latter for a delete marker
		return &noTransfer{"gone: " + err.Error()}
	case s == http.StatusForbidden:
		return fault.Permanent(denied, err)
	case s >= 300 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusConflict && s != http.StatusTooManyRequests:
		return fault.Permanent(refused, err)
	default:
		return fault.Transient(busy, err)
	}
}

// status returns the HTTP status of an error of S3, 0 if there was no answer.
func status(err error) int {
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return response.HTTPStatusCode()
	}
	return 0
}

// readable says why a plain GET would not give the whole object, if so.
func readable(head *s3.HeadObjectOutput, key string) error {
	if head.SSECustomerAlgorithm != nil {
		return fault.Permanentf(customerKey, "%q is encrypted with a key of the customer's (SSE-C), which a signed URL cannot carry", key)
	}
	if n := aws.ToInt32(head.MissingMeta); n > 0 {
		return fault.Permanentf(lostMetadata, "%q has %d metadata entries that S3 cannot put into headers: rewrite them", key, n)
	}
	cold := head.StorageClass == types.StorageClassGlacier || head.StorageClass == types.StorageClassDeepArchive
	restore := aws.ToString(head.Restore)
	switch where := cmp.Or(string(head.ArchiveStatus), string(head.StorageClass)); {
	case !cold && head.ArchiveStatus == "" || strings.Contains(restore, `ongoing-request="false"`):
		return nil
	case strings.Contains(restore, `ongoing-request="true"`):
		return fault.Transientf(restoring, "%q is being restored from %s", key, where)
	default:
		return fault.Permanentf(archived, "%q is archived in %s: restore it, then have its event sent again", key, where)
	}
}

// checksum returns the checksum that S3 keeps with the object, nil if it keeps
// none that a transfer can name.
func checksum(head *s3.HeadObjectOutput) *wire.Checksum {
	for _, c := range []struct {
		algorithm types.ChecksumAlgorithm
		value     *string
	}{
		{types.ChecksumAlgorithmCrc64nvme, head.ChecksumCRC64NVME},
		{types.ChecksumAlgorithmCrc32c, head.ChecksumCRC32C},
		{types.ChecksumAlgorithmCrc32, head.ChecksumCRC32},
		{types.ChecksumAlgorithmSha256, head.ChecksumSHA256},
		{types.ChecksumAlgorithmSha1, head.ChecksumSHA1},
	} {
		value := aws.ToString(c.value)
		if value == "" {
			continue
		}
		kind := string(head.ChecksumType)
		switch {
		case kind != "":
		case strings.Contains(value, "-"): // base64, a hyphen and the number of parts
			kind = wire.Composite
		default:
			kind = wire.FullObject
		}
		return &wire.Checksum{Algorithm: string(c.algorithm), Type: kind, Value: value}
	}
	return nil
}

// version returns the version ID of source as the SDK takes it.
func version(source wire.Source) *string {
	if source.VersionID == "" {
		return nil
	}
	return &source.VersionID
}
