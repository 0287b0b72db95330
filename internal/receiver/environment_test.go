package receiver

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

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
		Region: "cn-north-1", BaseEndpoint: &server.URL, UsePathStyle: true, HTTPClient: httpClient(300 * time.Millisecond),
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	if _, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key")}); err != nil {
		t.Error(err)
	}
	if got := requests.Load(); got < 2 {
		t.Errorf("%d requests, want another", got)
	}
}
