// Package listing reads what is in a bucket: in the order of its keys, a page at
// a time, and in several ranges at once.
package listing

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// S3 is what a Bucket asks of *s3.Client.
type S3 interface {
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

var _ S3 = (*s3.Client)(nil)

// Bucket is a bucket to list.
type Bucket struct {
	S3   S3
	Name string
}

// Object is an object as a listing tells of it: the current version.
type Object struct {
	Key      string
	ETag     string // without quotes
	Size     int64
	Modified time.Time
}

// Range is a part of a bucket's keys: those that begin with Prefix and come
// after After, up to and including Last. An empty bound is none.
type Range struct {
	Prefix string `json:"prefix"`
	After  string `json:"after"`
	Last   string `json:"last"`
}

// Pages yields the objects of r in the order of their keys' UTF-8 bytes, up to
// 1,000 at a time. It ends with the first error. A server that keeps another
// order is one: what relies on the order would go wrong without a word.
func (b Bucket) Pages(ctx context.Context, r Range) iter.Seq2[[]Object, error] {
	return func(yield func([]Object, error) bool) {
		in := &s3.ListObjectsV2Input{
			Bucket: &b.Name, Prefix: text(r.Prefix), StartAfter: text(r.After), EncodingType: types.EncodingTypeUrl,
		}
		last := r.After
		for {
			out, err := b.S3.ListObjectsV2(ctx, in)
			if err != nil {
				yield(nil, fmt.Errorf("list %s: %w", b.Name, err))
				return
			}
			page, err := b.read(out, last)
			if err != nil {
				yield(nil, err)
				return
			}
			end := len(page)
			if r.Last != "" {
				end, _ = slices.BinarySearchFunc(page, r.Last+"\x00", func(o Object, key string) int { return strings.Compare(o.Key, key) })
			}
			if end > 0 && !yield(page[:end], nil) {
				return
			}
			if end < len(page) || !aws.ToBool(out.IsTruncated) {
				return
			}
			if end > 0 {
				last = page[end-1].Key
			}
			in.ContinuationToken, in.StartAfter = out.NextContinuationToken, nil
		}
	}
}

// Objects yields what Pages does, one by one.
func (b Bucket) Objects(ctx context.Context, r Range) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for page, err := range b.Pages(ctx, r) {
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, object := range page {
				if !yield(object, nil) {
					return
				}
			}
		}
	}
}

// read returns the objects of a page, whose keys must all come after last.
func (b Bucket) read(out *s3.ListObjectsV2Output, last string) ([]Object, error) {
	page := make([]Object, len(out.Contents))
	for i, listed := range out.Contents {
		key, err := decoded(out, listed.Key)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", b.Name, err)
		}
		if key <= last {
			return nil, fmt.Errorf("list %s: got %q after %q, expected the order of UTF-8 bytes", b.Name, key, last)
		}
		last = key
		page[i] = Object{
			Key: key, ETag: strings.Trim(aws.ToString(listed.ETag), `"`),
			Size: aws.ToInt64(listed.Size), Modified: aws.ToTime(listed.LastModified),
		}
	}
	return page, nil
}

// decoded returns a key of out, which has its own way to write those that XML
// cannot hold.
func decoded(out *s3.ListObjectsV2Output, key *string) (string, error) {
	if out.EncodingType != types.EncodingTypeUrl {
		return aws.ToString(key), nil
	}
	plain, err := url.QueryUnescape(aws.ToString(key))
	if err != nil {
		return "", fmt.Errorf("read key %q: %w", aws.ToString(key), err)
	}
	return plain, nil
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
