package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3ferry/s3ferry/internal/fault"
)

// S3 is what an Engine asks of the destination's *s3.Client.
type S3 interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	PutObjectTagging(context.Context, *s3.PutObjectTaggingInput, ...func(*s3.Options)) (*s3.PutObjectTaggingOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error)
	UploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.Options)) (*s3.UploadPartOutput, error)
	ListMultipartUploads(context.Context, *s3.ListMultipartUploadsInput, ...func(*s3.Options)) (*s3.ListMultipartUploadsOutput, error)
	ListParts(context.Context, *s3.ListPartsInput, ...func(*s3.Options)) (*s3.ListPartsOutput, error)
	CompleteMultipartUpload(context.Context, *s3.CompleteMultipartUploadInput, ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error)
	AbortMultipartUpload(context.Context, *s3.AbortMultipartUploadInput, ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error)
}

var _ S3 = (*s3.Client)(nil)

// Fault classes of the destination.
const (
	classBusy    = "destination-busy"    // transient
	classDenied  = "destination-denied"  // permanent
	classRefused = "destination-refused" // permanent: it can't hold such an object
	classDigest  = "checksum-mismatch"   // transient: bytes bent on the way
)

// What a write to the destination can meet that the engine itself can mend.
var (
	errConflict   = errors.New("the destination's object changed in between")
	errUploadLost = errors.New("the multipart upload is gone")
	errDigest     = errors.New("the destination refused the checksum")
)

// judgeError classifies an error of a call to the destination; what says which.
func judgeError(what string, err error) error {
	if err == nil {
		return nil
	}
	var code string
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	var status int
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = resp.HTTPStatusCode()
	}
	wrapped := fmt.Errorf("%s: %w", what, err)
	switch code {
	case "NoSuchUpload":
		return fmt.Errorf("%s: %w: %w", what, errUploadLost, err)
	case "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "NoSuchVersion":
		return fmt.Errorf("%s: %w: %w", what, errConflict, err)
	case "BadDigest", "XAmzContentChecksumMismatch":
		return fmt.Errorf("%s: %w: %w", what, errDigest, err)
	case "BadRequest", // all that the SDK can make of a 400 to a HEAD, which has no body: most likely one of these
		"ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout", "OperationAborted", "SlowDown":
		return fault.Transient(classBusy, wrapped)
	case "InvalidPart": // another worker, or a late retry, has stored it again: ETags are not all made of bytes
		return fault.Transient(classBusy, wrapped)
	case "NoSuchBucket", "NotImplemented":
		return fault.Permanent(classRefused, wrapped)
	}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fault.Permanent(classDenied, wrapped)
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests && !strings.Contains(code, "Throttl"):
		return fault.Permanent(classRefused, wrapped)
	default:
		return fault.Transient(classBusy, wrapped)
	}
}

func notFound(err error) bool {
	resp, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return ok && resp.HTTPStatusCode() == http.StatusNotFound
}
