package s3gw

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3response"
)

// committing is a backend whose writes read their body and then stay in their
// commit for a while, in the hope that another one joins them.
type committing struct {
	backend.BackendUnsupported
	inside  atomic.Int32
	joined  chan struct{}
	overlap atomic.Bool
}

func (b *committing) PutObject(_ context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	if _, err := io.Copy(io.Discard, in.Body); err != nil {
		return s3response.PutObjectOutput{}, err
	}
	if b.inside.Add(1) > 1 {
		b.overlap.Store(true)
		close(b.joined)
	}
	defer b.inside.Add(-1)
	select {
	case <-b.joined:
	case <-time.After(100 * time.Millisecond):
	}
	return s3response.PutObjectOutput{}, nil
}

// Without this the sequencers of a key could contradict the order of its writes.
func TestWritesOfAKeyAreCommittedOneByOne(t *testing.T) {
	b := &committing{joined: make(chan struct{})}
	s := &store{Backend: b}
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			if _, err := s.PutObject(t.Context(), s3response.PutObjectInput{
				Bucket: aws.String("bucket"), Key: aws.String("key"),
				Body: bytes.NewReader([]byte("data")), ContentLength: aws.Int64(4),
			}); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if b.overlap.Load() {
		t.Error("two writes of one key were committed at once")
	}
}

func TestWithoutFraming(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "gzip": "gzip", "aws-chunked": "", "aws-chunked,gzip": "gzip", "gzip, AWS-Chunked": "gzip", "a, aws-chunked, b": "a, b",
	} {
		if got := aws.ToString(withoutFraming(&in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestPartition(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eusc-de-east-1": "aws-eusc",
	} {
		if got := partition(region); got != want {
			t.Errorf("%s: got %s, want %s", region, got, want)
		}
	}
}

func TestWholeBody(t *testing.T) {
	for name, tc := range map[string]struct {
		body   io.Reader
		length int64
		whole  bool
	}{
		"whole":     {strings.NewReader("1234"), 4, true},
		"empty":     {strings.NewReader(""), 0, true},
		"none":      {nil, 0, true},
		"short":     {strings.NewReader("123"), 4, false},
		"long":      {strings.NewReader("12345"), 4, false},
		"hung up":   {io.MultiReader(strings.NewReader("1234"), iotest.ErrReader(io.ErrUnexpectedEOF)), 4, false},
		"in pieces": {iotest.OneByteReader(strings.NewReader("1234")), 4, true},
		"with EOF":  {iotest.DataErrReader(strings.NewReader("1234")), 4, true},
	} {
		ended := false
		_, err := io.Copy(io.Discard, wholeBody(tc.body, tc.length, func() error { ended = true; return nil }))
		if (err == nil) != tc.whole || ended != tc.whole {
			t.Errorf("%s: error %v, end told: %v", name, err, ended)
		}
	}
}
