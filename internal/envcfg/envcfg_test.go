package envcfg_test

import (
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestEncodeDecodeRoundTrip(t *testing.T) {
	in := envcfg.Sender{
		OutboxURL: "https://q/outbox", OutboxDLQURL: "https://q/dlq", LinkSecret: "arn:x:secret",
		SignerRole: "arn:x:role", URLLife: 45 * time.Minute,
	}
	env := envcfg.Encode(&in)
	if _, ok := env["S3FERRY_TEST_SOURCE_ENDPOINT"]; ok {
		t.Error("an empty test-only variable is in the environment block")
	}
	var out envcfg.Sender
	if err := envcfg.Decode(&out, lookup(env)); err != nil {
		t.Fatal(err)
	}
	if in != out {
		t.Errorf("got %+v, want %+v", out, in)
	}
}

func TestDecodeReportsEveryProblemAtOnce(t *testing.T) {
	var cfg envcfg.Receiver
	err := envcfg.Decode(&cfg, lookup(map[string]string{
		"S3FERRY_INBOX_URL": "https://q/inbox", "S3FERRY_PART_SIZE": "8MiB", "S3FERRY_CONNECTIONS": "-1",
	}))
	if err == nil {
		t.Fatal("a broken environment was accepted")
	}
	for _, want := range []string{
		"S3FERRY_INBOX_DLQ_URL: got nothing, expected a value",
		`S3FERRY_PART_SIZE: got "8MiB", expected a positive whole number`,
		`S3FERRY_CONNECTIONS: got "-1", expected a positive whole number`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "TEST_SOURCE_ENDPOINT") {
		t.Error("a test-only variable is demanded")
	}
}
