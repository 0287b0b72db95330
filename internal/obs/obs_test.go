package obs_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

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
	)
	for _, leak := range []string{"X-Amz-Signature", "abc", "tok"} {
		if strings.Contains(log.String(), leak) {
			t.Errorf("%q is in the log:\n%s", leak, log.String())
		}
	}
	for _, kept := range []string{"b.s3.us-east-1.amazonaws.com/k%20x?[redacted]", `\": reset`, `"n":7`} {
		if !strings.Contains(log.String(), kept) {
			t.Errorf("%q is not in the log:\n%s", kept, log.String())
		}
	}
}
