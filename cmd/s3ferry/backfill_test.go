package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
