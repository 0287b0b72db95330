// Package listingtest is a bucket for tests, whose objects need not exist all at
// once.
package listingtest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3ferry/s3ferry/internal/listing"
)

// Bucket answers as S3 does for Len objects. Set its fields before the first
// request.
type Bucket struct {
	Len    int
	Object func(i int) listing.Object                         // the i-th in the order of keys
	Head   func(i int, o listing.Object) *s3.HeadObjectOutput // nil: size, ETag and time
	Tags   func(key string) map[string]string                 // nil: no object has any
	Find   func(key string) int                               // index of a key, or beyond; nil: it is searched
	Err    func(key string) error                             // of a HEAD, or of a listing after key; nil: none
	Page   int                                                // most keys of a listing; 0 is 1,000

	Lists, Heads, Tagged atomic.Int64
}

// Of returns a bucket of objects with these keys, in this order, each as o says.
func Of(o listing.Object, keys ...string) *Bucket {
	return &Bucket{Len: len(keys), Object: func(i int) listing.Object {
		o := o
		o.Key = keys[i]
		return o
	}}
}

// ListObjectsV2 pages as S3 does, keys URL-encoded if asked.
func (b *Bucket) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	b.Lists.Add(1)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prefix, after := aws.ToString(in.Prefix), max(aws.ToString(in.StartAfter), aws.ToString(in.ContinuationToken))
	if b.Err != nil {
		if err := b.Err(after); err != nil {
			return nil, err
		}
	}
	page := b.Page
	if page == 0 {
		page = 1000
	}
	out := &s3.ListObjectsV2Output{EncodingType: in.EncodingType, IsTruncated: aws.Bool(false)}
	first := sort.Search(b.Len, func(i int) bool { key := b.Object(i).Key; return key >= prefix && key > after })
	last := ""
	for i := first; i < b.Len; i++ {
		o := b.Object(i)
		if !strings.HasPrefix(o.Key, prefix) {
			break
		}
		if len(out.Contents) == page {
			out.IsTruncated, out.NextContinuationToken = aws.Bool(true), &last
			break
		}
		last = o.Key
		out.Contents = append(out.Contents, types.Object{
			Key: encode(in, o.Key), ETag: aws.String(`"` + o.ETag + `"`), Size: &o.Size, LastModified: &o.Modified,
		})
	}
	return out, nil
}

func encode(in *s3.ListObjectsV2Input, key string) *string {
	if in.EncodingType == types.EncodingTypeUrl {
		key = strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
	}
	return &key
}

// HeadObject answers for the objects of the bucket, and 404 for others.
func (b *Bucket) HeadObject(_ context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	b.Heads.Add(1)
	key := aws.ToString(in.Key)
	if b.Err != nil {
		if err := b.Err(key); err != nil {
			return nil, err
		}
	}
	find := b.Find
	if find == nil {
		find = func(key string) int { return sort.Search(b.Len, func(i int) bool { return b.Object(i).Key >= key }) }
	}
	i := find(key)
	if i >= b.Len || b.Object(i).Key != key {
		return nil, Status(http.StatusNotFound, &types.NotFound{})
	}
	o := b.Object(i)
	out := &s3.HeadObjectOutput{ContentLength: &o.Size, ETag: aws.String(`"` + o.ETag + `"`), LastModified: &o.Modified}
	if b.Head != nil {
		out = b.Head(i, o)
	}
	if b.Tags != nil && len(b.Tags(key)) > 0 {
		out.TagCount = aws.Int32(int32(len(b.Tags(key)))) //nolint:gosec // ten at most
	}
	return out, nil
}

// GetObjectTagging answers for any key.
func (b *Bucket) GetObjectTagging(_ context.Context, in *s3.GetObjectTaggingInput, _ ...func(*s3.Options)) (*s3.GetObjectTaggingOutput, error) {
	b.Tagged.Add(1)
	out := &s3.GetObjectTaggingOutput{}
	if b.Tags != nil {
		for key, value := range b.Tags(aws.ToString(in.Key)) {
			out.TagSet = append(out.TagSet, types.Tag{Key: &key, Value: &value})
		}
	}
	return out, nil
}

// Status is err as the SDK returns it with an HTTP status.
func Status(status int, err error) error {
	return &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status, Status: fmt.Sprint(status)}}, Err: err,
		},
	}
}
