package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// description is the line that a laptop cloud would print whose every server is at
// url.
func description(t *testing.T, url, logs string) string {
	t.Helper()
	side := func(name string) localcloud.Bucket {
		return localcloud.Bucket{Endpoint: url, Bucket: name, Region: "us-east-1", AccessKeyID: "k", SecretAccessKey: "s"}
	}
	line, err := json.Marshal(localcloud.Description{
		Source: side("from"), Destination: side("to"), Logs: logs,
		SQS: localcloud.SQS{
			Endpoint: url, Region: "us-east-1", AccessKeyID: "k", SecretAccessKey: "s",
			Queues: localcloud.Queues{Outbox: url + "/outbox", OutboxDLQ: url + "/odlq", InboxDLQ: url + "/idlq"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

func TestExitCodesOfRepair(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.json")
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "cloud.json")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	cloud, nonsense, empty := file(description(t, "http://127.0.0.1:1", "")), file("nonsense"), file("{}")
	for name, tc := range map[string]struct {
		args   []string
		want   int
		stderr string
	}{
		"no sides":                    {[]string{"verify"}, exitUsage, "got neither --local nor a profile"},
		"half the sides":              {[]string{"verify", "--global-profile", "g"}, exitUsage, "--china-profile: got nothing"},
		"the other half":              {[]string{"redrive", "--china-profile", "c"}, exitUsage, "--global-profile: got nothing"},
		"both ways":                   {[]string{"backfill", "--local", "x", "--global-profile", "g"}, exitUsage, "--local goes with neither"},
		"an argument":                 {[]string{"backfill", "here", "--local", "x"}, exitUsage, "here"},
		"a rate below zero":           {[]string{"backfill", "--local", "x", "--rate", "-1"}, exitUsage, "--rate: got -1"},
		"a state of nothing":          {[]string{"backfill", "--local", "x", "--state", "s", "--dry-run"}, exitUsage, "--dry-run does nothing"},
		"no lookups":                  {[]string{"verify", "--local", "x", "--lookups", "0"}, exitUsage, "--lookups: got 0"},
		"another queue":               {[]string{"redrive", "--local", "x", "--queue", "receipts"}, exitUsage, `--queue: got "receipts"`},
		"two ways to change nothing":  {[]string{"redrive", "--local", "x", "--list", "--dry-run"}, exitUsage, "--list and --dry-run"},
		"a pattern that is no key":    {[]string{"redrive", "--local", "x", "--key", "\xff*"}, exitUsage, `--key: got "\xff*", expected UTF-8`},
		"no such file":                {[]string{"redrive", "--local", none}, exitFailed, "--local: open"},
		"no such file for a backfill": {[]string{"backfill", "--local", none}, exitFailed, "--local: open"},
		"nothing to compare":          {[]string{"verify", "--local", none}, exitNotCompared, "not compared to the end: --local: open"},
		"no such report":              {[]string{"verify", "--local", cloud, "--report", filepath.Join(none, "x")}, exitNotCompared, "--report: open"},
		"not what local prints":       {[]string{"verify", "--local", nonsense}, exitNotCompared, "read the line that `s3ferry local` prints"},
		"a cloud of nothing":          {[]string{"verify", "--local", empty}, exitNotCompared, "got no source.endpoint, source.bucket, "},
		"nothing to backfill":         {[]string{"backfill", "--local", empty, "--dry-run"}, exitFailed, "sqs.queues.outbox, sqs.queues.outboxDlq, sqs.queues.inboxDlq, expected the line"},
		"nothing to redrive":          {[]string{"redrive", "--local", empty}, exitFailed, "--local: got no source.endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot()
			var stdout, stderr bytes.Buffer
			root.SetOut(&stdout)
			root.SetErr(&stderr)
			if got := run(t.Context(), root, tc.args); got != tc.want {
				t.Errorf("exit code %d, want %d", got, tc.want)
			}
			if !strings.Contains(stderr.String(), tc.stderr) || stdout.Len() > 0 {
				t.Errorf("stderr %q, want %q in it, and stdout %q, want nothing", stderr.String(), tc.stderr, stdout.String())
			}
		})
	}
}

// What a comparison has found and queued before an error is told all the same.
func TestVerifyTellsWhatItFoundBeforeAnError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch key := path.Base(r.URL.Path); {
		case r.Method == http.MethodPost: // SQS
			_, _ = io.WriteString(w, `{"Successful":[{"Id":"0"}]}`)
		case r.URL.Query().Has("list-type"):
			fmt.Fprint(w, "<ListBucketResult><Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></ListBucketResult>")
		case key == "b":
			w.WriteHeader(http.StatusConflict) // which is neither an answer nor tried again
		case strings.HasPrefix(r.URL.Path, "/from/"):
			w.Header().Set("ETag", `"e"`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
		}
	}))
	defer server.Close()
	line := description(t, server.URL, "")
	for flag, want := range map[string]string{
		"--json": `"missing":1,"stale":0,"extra":0,"unknown":0,"elsewhere":0,"queued":1}`,
		"--tags": "1 missing, 0 stale, 0 extra, 0 unknown\n1 repairs queued\n",
	} {
		root := newRoot()
		var stdout, stderr bytes.Buffer
		root.SetOut(&stdout)
		root.SetErr(&stderr)
		root.SetIn(strings.NewReader(line))
		code := run(t.Context(), root, []string{"verify", "--local", "-", "--repair", "--lookups", "1", flag})
		if code != exitNotCompared || !strings.Contains(stdout.String(), want) || !strings.Contains(stderr.String(), `not compared to the end: head "b"`) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", flag, code, stdout.String(), stderr.String())
		}
	}
}
