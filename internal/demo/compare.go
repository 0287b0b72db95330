package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const readers = 4 // objects compared at once

// compare reads every object on both sides and fills in what it finds.
func (r *Report) compare(ctx context.Context, from, to Side, objects []Object) error {
	rows := map[string]*Row{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, object := range objects {
		if rows[object.Kind] == nil {
			rows[object.Kind] = &Row{Kind: object.Kind}
		}
		row := rows[object.Kind]
		group.Go(func() error {
			look := Compare
			if object.Deleted {
				look = compareDeleted
			}
			size, differences, err := look(ctx, from, to, object.Key)
			if err != nil {
				return fmt.Errorf("compare %q: %w", object.Key, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if object.Deleted && len(differences) == 0 {
				r.Deleted++
			}
			row.Objects++
			row.Bytes += size
			r.Bytes += size
			for _, d := range differences {
				r.Differences = append(r.Differences, fmt.Sprintf("%q: %s", object.Key, d))
			}
			if len(differences) == 0 {
				row.Agree++
				r.Agree++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		r.Rows = append(r.Rows, *rows[kind])
	}
	slices.Sort(r.Differences)
	return nil
}

// Compare reads the object under key on both sides. It returns the size at the
// source, and in words what differs: bytes, headers, metadata, tags, checksums.
func Compare(ctx context.Context, from, to Side, key string) (int64, []string, error) {
	source, err := open(ctx, from, key)
	if err != nil {
		return 0, nil, err
	}
	defer source.close()
	destination, err := open(ctx, to, key)
	if err != nil {
		return 0, nil, err
	}
	defer destination.close()

	differences := source.differences(destination)
	same, err := sameBytes(source.Body, destination.Body)
	if err != nil {
		return 0, nil, err
	}
	if !same {
		differences = append(differences, "the bytes differ")
	}
	return aws.ToInt64(source.ContentLength), differences, nil
}

// compareDeleted is Compare of an object that neither side may have.
func compareDeleted(ctx context.Context, from, to Side, key string) (_ int64, differences []string, err error) {
	for _, side := range []Side{from, to} {
		there, err := exists(ctx, side, key)
		if err != nil {
			return 0, nil, err
		}
		if there {
			differences = append(differences, "was deleted, and "+side.Bucket+" has it")
		}
	}
	return 0, differences, nil
}

// opened is an object being read, with its tags.
type opened struct {
	*s3.GetObjectOutput
	tags map[string]string
}

func open(ctx context.Context, side Side, key string) (*opened, error) {
	out, err := side.S3.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &side.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return nil, fmt.Errorf("get from %s: %w", side.Bucket, err)
	}
	o := &opened{GetObjectOutput: out, tags: map[string]string{}}
	tags, err := side.S3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &side.Bucket, Key: &key})
	if err != nil {
		o.close()
		return nil, fmt.Errorf("get tags from %s: %w", side.Bucket, err)
	}
	for _, tag := range tags.TagSet {
		o.tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return o, nil
}

func (o *opened) close() { _ = o.Body.Close() } // it was only read

func (o *opened) differences(other *opened) (differences []string) {
	for _, f := range []struct {
		name string
		a, b *string
	}{
		{"Content-Type", o.ContentType, other.ContentType},
		{"Cache-Control", o.CacheControl, other.CacheControl},
		{"Content-Disposition", o.ContentDisposition, other.ContentDisposition},
		{"Content-Encoding", o.ContentEncoding, other.ContentEncoding},
		{"Content-Language", o.ContentLanguage, other.ContentLanguage},
		{"Expires", o.ExpiresString, other.ExpiresString},
		{"website redirect", o.WebsiteRedirectLocation, other.WebsiteRedirectLocation},
		{"storage class", aws.String(string(o.StorageClass)), aws.String(string(other.StorageClass))},
	} {
		if a, b := aws.ToString(f.a), aws.ToString(f.b); a != b {
			differences = append(differences, fmt.Sprintf("%s is %q here and %q there", f.name, a, b))
		}
	}
	if a, b := aws.ToInt64(o.ContentLength), aws.ToInt64(other.ContentLength); a != b {
		differences = append(differences, fmt.Sprintf("%d bytes here and %d there", a, b))
	}
	theirs := maps.Clone(other.Metadata)
	maps.DeleteFunc(theirs, func(name, _ string) bool { return strings.HasPrefix(name, "s3ferry-") })
	if !maps.Equal(o.Metadata, theirs) {
		differences = append(differences, fmt.Sprintf("metadata is %v here and %v there", o.Metadata, theirs))
	}
	if !maps.Equal(o.tags, other.tags) {
		differences = append(differences, fmt.Sprintf("tags are %v here and %v there", o.tags, other.tags))
	}
	return append(differences, o.checksumDifferences(other)...)
}

// checksumDifferences compares the full-object checksums that both sides have.
func (o *opened) checksumDifferences(other *opened) (differences []string) {
	if o.ChecksumType != types.ChecksumTypeFullObject || other.ChecksumType != types.ChecksumTypeFullObject {
		return nil
	}
	for _, f := range []struct {
		name string
		a, b *string
	}{
		{"CRC64NVME", o.ChecksumCRC64NVME, other.ChecksumCRC64NVME},
		{"CRC32", o.ChecksumCRC32, other.ChecksumCRC32},
		{"CRC32C", o.ChecksumCRC32C, other.ChecksumCRC32C},
		{"SHA256", o.ChecksumSHA256, other.ChecksumSHA256},
		{"SHA1", o.ChecksumSHA1, other.ChecksumSHA1},
	} {
		if f.a != nil && f.b != nil && *f.a != *f.b {
			differences = append(differences, fmt.Sprintf("%s is %s here and %s there", f.name, *f.a, *f.b))
		}
	}
	return differences
}

// sameBytes reads both to the end unless they differ before.
func sameBytes(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		nA, errA := io.ReadFull(a, bufA)
		nB, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:nA], bufB[:nB]) {
			return false, nil
		}
		if errA == nil && errB == nil {
			continue
		}
		for _, err := range []error{errA, errB} {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, fmt.Errorf("read: %w", err)
			}
		}
		return true, nil
	}
}

// tagging returns tags in the form of the x-amz-tagging header.
func tagging(tags map[string]string) *string {
	values := url.Values{}
	for name, value := range tags {
		values.Set(name, value)
	}
	return text(values.Encode())
}
