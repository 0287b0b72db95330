package s3gw_test

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
)

func TestEventsOfEveryKindOfWrite(t *testing.T) {
	for _, bucket := range []string{plain, versioned} {
		q := newQueue(t)
		c := client(start(t, q.configure(config(t.TempDir()), bucket)))
		before := time.Now().Add(-time.Second)
		last := ""
		check := func(kind, key, encoded string, size int, head *s3.HeadObjectOutput) {
			t.Helper()
			record := q.next(t)
			at, err := time.Parse("2006-01-02T15:04:05.000Z", record["eventTime"].(string))
			if err != nil || at.Before(before) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("%s: eventTime %v: %v", key, record["eventTime"], err)
			}
			sequencer := object(record)["sequencer"].(string)
			if !regexp.MustCompile(`^[0-9A-F]{16}$`).MatchString(sequencer) || sequencer <= last {
				t.Errorf("%s: sequencer %s after %s", key, sequencer, last)
			}
			last = sequencer
			if decoded, err := url.QueryUnescape(object(record)["key"].(string)); err != nil || decoded != key {
				t.Errorf("%s: decodes to %q, %v", key, decoded, err)
			}
			want := map[string]any{
				"key": encoded, "size": float64(size), "eTag": strings.Trim(*head.ETag, `"`), "sequencer": sequencer,
			}
			if bucket == versioned {
				want["versionId"] = *head.VersionId
			}
			owner := map[string]any{"principalId": "AKIAROOT"}
			full := map[string]any{
				"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": region, "eventTime": record["eventTime"],
				"eventName": kind, "userIdentity": owner, "requestParameters": map[string]any{"sourceIPAddress": "127.0.0.1"},
				"responseElements": map[string]any{"x-amz-request-id": sequencer, "x-amz-id-2": sequencer},
				"s3": map[string]any{
					"s3SchemaVersion": "1.0", "configurationId": "s3ferry",
					"bucket": map[string]any{"name": bucket, "ownerIdentity": owner, "arn": "arn:aws:s3:::" + bucket},
					"object": want,
				},
			}
			if diff := cmp.Diff(full, record); diff != "" {
				t.Errorf("%s: want (-), got (+):\n%s", key, diff)
			}
		}
		head := func(key string) *s3.HeadObjectOutput {
			t.Helper()
			out, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		for key, encoded := range map[string]string{
			"plain.txt":           "plain.txt",
			"dir/sub/red flower":  "dir/sub/red+flower",
			"a+b=c&d":             "a%2Bb%3Dc%26d",
			"100%/50%25":          "100%25/50%2525",
			`quo"te'and\back`:     "quo%22te%27and%5Cback",
			"中文/文件 名.txt":         "%E4%B8%AD%E6%96%87/%E6%96%87%E4%BB%B6+%E5%90%8D.txt",
			"ferry-😀":             "ferry-%F0%9F%98%80",
			"tilde~star*under_.x": "tilde~star%2Aunder_.x",
		} {
			put(t, c, bucket, key, "12345")
			check("ObjectCreated:Put", key, encoded, 5, head(key))

			data := random(6<<20, 9)
			if err := finish(t, c, bucket, key, createUpload(t, c, bucket, key), data, nil, nil); err != nil {
				t.Fatal(err)
			}
			check("ObjectCreated:CompleteMultipartUpload", key, encoded, len(data), head(key))

			other := "copy of/" + key
			if _, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{
				Bucket: &bucket, Key: &other, CopySource: aws.String(bucket + "/" + strings.ReplaceAll(url.QueryEscape(key), "+", "%20")),
			}); err != nil {
				t.Fatal(err)
			}
			check("ObjectCreated:Copy", other, "copy+of/"+encoded, len(data), head(other))
		}
		put(t, c, bucket, "empty", "")
		check("ObjectCreated:Put", "empty", "empty", 0, head("empty"))
		elsewhere := map[string]string{plain: versioned, versioned: plain}[bucket]
		put(t, c, elsewhere, "quiet", "no event")
		if len(q.bodies) != 0 {
			t.Errorf("an event too many: %s", <-q.bodies)
		}
	}
}

