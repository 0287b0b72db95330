package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/status"
)

// Through two profiles and through the file of a laptop cloud, status says the same.
func TestStatusOfALaptopCloud(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	cloud, err := localcloud.Start(ctx, localcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := cloud.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	writeProfiles(t, cloud.SQS.Endpoint)
	line, err := json.Marshal(cloud.Description)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cloud.json")
	if err := os.WriteFile(file, line, 0o600); err != nil {
		t.Fatal(err)
	}
	local := []string{"status", "--local", file}
	for _, args := range [][]string{local, {"status", "--global-profile", "global", "--china-profile", "china"}} {
		stdout, stderr, code := command(ctx, args...)
		if code != exitOK || !strings.HasPrefix(stdout, "healthy at ") || !strings.Contains(stdout, "GlobalSender") || !strings.Contains(stdout, "signs with") {
			t.Errorf("%v: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}

	cross(ctx, t, cloud, "key")
	for {
		stdout, _, _ := command(ctx, local...)
		if strings.Contains(stdout, "latest: copied key at ") && strings.Contains(stdout, "1 receipts, 1 copied") {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the courier has not told of the object:\n%s", stdout)
		}
	}
	for range 3 {
		if _, err := cloud.Queue("inbox-dlq").Send(sqs.Message{Body: "given up"}); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code := command(ctx, append(local, "--json")...)
	var r status.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitFailed || r.Health != status.Attention || !strings.Contains(stderr, "calls for attention") {
		t.Errorf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if len(r.Sides) != 2 || r.Sides[1].Queues[1].Waiting != 3 || r.Sides[1].Queues[1].Oldest == nil || !r.Link.Linked {
		t.Errorf("got %s", stdout)
	}

	// It looks again until it is interrupted.
	watching, interrupt := context.WithCancel(ctx)
	root := newRoot()
	var out lines
	out.each = func(n int) {
		if n == 2 {
			interrupt()
		}
	}
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	if code := run(watching, root, append(local, "--json", "--watch", "--interval", "1s")); code != exitInterrupted || out.n < 2 {
		t.Errorf("exit code %d after %d looks", code, out.n)
	}

	r.Sides = nil
	gone := strings.Replace(string(line), strings.TrimPrefix(cloud.SQS.Endpoint, "http://"), "127.0.0.1:1", 1)
	if err := os.WriteFile(file, []byte(gone), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code = command(ctx, local...)
	if code != exitUnreachable || !strings.HasPrefix(stdout, "unreachable at ") || !strings.Contains(stdout, "sending: ") || !strings.Contains(stdout, "receiving: ") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// lines counts what is written.
type lines struct {
	n    int
	each func(n int)
}

func (l *lines) Write(p []byte) (int, error) {
	l.n += bytes.Count(p, []byte("\n"))
	l.each(l.n)
	return len(p), nil
}

func TestStatusFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                                "got neither --local nor a profile",
		"--global-profile p":              "--china-profile: got nothing",
		"--local x --interval 1ms":        "--interval: got 1ms",
		"--local - --watch":               "cannot be standard input",
		"--local x --global-profile p":    "goes with neither",
		"--local x --watch --interval=0s": "--interval: got 0s",
	} {
		_, stderr, code := command(t.Context(), append([]string{"status"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d and %q, want %q", args, code, stderr, want)
		}
	}
	if _, stderr, code := command(t.Context(), "status", "--local", filepath.Join(t.TempDir(), "none")); code != exitUnreachable || !strings.Contains(stderr, "--local: open") {
		t.Errorf("exit code %d and %q", code, stderr)
	}
}
