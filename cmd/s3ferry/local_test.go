package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

// hangTime bounds waits that only end late when something is broken. Functions
// may have to be compiled first.
const hangTime = 10 * time.Minute

func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	os.Exit(m.Run())
}

func TestExitCodes(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		want   int
		stderr string
	}{
		"help":                       {[]string{"local", "--help"}, exitOK, ""},
		"version":                    {[]string{"--version"}, exitOK, ""},
		"unknown command":            {[]string{"swim"}, exitUsage, `unknown command "swim"`},
		"unknown flag":               {[]string{"local", "--depth", "3"}, exitUsage, "unknown flag: --depth"},
		"an argument":                {[]string{"local", "here"}, exitUsage, "here"},
		"port that is none":          {[]string{"local", "--api-port", "x"}, exitUsage, "--api-port"},
		"a port for no view":         {[]string{"local", "--ui-port", "8080"}, exitUsage, "--ui-port: got 8080 without --ui"},
		"authorization that is none": {[]string{"local", "--authorization", "none"}, exitUsage, "expected apiKey or iam"},
		"endpoint by a name":         {[]string{"local", "--presign-endpoint", "http://example.com:1"}, exitFailed, "expected scheme, IP address and port"},
		"no receivers":               {[]string{"local", "--receiver-concurrency", "-1"}, exitFailed, "receiver concurrency: got -1"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot()
			var stdout, stderr bytes.Buffer
			root.SetOut(&stdout)
			root.SetErr(&stderr)
			if got := run(t.Context(), root, tc.args); got != tc.want {
				t.Errorf("exit code %d, want %d", got, tc.want)
			}
			if !strings.Contains(stderr.String(), tc.stderr) || (tc.stderr == "") != (stderr.Len() == 0) {
				t.Errorf("stderr %q, want %q in it", stderr.String(), tc.stderr)
			}
		})
	}
}

// The line on standard output is for programs: nothing else may be there.
func TestLocalSaysWhenItIsReadyAndStops(t *testing.T) {
	ctx, interrupt := context.WithTimeout(t.Context(), hangTime)
	defer interrupt()
	root := newRoot()
	out, stdout := io.Pipe()
	var stderr bytes.Buffer
	root.SetOut(stdout)
	root.SetErr(&stderr)
	code := make(chan int)
	go func() {
		n := run(ctx, root, []string{"local", "--ui", "--dir", t.TempDir()})
		_ = stdout.Close()
		code <- n
	}()

	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		<-code
		t.Fatalf("no line: %v\n%s", err, stderr.String())
	}
	var got announcement
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	for _, url := range []string{got.Source.Endpoint, got.Destination.Endpoint, got.API.URL, got.SQS.Endpoint, got.SQS.Queues.Inbox, got.UI} {
		if !strings.HasPrefix(url, "http://127.0.0.1:") {
			t.Errorf("%q is not on this machine alone", url)
		}
	}
	if answer, err := http.Get(got.UI); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("the live view answers %v, %v", answer, err)
	}
	interrupt()
	rest, err := io.ReadAll(lines)
	if n := <-code; n != exitOK || err != nil || len(rest) > 0 {
		t.Errorf("exit code %d, %v, and %q on standard output", n, err, rest)
	}
	if want := "0 events, 0 messages sent, receipts: none, 0 bytes copied\n"; stderr.String() != want {
		t.Errorf("stderr %q, want %q", stderr.String(), want)
	}
}
