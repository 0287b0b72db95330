package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/backfill"
	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// What has broken off is read on from a byte of the file.
func TestAnInventoryIsOpenedAtAByte(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "0.csv.gz"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/inventories/data/0.csv.gz" {
			w.WriteHeader(http.StatusNotFound)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader([]byte("0123456789")))
	}))
	defer server.Close()
	client := localBucket(localcloud.Bucket{Endpoint: server.URL, Region: "us-east-1", AccessKeyID: "k", SecretAccessKey: "s"})
	for name, open := range map[string]backfill.Open{
		"bucket": inBucket(client, "inventories"), "directory": besideManifest(filepath.Join(dir, "manifest.json")),
	} {
		for from, want := range map[int64]string{0: "0123456789", 7: "789"} {
			body, err := open(t.Context(), "data/0.csv.gz", from)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil || string(got) != want {
				t.Errorf("%s at %d: got %q, %v, want %q", name, from, got, err, want)
			}
			_ = body.Close()
		}
	}
}

func TestWhatCannotBeQueuedFailsABackfill(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<ListBucketResult><Contents><Key>"+strings.Repeat("k", 1025)+"</Key></Contents></ListBucketResult>")
	}))
	defer server.Close()
	for _, flags := range [][]string{nil, {"--json"}} {
		root := newRoot()
		var stdout, stderr bytes.Buffer
		root.SetOut(&stdout)
		root.SetErr(&stderr)
		root.SetIn(strings.NewReader(description(t, server.URL, "")))
		code := run(t.Context(), root, append([]string{"backfill", "--local", "-", "--dry-run"}, flags...))
		if code != exitFailed || stdout.Len() == 0 || !strings.Contains(stderr.String(), "1 objects cannot be carried, such as") {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", flags, code, stdout.String(), stderr.String())
		}
	}
}
