package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	os.Exit(m.Run())
}

// sides starts one S3 server with two buckets.
func sides(t *testing.T) (from, to Side) {
	t.Helper()
	cfg := s3gw.Config{
		Dir: t.TempDir(), Region: "us-east-1", AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret",
		Buckets: []s3gw.Bucket{{Name: "source"}, {Name: "destination"}},
	}
	server, err := s3gw.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	client := s3.New(s3.Options{
		Region: cfg.Region, BaseEndpoint: &server.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, ""),
	})
	return Side{client, "source"}, Side{client, "destination"}
}

// carry copies what is in from, as a ferry would, whenever something new is there,
// and deletes what is not there any more.
func carry(ctx context.Context, t *testing.T, from, to Side) {
	carried := map[string]string{} // ETag and tags by key
	for ctx.Err() == nil {
		listed, err := from.S3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &from.Bucket})
		if err != nil {
			return // the test is over
		}
		gone := maps.Clone(carried)
		for _, o := range listed.Contents {
			delete(gone, *o.Key)
		}
		for key := range gone {
			if _, err := to.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &to.Bucket, Key: &key}); err != nil && ctx.Err() == nil {
				t.Errorf("delete %q: %v", key, err)
			}
			delete(carried, key)
		}
		for _, o := range listed.Contents {
			tags, err := from.S3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &from.Bucket, Key: o.Key})
			if err != nil {
				break // it has just been deleted, or the test is over
			}
			set := map[string]string{}
			for _, tag := range tags.TagSet {
				set[*tag.Key] = *tag.Value
			}
			// The server writes an object and its tags one after the other: it may
			// have had none a moment ago, and what is copied again has none for one.
			version := *o.ETag + aws.ToString(tagging(set))
			if carried[*o.Key] == version {
				continue
			}
			carried[*o.Key] = version
			head, err := from.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &from.Bucket, Key: o.Key})
			if err != nil {
				return // what is not carried yet is not deleted: the test is over
			}
			metadata := map[string]string{"s3ferry-source-etag": strings.Trim(*head.ETag, `"`)}
			maps.Copy(metadata, head.Metadata)
			got, err := from.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &from.Bucket, Key: o.Key})
			if err != nil {
				return
			}
			body, err := io.ReadAll(got.Body)
			if err != nil {
				return
			}
			_, err = to.S3.PutObject(ctx, &s3.PutObjectInput{
				Bucket: &to.Bucket, Key: o.Key, Body: bytes.NewReader(body), Metadata: metadata, Tagging: tagging(set),
				ContentType: head.ContentType, CacheControl: head.CacheControl, ContentDisposition: head.ContentDisposition,
				ContentEncoding: head.ContentEncoding, ContentLanguage: head.ContentLanguage,
			})
			if err != nil && ctx.Err() == nil {
				t.Errorf("copy %q: %v", *o.Key, err)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRunFindsBothSidesEqual(t *testing.T) {
	from, to := sides(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		carry(ctx, t, from, to)
	}()
	var last int
	report, err := Run(t.Context(), from, to, Workload(21, 100, 3<<20), Options{
		Patience: time.Minute, Arrived: func(n int, _ int64) { last = n },
	})
	cancel()
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	if report.OK() != nil || report.Objects != 29 || report.Agree != 29 || report.Overwritten != 1 || report.Deleted != deletions || last != 29 {
		t.Errorf("got %+v after %d arrivals", report, last)
	}
	if want := int64(21*100 + 20<<20 + 3<<20); report.Bytes != want {
		t.Errorf("got %d bytes, want %d", report.Bytes, want)
	}
}

func TestCompareSaysWhatDiffers(t *testing.T) {
	from, to := sides(t)
	put := func(side Side, key, body string, change func(*s3.PutObjectInput)) {
		t.Helper()
		in := &s3.PutObjectInput{
			Bucket: &side.Bucket, Key: &key, Body: strings.NewReader(body), ContentType: aws.String("text/plain"),
			Metadata: map[string]string{"a": "1"}, Tagging: aws.String("t=1"),
		}
		if change != nil {
			change(in)
		}
		if _, err := side.S3.PutObject(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		key, body string
		change    func(*s3.PutObjectInput)
		want      []string
	}{
		{"same", "body", func(in *s3.PutObjectInput) { in.Metadata["s3ferry-sequencer"] = "1" }, nil},
		{"bytes", "bodY", nil, []string{"checksum", "the bytes differ"}},
		{"shorter", "bod", nil, []string{"4 bytes here and 3 there", "checksum", "the bytes differ"}},
		{"type", "body", func(in *s3.PutObjectInput) { in.ContentType = aws.String("text/html") }, []string{"Content-Type"}},
		{"cache", "body", func(in *s3.PutObjectInput) { in.CacheControl = aws.String("no-store") }, []string{"Cache-Control"}},
		{"encoding", "body", func(in *s3.PutObjectInput) { in.ContentEncoding = aws.String("gzip") }, []string{"Content-Encoding"}},
		{"metadata", "body", func(in *s3.PutObjectInput) { in.Metadata = nil }, []string{"metadata"}},
		{"tags", "body", func(in *s3.PutObjectInput) { in.Tagging = aws.String("t=2") }, []string{"tags"}},
	} {
		put(from, tc.key, "body", nil)
		put(to, tc.key, tc.body, tc.change)
		_, differences, err := Compare(t.Context(), from, to, tc.key)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range differences {
			if strings.HasPrefix(d, "CRC") || strings.HasPrefix(d, "SHA") {
				d = "checksum"
			}
			got = append(got, d)
		}
		if len(got) != len(tc.want) {
			t.Errorf("%s: got %q, want %q", tc.key, got, tc.want)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], tc.want[i]) {
				t.Errorf("%s: got %q, want %q", tc.key, got[i], tc.want[i])
			}
		}
	}
}