// The functions read events with this library.
func TestEventsDecodeAsLambdaEvents(t *testing.T) {
	q := newQueue(t)
	c := client(start(t, q.configure(config(t.TempDir()), versioned)))
	out := put(t, c, versioned, "文件 +.txt", "123")
	var event events.S3Event
	decode(t, <-q.bodies, &event)
	got := event.Records[0].S3.Object
	if got.URLDecodedKey != "文件 +.txt" || got.Size != 3 || got.VersionID != *out.VersionId || event.Records[0].EventTime.IsZero() {
		t.Errorf("got %+v", event.Records[0])
	}
}

func TestNoEventOfARefusedWrite(t *testing.T) {
	q := newQueue(t)
	c := client(start(t, q.configure(config(t.TempDir()), plain)))
	put(t, c, plain, "key", "first")
	q.next(t)
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(plain), Key: aws.String("key"), IfNoneMatch: aws.String("*"), Body: strings.NewReader("second"),
	})
	wantError(t, "put", err, 412, "PreconditionFailed")
	if len(q.bodies) != 0 {
		t.Errorf("an event came: %s", <-q.bodies)
	}
}

func TestEventsOutlastAnOutage(t *testing.T) {
	q := newQueue(t)
	cfg := q.configure(config(t.TempDir()), plain)
	server := start(t, cfg)
	q.broken.Store(true)
	put(t, client(server), plain, "while down", "1")
	q.broken.Store(false)
	first := object(q.next(t))
	if first["key"] != "while+down" {
		t.Errorf("got %v", first)
	}
	spooled := func() bool {
		events, err := os.ReadDir(filepath.Join(cfg.Dir, "events"))
		if err != nil {
			t.Fatal(err)
		}
		return len(events) > 0
	}
	for spooled() { // or a kill makes it send the first one again
		time.Sleep(time.Millisecond)
	}

	q.broken.Store(true)
	put(t, client(server), plain, "before the kill", "2")
	kill(t, server)
	server = start(t, cfg)
	put(t, client(server), plain, "after the restart", "3")
	stop(t, server)
	q.broken.Store(false)
	server = start(t, cfg)
	second, third := object(q.next(t)), object(q.next(t))
	if second["key"] != "before+the+kill" || third["key"] != "after+the+restart" {
		t.Errorf("got %v and %v", second, third)
	}
	if first["sequencer"].(string) >= second["sequencer"].(string) || second["sequencer"].(string) >= third["sequencer"].(string) {
		t.Errorf("sequencers %v, %v, %v", first["sequencer"], second["sequencer"], third["sequencer"])
	}
	put(t, client(server), plain, "last", "4")
	if last := object(q.next(t)); last["key"] != "last" {
		t.Errorf("an event came twice: %v", last)
	}
}

// Writers of one key get sequencers in the order in which their objects won.
func TestSequencerFollowsTheOrderOfWrites(t *testing.T) {
	q := newQueue(t)
	c := client(start(t, q.configure(config(t.TempDir()), versioned)))
	const writers, rounds = 4, 20
	for range rounds {
		done := make(chan struct{})
		for i := range writers {
			go func() { put(t, c, versioned, "key", strings.Repeat("x", i*10_000)); done <- struct{}{} }()
		}
		for range writers {
			<-done
		}
		newest := map[string]any{"sequencer": ""}
		for range writers {
			if o := object(q.next(t)); o["sequencer"].(string) > newest["sequencer"].(string) {
				newest = o
			}
		}
		head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(versioned), Key: aws.String("key")})
		if err != nil {
			t.Fatal(err)
		}
		if *head.VersionId != newest["versionId"] {
			t.Fatalf("the object is version %s, the newest event says %v", *head.VersionId, newest["versionId"])
		}
	}
}
