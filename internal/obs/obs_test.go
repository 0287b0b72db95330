package obs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/obs"
)

func TestScrub(t *testing.T) {
	const signed = "https://b.s3.us-east-1.amazonaws.com/k%20x?X-Amz-Signature=abc&X-Amz-Security-Token=tok"
	cause := &url.Error{Op: "Get", URL: signed, Err: errors.New("reset")}

	var log bytes.Buffer
	logger := slog.New(obs.Scrub(slog.NewJSONHandler(&log, nil)))
	logger.With("with", signed).WithGroup("g").Info(
		"message "+signed,
		"text", signed, "error", fmt.Errorf("pull: %w", cause),
		slog.Group("inner", "text", signed, "error", cause), "n", 7,
		"list", []string{signed}, "struct", struct{ URL string }{signed}, "map", map[string]any{"url": signed}, "whole", []int{1, 2},
	)
	for _, leak := range []string{"X-Amz-Signature", "abc", "tok"} {
		if strings.Contains(log.String(), leak) {
			t.Errorf("%q is in the log:\n%s", leak, log.String())
		}
	}
	for _, kept := range []string{"b.s3.us-east-1.amazonaws.com/k%20x?[redacted]", `\": reset`, `"n":7`, `"whole":[1,2]`} {
		if !strings.Contains(log.String(), kept) {
			t.Errorf("%q is not in the log:\n%s", kept, log.String())
		}
	}
}

// What net/http and the SDK say of a request has its URL in it, and a signed one
// has the signature in that.
func TestErrorsOfClientsKeepTheSignature(t *testing.T) {
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://127.0.0.1:1"), RetryMaxAttempts: 1, UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "s", SessionToken: "canary-token"}, nil
		}),
	})
	in := &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")}
	signed, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, signed.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, httpErr := http.DefaultClient.Do(request)
	_, sdkErr := client.GetObject(t.Context(), in)
	_, parseErr := url.Parse(signed.URL + "\x7f")
	if httpErr == nil || sdkErr == nil || parseErr == nil || !strings.Contains(httpErr.Error(), "canary-token") || !strings.Contains(parseErr.Error(), "canary-token") {
		t.Fatalf("got %v, %v, %v: this test proves nothing", httpErr, sdkErr, parseErr)
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		for _, err := range []error{httpErr, sdkErr, parseErr} {
			slog.New(obs.Scrub(handler)).Error("call failed: "+err.Error(), "error", fault.Transient("x", err), "reason", err.Error())
		}
	}
	_, query, _ := strings.Cut(signed.URL, "X-Amz-Signature=")
	signature, _, _ := strings.Cut(query, "&")
	for _, leak := range []string{"canary-token", signature} {
		if strings.Contains(log.String(), leak) {
			t.Errorf("%q is in the log:\n%s", leak, log.String())
		}
	}
}