// What was deleted may be on neither side.
func TestCompareFindsWhatWasDeleted(t *testing.T) {
	from, to := sides(t)
	for _, tc := range []struct {
		at   []Side
		want string
	}{
		{nil, ""}, {[]Side{to}, "was deleted, and destination has it"}, {[]Side{from}, "was deleted, and source has it"},
	} {
		key := fmt.Sprintf("deleted from all but %d", len(tc.at)) + tc.want
		for _, side := range tc.at {
			if _, err := side.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &side.Bucket, Key: &key, Body: strings.NewReader("x")}); err != nil {
				t.Fatal(err)
			}
		}
		var r Report
		if err := r.compare(t.Context(), from, to, []Object{{Kind: "deleted", Key: key, Deleted: true}}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Differences, "; "); !strings.HasSuffix(got, tc.want) || (got == "") != (tc.want == "") || (r.Deleted == 1) != (tc.want == "") {
			t.Errorf("got %q and %d deleted, want %q", got, r.Deleted, tc.want)
		}
	}
}

func TestRunGivesUpWhenNothingArrives(t *testing.T) {
	from, to := sides(t)
	_, err := Run(t.Context(), from, to, []Object{made("small", "lost", 1, 5)}, Options{Patience: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), `"lost"`) {
		t.Errorf("got %v, want an error that names the missing object", err)
	}
}

func TestPatternIsTheSameFromAnyPlace(t *testing.T) {
	const size = 3*patternBlock + 12345
	whole, err := io.ReadAll(Pattern(1, size))
	if err != nil || len(whole) != size {
		t.Fatalf("got %d bytes, %v", len(whole), err)
	}
	if err := iotest.TestReader(Pattern(1, 100_000), whole[:0:0]); err == nil {
		t.Error("a pattern of 100,000 bytes passes for an empty one")
	}
	if err := iotest.TestReader(Pattern(1, size), whole); err != nil {
		t.Error(err)
	}
	if other, err := io.ReadAll(Pattern(2, size)); err != nil || bytes.Equal(other, whole) {
		t.Errorf("two seeds give the same bytes (%v)", err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"b.html": "<p>", "sub/图.bin": "x", "sub/deep/empty": ""} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := Directory(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, o := range objects {
		got[o.Key] = o.Size
	}
	if diff := cmp.Diff(map[string]int64{"b.html": 3, "sub/图.bin": 1, "sub/deep/empty": 0}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, dir := range map[string]string{"missing": filepath.Join(dir, "none"), "empty": t.TempDir()} {
		if objects, err := Directory(dir); err == nil {
			t.Errorf("%s: got %v", name, objects)
		}
	}
}
