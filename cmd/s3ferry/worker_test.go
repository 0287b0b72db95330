package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

// Whatever the constructs tell a receiver, a flag can tell a worker.
func TestAWorkerHasAFlagForEverySetting(t *testing.T) {
	var got []string
	for _, s := range workerSettings {
		got = append(got, s.variable)
	}
	slices.Sort(got)
	want := slices.Sorted(maps.Keys(envcfg.Encode(&envcfg.Receiver{
		Deletes: true, TagChanges: true, Unconditional: true, StripPrefix: "a", AddPrefix: "a", StorageClasses: map[string]string{"*": "STANDARD"}, SourceNetworks: []netip.Prefix{{}},
	})))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags of worker (+), settings of a receiver (-):\n%s", diff)
	}
}

// withoutAWS has a test find no AWS configuration but what it sets, and no
// settings of a receiver.
func withoutAWS(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "", "AWS_DEFAULT_PROFILE": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
	} {
		t.Setenv(name, value)
	}
	for _, s := range workerSettings {
		t.Setenv(s.variable, "")
	}
}

// Whatever is wrong with a worker's flags is said at once, by their names.
func TestWorkerFlags(t *testing.T) {
	withoutAWS(t)
	t.Setenv("S3FERRY_CONNECTIONS", "0")
	_, stderr, code := command(t.Context(), "worker", "more", "--deletes=maybe", "--concurrency", "0", "--grace", "0s", "--part-size", "-1")
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	for _, want := range []string{
		`unknown command "more"`, "--queue-url (S3FERRY_INBOX_URL): got nothing", "--dead-letter-url (S3FERRY_INBOX_DLQ_URL): got nothing",
		"--receipts-url", "--trust-parameter", "--destination-bucket", "--journal-bucket",
		`--deletes (S3FERRY_DELETES): got "maybe", expected true`, `--part-size (S3FERRY_PART_SIZE): got "-1"`,
		`--connections (S3FERRY_CONNECTIONS): got "0"`,
		"--concurrency: got 0", "--grace: got 0s", "AWS region: got none", "Run with --help",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("got %q, want %q in it", stderr, want)
		}
	}
}

// A worker starts as it is told; a flag that stands alone takes no other for its
// value. Its log is read as that of a function.
func TestWorkerStarts(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_REGION", "cn-north-1")
	t.Setenv("S3FERRY_JOURNAL_BUCKET", "journal")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stdout, stderr, code := command(ended, "worker", "--deletes", "--tag-changes", "--unconditional-writes", "--concurrency", "5",
		"--queue-url", "http://127.0.0.1:1/q", "--dead-letter-url", "http://127.0.0.1:1/d", "--receipts-url", "http://127.0.0.1:1/r",
		"--trust-parameter", "trust", "--destination-bucket", "destination")
	first, _, _ := strings.Cut(stdout, "\n")
	var line map[string]any
	if err := json.Unmarshal([]byte(first), &line); err != nil || code != exitOK {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if line["message"] != "worker starts" || line["concurrency"] != 5.0 || line["timestamp"] == nil || line["level"] != "INFO" {
		t.Errorf("got %s", first)
	}
}
