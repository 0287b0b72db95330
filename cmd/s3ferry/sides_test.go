package main

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// The SDK's own quota is empty after a hundred retries of all calls together.
func TestAPatientClientHasNoQuotaOfRetries(t *testing.T) {
	client := s3.NewFromConfig(patient(aws.Config{HTTPClient: awshttp.NewBuildableClient()})).Options()
	if got := client.Retryer.MaxAttempts(); got != attempts {
		t.Errorf("got %d attempts, want %d", got, attempts)
	}
	for n := range 1000 {
		if _, err := client.Retryer.GetRetryToken(t.Context(), errors.New("connection reset")); err != nil {
			t.Fatalf("retry %d: %v", n, err)
		}
	}
	if got := client.HTTPClient.(*awshttp.BuildableClient).GetTransport().ResponseHeaderTimeout; got != answerTime {
		t.Errorf("waits %v for an answer, want %v", got, answerTime)
	}
}
