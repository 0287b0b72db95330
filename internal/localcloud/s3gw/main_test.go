package s3gw_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

const (
	region    = "eu-west-1"
	plain     = "plain-bucket"
	versioned = "versioned-bucket"
)

// parentMarker makes this binary start a server in the directory it names and
// then wait to be killed.
const parentMarker = "S3GW_TEST_PARENT"

func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	if dir := os.Getenv(parentMarker); dir != "" {
		server, err := s3gw.Start(context.Background(), config(dir))
		fmt.Println(server.Endpoint, err)
		select {}
	}
	os.Exit(m.Run())
}

func config(dir string) s3gw.Config {
	return s3gw.Config{
		Dir: dir, Region: region, AccessKeyID: "AKIAROOT", SecretAccessKey: "root/secret+key",
		Buckets: []s3gw.Bucket{{Name: plain}, {Name: versioned, Versioned: true}},
	}
}

// start runs a server until the test ends, or until it is stopped.
func start(t *testing.T, cfg s3gw.Config) *s3gw.Server {
	t.Helper()
	server, err := s3gw.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *s3gw.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func client(server *s3gw.Server) *s3.Client {
	return sessionClient(server, "AKIAROOT", "root/secret+key", "")
}

func sessionClient(server *s3gw.Server, id, secret, token string) *s3.Client {
	return s3.New(s3.Options{
		Region: region, BaseEndpoint: &server.Endpoint, UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token),
	})
}

func put(t *testing.T, c *s3.Client, bucket, key, body string) *s3.PutObjectOutput {
	t.Helper()
	out, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte(body)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func get(t *testing.T, c *s3.Client, bucket, key string) string {
	t.Helper()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return read(t, out.Body)
}

func read(t *testing.T, body io.ReadCloser) string {
	t.Helper()
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wantError fails unless err is an S3 error with that status and code. A HEAD
// has no body, so its code is not looked at.
func wantError(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	response, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err)
	if !ok {
		t.Errorf("%s: got %v, want status %d", what, err, status)
		return
	}
	api, _ := errors.AsType[smithy.APIError](err)
	if response.HTTPStatusCode() != status || (code != "" && api.ErrorCode() != code) {
		t.Errorf("%s: got %v, want %d %s", what, err, status, code)
	}
}

func random(n int, seed byte) []byte {
	data := make([]byte, n)
	state := uint32(seed) + 1
	for i := range data {
		state = state*1664525 + 1013904223
		data[i] = byte(state >> 24)
	}
	return data
}

// queue is an SQS that knows SendMessage and keeps the bodies.
type queue struct {
	*httptest.Server
	bodies chan string
	broken atomic.Bool
}

func newQueue(t *testing.T) *queue {
	q := &queue{bodies: make(chan string, 1000)}
	q.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // its sender was killed
		}
		var in struct{ QueueUrl, MessageBody string }
		if err := json.Unmarshal(body, &in); err != nil || r.Header.Get("X-Amz-Target") != "AmazonSQS.SendMessage" {
			t.Errorf("the queue got %s: %v", r.Header.Get("X-Amz-Target"), err)
		}
		if q.broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		q.bodies <- in.MessageBody
		sum := md5.Sum([]byte(in.MessageBody))
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_ = json.NewEncoder(w).Encode(map[string]string{
			"MessageId": "1", "MD5OfMessageBody": hex.EncodeToString(sum[:]),
		})
	}))
	t.Cleanup(q.Close)
	return q
}

func (q *queue) configure(cfg s3gw.Config, bucket string) s3gw.Config {
	cfg.EventBucket, cfg.EventQueueURL, cfg.SQSEndpoint = bucket, q.URL+"/000000000000/outbox", q.URL
	return cfg
}

func (q *queue) next(t *testing.T) map[string]any {
	t.Helper()
	select {
	case body := <-q.bodies:
		var in struct{ Records []map[string]any }
		if err := json.Unmarshal([]byte(body), &in); err != nil || len(in.Records) != 1 {
			t.Fatalf("not one record: %v\n%s", err, body)
		}
		return in.Records[0]
	case <-time.After(time.Minute):
		t.Fatal("no event came")
		return nil
	}
}

func object(record map[string]any) map[string]any {
	return record["s3"].(map[string]any)["object"].(map[string]any)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}
