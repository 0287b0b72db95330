package s3gw_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
)

func TestEventsOfRemovals(t *testing.T) {
	for _, bucket := range []string{plain, versioned} {
		q := newQueue(t)
		cfg := q.configure(config(t.TempDir()), bucket)
		cfg.EventRemovals = true
		c := client(start(t, cfg))
		key := "a b/年"
		put := func() *s3.PutObjectOutput {
			t.Helper()
			out, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x"), IfNoneMatch: aws.String("*")})
			if err != nil {
				t.Fatal(err)
			}
			q.next(t)
			return out
		}
		check := func(kind string, version *string) {
			t.Helper()
			record := q.next(t)
			got := object(record)
			want := map[string]any{"key": "a+b/%E5%B9%B4", "sequencer": got["sequencer"]}
			if version != nil {
				want["versionId"] = *version
			}
			if diff := cmp.Diff(want, got); record["eventName"] != kind || diff != "" {
				t.Errorf("%s: got %v, object (-want +got):\n%s", kind, record["eventName"], diff)
			}
		}
		first := put()
		out, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		if bucket == plain {
			check("ObjectRemoved:Delete", nil)
		} else {
			check("ObjectRemoved:DeleteMarkerCreated", out.VersionId)
		}
		put() // over the marker, though nothing must be there
		many, err := c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{
			Bucket: &bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: &key}}},
		})
		if err != nil || len(many.Deleted) != 1 {
			t.Fatalf("got %+v, %v", many, err)
		}
		if bucket == plain {
			check("ObjectRemoved:Delete", nil)
			continue
		}
		check("ObjectRemoved:DeleteMarkerCreated", many.Deleted[0].DeleteMarkerVersionId)
		for _, version := range []*string{many.Deleted[0].DeleteMarkerVersionId, first.VersionId} {
			if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key, VersionId: version}); err != nil {
				t.Fatal(err)
			}
			check("ObjectRemoved:Delete", version)
		}
	}
}
