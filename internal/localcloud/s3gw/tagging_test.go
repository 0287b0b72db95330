package s3gw_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
)

func TestEventsOfTags(t *testing.T) {
	for _, bucket := range []string{plain, versioned} {
		q := newQueue(t)
		cfg := q.configure(config(t.TempDir()), bucket)
		cfg.EventTagging = true
		c := client(start(t, cfg))
		key := "a b/年"
		first := put(t, c, bucket, key, "one")
		q.next(t)
		put(t, c, bucket, key, "two")
		q.next(t)
		version, etag := first.VersionId, first.ETag // of a version that is not the current one
		if bucket == plain {
			head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			version, etag = nil, head.ETag
		}
		check := func(kind string) {
			t.Helper()
			record := q.next(t)
			want := map[string]any{"key": "a+b/%E5%B9%B4", "eTag": (*etag)[1 : len(*etag)-1]}
			if version != nil {
				want["versionId"] = *version
			}
			if diff := cmp.Diff(want, object(record)); record["eventName"] != kind || diff != "" {
				t.Errorf("%s: got %v, object (-want +got):\n%s", kind, record["eventName"], diff)
			}
		}
		if _, err := c.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{
			Bucket: &bucket, Key: &key, VersionId: version, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}},
		}); err != nil {
			t.Fatal(err)
		}
		check("ObjectTagging:Put")
		if _, err := c.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{
			Bucket: &bucket, Key: &key, VersionId: version, Tagging: &types.Tagging{TagSet: []types.Tag{}},
		}); err != nil {
			t.Fatalf("no tags at all: %v", err)
		}
		check("ObjectTagging:Put")
		if _, err := c.DeleteObjectTagging(t.Context(), &s3.DeleteObjectTaggingInput{Bucket: &bucket, Key: &key, VersionId: version}); err != nil {
			t.Fatal(err)
		}
		check("ObjectTagging:Delete")
		if _, err := c.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{
			Bucket: &bucket, Key: aws.String("none"), Tagging: &types.Tagging{TagSet: []types.Tag{}},
		}); err == nil {
			t.Error("an object that is not there has got tags")
		}
	}
}

// A copy onto itself makes a new version, with the bytes and, unless others are
// given, the tags of the old one.
func TestCopyOntoItself(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	for _, bucket := range []string{plain, versioned} {
		key := "a b"
		first, err := c.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: &key, Body: strings.NewReader("same"), Metadata: map[string]string{"a": "1"}, Tagging: aws.String("t=1"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &bucket, Key: &key, CopySource: aws.String(bucket + "/a%20b")}); err == nil {
			t.Error("a copy that changes nothing was taken")
		}
		out, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{
			Bucket: &bucket, Key: &key, CopySource: aws.String(bucket + "/a%20b"),
			MetadataDirective: types.MetadataDirectiveReplace, Metadata: map[string]string{"a": "2"}, ContentType: aws.String("text/x"),
		})
		if err != nil {
			t.Fatal(err)
		}
		head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		if head.Metadata["a"] != "2" || aws.ToString(head.ContentType) != "text/x" || *head.ETag != *first.ETag || aws.ToString(head.VersionId) != aws.ToString(out.VersionId) {
			t.Errorf("got %+v, answered as %+v", head, out)
		}
		tags, err := c.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: &bucket, Key: &key})
		if err != nil || len(tags.TagSet) != 1 || *tags.TagSet[0].Value != "1" {
			t.Errorf("got tags %+v, %v", tags, err)
		}
		if got := get(t, c, bucket, key); got != "same" {
			t.Errorf("got %q", got)
		}
		if bucket == plain {
			continue
		}
		if aws.ToString(out.VersionId) == aws.ToString(first.VersionId) {
			t.Error("the version is the one that was there")
		}
		old, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key, VersionId: first.VersionId})
		if err != nil || old.Metadata["a"] != "1" {
			t.Errorf("the old version has %+v, %v", old, err)
		}
	}
}
