package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// eachReceiver runs a test with either of what takes transfers from the inbox:
// the function, and a worker in its place. Both run at once, since what takes
// long is the wait for a message that somebody was killed over.
func eachReceiver(t *testing.T, test func(t *testing.T, start func(*testing.T, ...string) *local)) {
	t.Helper()
	t.Parallel()
	for name, start := range map[string]func(*testing.T, ...string) *local{"function": startLocal, "worker": startWithWorker} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start)
		})
	}
}

// worker is a running `s3ferry worker`.
type worker struct {
	cmd   *exec.Cmd
	logs  *bytes.Buffer // to be read once it has ended
	ended chan error
}

// startWithWorker starts `s3ferry local` without receivers, and a worker that is
// told what the functions are.
func startWithWorker(t *testing.T, args ...string) *local {
	t.Helper()
	l := startLocal(t, append([]string{"--no-receiver"}, args...)...)
	presign := l.Source.Endpoint
	if i := slices.Index(args, "--presign-endpoint"); i >= 0 {
		presign = strings.Replace(args[i+1], "://localhost:", "://127.0.0.1:", 1)
	}
	settings := []string{"S3FERRY_TEST_SOURCE_ENDPOINT=" + presign}
	for i, arg := range args {
		switch arg {
		case "--deletes":
			settings = append(settings, "S3FERRY_DELETES=true")
		case "--tag-changes":
			settings = append(settings, "S3FERRY_TAG_CHANGES=true")
		case "--env":
			settings = append(settings, args[i+1])
		}
	}
	l.newWorker = func() *worker { return l.startWorker(t, settings) }
	l.worker = l.newWorker()
	t.Cleanup(func() { l.stopWorker(t) })
	return l
}

func (l *local) startWorker(t *testing.T, settings []string) *worker {
	t.Helper()
	w := &worker{logs: &bytes.Buffer{}, ended: make(chan error, 1)}
	q := l.SQS.Queues
	w.cmd = exec.Command(binary, "worker", "--queue-url", q.Inbox, "--dead-letter-url", q.InboxDlq, "--receipts-url", q.Receipts,
		"--trust-parameter", "/s3ferry/trust", "--journal-bucket", "journal", "--grace", patience.String())
	w.cmd.Env = append(append(os.Environ(), settings...),
		"S3FERRY_DESTINATION_BUCKET="+l.Destination.Bucket,
		"AWS_REGION="+l.Destination.Region, "AWS_ACCESS_KEY_ID="+l.Destination.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+l.Destination.SecretAccessKey,
		"AWS_ENDPOINT_URL_S3="+l.Destination.Endpoint, "AWS_ENDPOINT_URL="+l.SQS.Endpoint)
	w.cmd.Stdout, w.cmd.Stderr = w.logs, w.logs
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.ended <- w.cmd.Wait() }()
	return w
}

// stopWorker asks the worker to end, as a container is asked, and waits for it.
func (l *local) stopWorker(t *testing.T) {
	t.Helper()
	if l.worker == nil {
		return
	}
	w := l.worker
	l.worker = nil
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop worker: %v", err)
	}
	select {
	case err := <-w.ended:
		if err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	case <-time.After(2 * patience):
		_ = w.cmd.Process.Kill()
		t.Error("the worker did not end")
	}
	if t.Failed() {
		t.Logf("logs of the worker:\n%s", w.logs)
	}
}

// receivers are the processes that receive.
func (l *local) receivers(t *testing.T) (pids []int) {
	t.Helper()
	if l.worker != nil {
		return []int{l.worker.cmd.Process.Pid}
	}
	for pid, name := range descendants(t, l.cmd.Process.Pid) {
		if name == localcloud.Receiver {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killReceivers ends whatever receives at once, and returns how many it were. The
// next of them starts as it would in AWS.
func (l *local) killReceivers(t *testing.T) int {
	t.Helper()
	if l.worker != nil {
		if err := l.worker.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-l.worker.ended
		l.worker = l.newWorker()
		return 1
	}
	pids := l.receivers(t)
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	return len(pids)
}

// A worker that is asked to end hands over: the next one goes on from there, and
// SQS has nothing to count.
func TestAWorkerHandsOver(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	const key, size, partSize = "large.bin", 96 << 20, 8 << 20
	link := startRelay(t, 0)
	const held = size * 5 / 8
	release := link.hold(held)
	// With few connections, few parts are under way when the link stops.
	l := startWithWorker(t, "--presign-endpoint", link.url, "--env", "S3FERRY_CONNECTIONS=4")
	link.to(t, l.Source)
	content := body(size)
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &l.Source.Bucket, Key: aws.String(key), Body: bytes.NewReader(content),
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "two parts at the destination", func() bool { return l.partsOf(t, key) >= 2 })
	l.stopWorker(t)
	done := l.partsOf(t, key)
	if done < 2 || done >= size/partSize {
		t.Fatalf("%d of %d parts were done when the worker ended", done, size/partSize)
	}
	// What it handed over is at hand at once, as a message that nobody has received.
	if n := l.depth(context.WithoutCancel(t.Context()), t, l.SQS.Queues.Inbox); n != 1 {
		t.Errorf("%d messages in the inbox, expected the continuation", n)
	}
	release()
	l.worker = l.newWorker()
	l.arrived(t, key, *put.ETag)
	l.holds(t, key, content)
	// Two parts more are what second connections of late ranges may bring twice.
	if left := int64(size - done*partSize); link.bytes() > held+left+2*partSize {
		t.Errorf("%d bytes came over the link for %d, of which %d were done at the end of the first worker", link.bytes(), size, done*partSize)
	}
	t.Logf("%d of %d parts were done when the first worker ended; %d bytes came over the link for %d", done, size/partSize, link.bytes(), size)
	if n := l.depth(t.Context(), t, l.SQS.Queues.InboxDlq); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// partsOf is how many parts of the key's multipart upload are stored.
func (l *local) partsOf(t *testing.T, key string) (n int) {
	t.Helper()
	uploads, err := l.destination.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &l.Destination.Bucket, Prefix: &key})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads.Uploads {
		parts, err := l.destination.ListParts(t.Context(), &s3.ListPartsInput{Bucket: &l.Destination.Bucket, Key: u.Key, UploadId: u.UploadId})
		if err != nil {
			t.Fatal(err)
		}
		n += len(parts.Parts)
	}
	return n
}
