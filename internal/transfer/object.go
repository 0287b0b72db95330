package transfer

import (
	"maps"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// User metadata of every destination object that has room for it.
const (
	MetaSequencer     = "s3ferry-sequencer"
	MetaSourceBucket  = "s3ferry-source-bucket"
	MetaSourceETag    = "s3ferry-source-etag"
	MetaSourceVersion = "s3ferry-source-version" // absent without versioning
)

const (
	metaPrefix = "x-amz-meta-"
	// maxMetadata is S3's limit on the bytes of all keys and values.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
	maxMetadata = 2 << 10
)

// metadata returns the user metadata of t's destination object. The user's come
// first: where ours do not fit beside them, overflow is true and ours are not
// there. Entries of ours that came from the source, itself ferried, are dropped.
func metadata(t *wire.Transfer) (m map[string]string, overflow bool, err error) {
	m = map[string]string{}
	size := 0
	for k, v := range t.Object.Metadata {
		switch strings.ToLower(k) {
		case MetaSequencer, MetaSourceBucket, MetaSourceETag, MetaSourceVersion:
			continue
		}
		m[k] = v
		size += len(k) + len(v)
	}
	if size > maxMetadata {
		return nil, false, fault.Permanentf("metadata-too-large", "user metadata: got %d bytes of keys and values, expected at most %d", size, maxMetadata)
	}
	ours := map[string]string{MetaSequencer: t.Source.Sequencer, MetaSourceBucket: t.Source.Bucket, MetaSourceETag: t.Source.ETag}
	if t.Source.VersionID != "" {
		ours[MetaSourceVersion] = t.Source.VersionID
	}
	// The documentation leaves open whether the prefix counts. For ours it does
	// here: in doubt they make room.
	size += len(metaPrefix) * (len(m) + len(ours))
	for k, v := range ours {
		size += len(k) + len(v)
	}
	if size > maxMetadata {
		return m, true, nil
	}
	maps.Copy(m, ours)
	return m, false, nil
}

func tagging(tags map[string]string) *string {
	v := url.Values{}
	for key, value := range tags {
		v.Set(key, value)
	}
	return text(v.Encode())
}

// text is s, or nil where there is none to send.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}

// contentEncoding drops the framing of an upload that some servers keep as if
// it were the object's: sent again, it would promise a frame that is not there.
func contentEncoding(s string) *string {
	var kept []string
	for coding := range strings.SplitSeq(s, ",") {
		if coding = strings.TrimSpace(coding); coding != "aws-chunked" && coding != "" {
			kept = append(kept, coding)
		}
	}
	return text(strings.Join(kept, ","))
}

func (j *job) putInput(sum checksum) *s3.PutObjectInput {
	o := &j.t.Object
	return &s3.PutObjectInput{
		Bucket: &j.Bucket, Key: &j.key, ContentLength: &j.t.Source.Size,
		ContentType: text(o.ContentType), CacheControl: text(o.CacheControl),
		ContentDisposition: text(o.ContentDisposition), ContentEncoding: contentEncoding(o.ContentEncoding),
		ContentLanguage: text(o.ContentLanguage), WebsiteRedirectLocation: text(o.WebsiteRedirect),
		Metadata: j.metadata, Tagging: tagging(o.Tags),
		StorageClass: types.StorageClass(j.storageClass), ChecksumAlgorithm: sum.algorithm,
	}
}

func (j *job) createInput(algorithm types.ChecksumAlgorithm) *s3.CreateMultipartUploadInput {
	o := &j.t.Object
	return &s3.CreateMultipartUploadInput{
		Bucket: &j.Bucket, Key: &j.key,
		ContentType: text(o.ContentType), CacheControl: text(o.CacheControl),
		ContentDisposition: text(o.ContentDisposition), ContentEncoding: contentEncoding(o.ContentEncoding),
		ContentLanguage: text(o.ContentLanguage), WebsiteRedirectLocation: text(o.WebsiteRedirect),
		Metadata: j.metadata, Tagging: tagging(o.Tags),
		StorageClass: types.StorageClass(j.storageClass), ChecksumAlgorithm: algorithm,
		ChecksumType: types.ChecksumTypeFullObject,
	}
}

// expires sends the Expires header as the source had it: it need not be a date,
// which is all that the SDK's field can hold.
func (j *job) expires(o *s3.Options) {
	if j.t.Object.Expires != "" {
		o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("Expires", j.t.Object.Expires))
	}
}

// given sends sum with the bytes of a request. Since the SDK finds it there it
// adds no trailer, and since it protects the bytes the signature need not.
func given(sum checksum) func(*s3.Options) {
	return func(o *s3.Options) {
		whole(sum)(o)
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

// whole sends sum as that of the object which the request completes.
func whole(sum checksum) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("X-Amz-Checksum-"+string(sum.algorithm), sum.value))
	}
}
