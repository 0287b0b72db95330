package receiver

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

func TestSizesThatS3CannotHoldAreRefused(t *testing.T) {
	_, err := New(t.Context(), envcfg.Receiver{PartSize: 1 << 20, MemoryMiB: 4}, slog.New(slog.DiscardHandler))
	for _, want := range []string{"part size: got 1048576 bytes", "memory budget: got 4 MiB"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

func TestARequestThatIsNeverAnsweredIsMadeAgain(t *testing.T) {
	var requests atomic.Int64
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if requests.Add(1) == 1 {
			<-done // not even the client's leaving ends it
		}
	}))
	defer server.Close()
	defer close(done)
	client := s3.New(s3.Options{
		Region: "cn-north-1", BaseEndpoint: &server.URL, UsePathStyle: true, HTTPClient: httpClient(time.Second),
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	if _, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key")}); err != nil {
		t.Error(err)
	}
	if got := requests.Load(); got < 2 {
		t.Errorf("%d requests, want another", got)
	}
}
