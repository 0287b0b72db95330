// Package e2e runs the s3ferry binary as a user does and looks at both sides
// with nothing but the AWS SDK.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// patience is how long anything may take before a test gives up.
const patience = 2 * time.Minute

// leastParallel is how many tests run at once on the smallest machine: what they
// do most is wait.
const leastParallel = 4

var binary string // the s3ferry command, built once

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue && runtime.GOMAXPROCS(0) < leastParallel {
			if err := parallel.Value.Set(strconv.Itoa(leastParallel)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		dir, err := os.MkdirTemp("", "s3ferry-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "s3ferry")
		build := exec.Command("go", "build", "-o", binary, "github.com/s3ferry/s3ferry/cmd/s3ferry")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build s3ferry: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// bucket is one side as `s3ferry local` announces it.
type bucket struct {
	Endpoint, Bucket, Region     string
	AccessKeyID, SecretAccessKey string
}

func (b bucket) client() *s3.Client {
	return s3.New(s3.Options{
		Region: b.Region, BaseEndpoint: &b.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.AccessKeyID, b.SecretAccessKey, ""),
	})
}

// announcement is the line that `s3ferry local` prints when it is ready.
type announcement struct {
	Source, Destination bucket
	Logs                string
	API                 struct{ URL, APIKey, Region, AccessKeyID, SecretAccessKey string }
	SQS                 struct {
		Endpoint, Region, AccessKeyID, SecretAccessKey string
		Queues                                         struct{ Outbox, OutboxDlq, Inbox, InboxDlq, Receipts string }
	}
}

// local is a running `s3ferry local`.
type local struct {
	announcement
	source, destination *s3.Client
	queues              *sqs.Client

	worker    *worker        // nil if functions receive
	newWorker func() *worker // starts another

	cmd    *exec.Cmd
	stderr *bytes.Buffer
	ended  chan error
}

func startLocal(t *testing.T, args ...string) *local {
	t.Helper()
	l := &local{stderr: &bytes.Buffer{}, ended: make(chan error, 1)}
	l.cmd = exec.Command(binary, append([]string{"local", "--dir", t.TempDir()}, args...)...)
	l.cmd.Stderr = l.stderr
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.stop(t) })

	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	ready := make(chan error, 1)
	go func() {
		if !lines.Scan() {
			ready <- fmt.Errorf("no line on standard output: %w", errors.Join(lines.Err(), errors.New("it ended")))
		} else {
			dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
			dec.DisallowUnknownFields() // the names are a contract
			ready <- dec.Decode(&l.announcement)
		}
		for lines.Scan() {
			_ = lines.Bytes() // drained, so that Wait can return
		}
		l.ended <- l.cmd.Wait()
	}()
	select {
	case err := <-ready:
		if err != nil {
			t.Fatalf("%v\n%s", err, l.stderr)
		}
	case <-time.After(patience):
		t.Fatalf("not ready after %v\n%s", patience, l.stderr)
	}
	l.source, l.destination = l.Source.client(), l.Destination.client()
	l.queues = sqs.New(sqs.Options{
		Region: l.SQS.Region, BaseEndpoint: &l.SQS.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(l.SQS.AccessKeyID, l.SQS.SecretAccessKey, ""),
	})
	return l
}

// stop ends the process as Ctrl-C does and checks that nothing of it is left.
func (l *local) stop(t *testing.T) {
	t.Helper()
	if l.cmd.ProcessState != nil {
		return
	}
	l.stopWorker(t)
	children := descendants(t, l.cmd.Process.Pid)
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop: %v", err)
	}
	select {
	case err := <-l.ended:
		if err != nil {
			t.Errorf("s3ferry local ended with %v\n%s", err, l.stderr)
		}
	case <-time.After(patience):
		_ = l.cmd.Process.Kill()
		t.Errorf("s3ferry local did not stop\n%s", l.stderr)
	}
	for pid, name := range children {
		if now, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(now)) == name {
			t.Errorf("child %s (%d) is left behind", name, pid)
		}
	}
	if t.Failed() {
		t.Logf("standard error of s3ferry local:\n%s", l.stderr)
	}
}

// descendants returns the processes below pid, by their names.
func descendants(t *testing.T, pid int) map[int]string {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parents, names := map[int]int{}, map[int]string{}
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		// pid (name) state ppid ...; the name may hold anything.
		head, rest, _ := strings.Cut(string(data), " (")
		end := strings.LastIndex(rest, ")")
		self, err := strconv.Atoi(head)
		fields := strings.Fields(rest[end+1:])
		if err != nil || len(fields) < 2 {
			continue
		}
		parents[self], _ = strconv.Atoi(fields[1])
		names[self] = rest[:end]
	}
	found := map[int]string{}
	for self := range parents {
		for p := parents[self]; p > 1; p = parents[p] {
			if p == pid {
				found[self] = names[self]
				break
			}
		}
	}
	return found
}

// eventually waits until done says yes.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// arrived returns the object once it is at the destination and comes from the
// source's ETag.
func (l *local) arrived(t *testing.T, key, etag string) *s3.HeadObjectOutput {
	t.Helper()
	var head *s3.HeadObjectOutput
	eventually(t, fmt.Sprintf("%q at the destination", key), func() bool {
		var err error
		head, err = l.destination.HeadObject(t.Context(), &s3.HeadObjectInput{
			Bucket: &l.Destination.Bucket, Key: &key, ChecksumMode: "ENABLED",
		})
		return err == nil && head.Metadata["s3ferry-source-etag"] == strings.Trim(etag, `"`)
	})
	return head
}

// holds compares the destination's object with content.
func (l *local) holds(t *testing.T, key string, content []byte) {
	t.Helper()
	object, err := l.destination.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &l.Destination.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	got, err := io.ReadAll(object.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Errorf("%q has other bytes: %d, want %d", key, len(got), len(content))
	}
}

// letter waits for a message of the queue that holds text, and takes it.
func (l *local) letter(t *testing.T, queue, text string) types.Message {
	t.Helper()
	var found types.Message
	eventually(t, fmt.Sprintf("a message with %.40q in %s", text, queue), func() bool {
		out, err := l.queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &queue, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}, VisibilityTimeout: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			if strings.Contains(aws.ToString(m.Body), text) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// depth is how many messages the queue holds, visible or not.
func (l *local) depth(ctx context.Context, t *testing.T, queue string) int {
	t.Helper()
	out, err := l.queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &queue, AttributeNames: []types.QueueAttributeName{"All"},
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"} {
		n, err := strconv.Atoi(out.Attributes[name])
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// A port that is asked for is taken, or it is said which one is not free.
func TestAPortThatIsInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
	out, err := exec.CommandContext(t.Context(), binary, "local", "--dir", t.TempDir(), "--source-port", port).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "port "+port) {
		t.Errorf("got %v, want an error that names port %s:\n%s", err, port, out)
	}
}
