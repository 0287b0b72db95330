package localcloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeclient "github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/courier"
	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/internal/receiver"
	"github.com/s3ferry/s3ferry/internal/sender"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// hangTime bounds waits that only end late when something is broken.
const hangTime = 2 * time.Minute

// The test binary is also every process of the cloud: its S3 servers, and the
// functions, which do here what their main packages do.
func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		runFunction(os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
	}
	os.Exit(m.Run())
}

func runFunction(name string) {
	ctx := context.Background()
	var handler any
	switch name {
	case localcloud.Sender:
		handler = must(sender.FromEnvironment(ctx)).Handle
	case localcloud.Receiver:
		handler = must(receiver.FromEnvironment(ctx)).Handle
	case localcloud.Courier:
		handler = must(courier.FromEnvironment(ctx)).Handle
	}
	runtimeclient.Start(handler)
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// functions returns a directory where each function is this binary.
func functions(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{localcloud.Sender, localcloud.Receiver, localcloud.Courier} {
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		if err := os.Link(self, filepath.Join(dir, name)); err != nil {
			if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// start starts a cloud that the test's end stops.
func start(t *testing.T, o localcloud.Options) *localcloud.Cloud {
	t.Helper()
	if o.Functions == "" {
		o.Functions = functions(t)
	}
	logs := &bytes.Buffer{} // safe: the cloud writes under a lock, and it is read after Stop
	o.Logs = logs
	cloud, err := localcloud.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := cloud.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			text := logs.String()
			t.Logf("the last logs:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return cloud
}

func client(b localcloud.Bucket) *s3.Client {
	return s3.New(s3.Options{
		Region: b.Region, BaseEndpoint: &b.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.AccessKeyID, b.SecretAccessKey, ""),
	})
}

func put(t *testing.T, cloud *localcloud.Cloud, key, body string) {
	t.Helper()
	if _, err := client(cloud.Source).PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &cloud.Source.Bucket, Key: &key, Body: strings.NewReader(body),
		Metadata: map[string]string{"colour": "red"}, ContentType: aws.String("text/plain; charset=utf-8"),
	}); err != nil {
		t.Fatal(err)
	}
}

// arrived waits for the object and returns it.
func arrived(t *testing.T, cloud *localcloud.Cloud, key string) (string, map[string]string) {
	t.Helper()
	for end := time.Now().Add(hangTime); ; time.Sleep(20 * time.Millisecond) {
		out, err := client(cloud.Destination).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &cloud.Destination.Bucket, Key: &key})
		if err == nil {
			body, err := io.ReadAll(out.Body)
			_ = out.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return string(body), out.Metadata
		}
		if time.Now().After(end) {
			t.Fatalf("%q did not arrive: %v", key, err)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(hangTime); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func signal(pid int, s os.Signal) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Signal(s)
}

func TestObjectsCross(t *testing.T) {
	cloud := start(t, localcloud.Options{CourierInterval: 100 * time.Millisecond})
	const key = `照片/a +%"'🚢.txt`
	put(t, cloud, key, "hello, 你好")
	body, metadata := arrived(t, cloud, key)
	if body != "hello, 你好" || metadata["colour"] != "red" {
		t.Errorf("got %q with %v", body, metadata)
	}
	// The way is clear again once the courier has collected the receipt.
	queues := sqs.New(sqs.Options{
		Region: cloud.SQS.Region, BaseEndpoint: &cloud.SQS.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(cloud.SQS.AccessKeyID, cloud.SQS.SecretAccessKey, ""),
	})
	for _, url := range []string{
		cloud.SQS.Queues.Outbox, cloud.SQS.Queues.Inbox, cloud.SQS.Queues.Receipts, cloud.SQS.Queues.OutboxDLQ, cloud.SQS.Queues.InboxDLQ,
	} {
		eventually(t, "an empty "+url, func() bool {
			out, err := queues.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{"All"}})
			if err != nil {
				t.Fatal(err)
			}
			return out.Attributes["ApproximateNumberOfMessages"] == "0" && out.Attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
		})
	}
	totals, err := cloud.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := localcloud.Totals{
		Events: 1, Sent: 1, Receipts: map[wire.Outcome]int{wire.Copied: 1},
		Bytes: int64(len("hello, 你好")), Left: map[string]int{},
	}
	if diff := cmp.Diff(want, totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	cloud := start(t, localcloud.Options{CourierInterval: 50 * time.Millisecond})
	put(t, cloud, "k", "v")
	arrived(t, cloud, "k")
	eventually(t, "a courier", func() bool { return len(cloud.Function(localcloud.Courier).PIDs()) > 0 })
	var pids []int
	for _, name := range []string{localcloud.Sender, localcloud.Receiver, localcloud.Courier} {
		pids = append(pids, cloud.Function(name).PIDs()...)
	}
	if len(pids) < 3 {
		t.Errorf("%d processes, want one of each function", len(pids))
	}
	if _, err := cloud.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := signal(pid, syscall.Signal(0)); err == nil {
			t.Errorf("process %d outlived its cloud", pid)
		}
	}
	for _, url := range []string{cloud.Source.Endpoint, cloud.Destination.Endpoint, cloud.API.URL, cloud.SQS.Endpoint} {
		if response, err := http.Get(url); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s still answers", url)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("the temporary directory holds %v, %v", left, err)
	}
}

func TestTheStateDirectoryIsKept(t *testing.T) {
	dir := t.TempDir()
	binaries := functions(t)
	first := start(t, localcloud.Options{Dir: dir, Functions: binaries})
	put(t, first, "k", "v")
	arrived(t, first, "k")
	if _, err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := start(t, localcloud.Options{Dir: dir, Functions: binaries})
	if body, _ := arrived(t, second, "k"); body != "v" {
		t.Errorf("got %q", body)
	}
}

func TestAServerThatEndsIsNoticed(t *testing.T) {
	cloud := start(t, localcloud.Options{})
	if err := signal(cloud.ServerPIDs()[0], os.Kill); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-cloud.Failed():
		if !strings.Contains(err.Error(), "source") {
			t.Errorf("got %v, want an error that names the source", err)
		}
	case <-time.After(hangTime):
		t.Fatal("nobody noticed")
	}
}

func TestRefusedOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		options localcloud.Options
		want    string
	}{
		"presign endpoint": {localcloud.Options{PresignEndpoint: "http://example.com:80"}, "expected scheme, IP address and port"},
		"concurrency":      {localcloud.Options{ReceiverConcurrency: -1}, "receiver concurrency: got -1"},
	} {
		if _, err := localcloud.Start(t.Context(), tc.options); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
}

func TestDescription(t *testing.T) {
	cloud := start(t, localcloud.Options{})
	raw, err := json.Marshal(cloud.Description)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	bucket := []string{"accessKeyId", "bucket", "endpoint", "region", "secretAccessKey"}
	for object, names := range map[string][]string{
		"source": bucket, "destination": bucket, "api": {"apiKey", "url"},
		"sqs": {"accessKeyId", "endpoint", "queues", "region", "secretAccessKey"},
	} {
		if diff := cmp.Diff(names, slices.Sorted(maps.Keys(got[object]))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", object, diff)
		}
	}
	queues := slices.Sorted(maps.Keys(got["sqs"]["queues"].(map[string]any)))
	if diff := cmp.Diff([]string{"inbox", "inboxDlq", "outbox", "outboxDlq", "receipts"}, queues); diff != "" {
		t.Errorf("queues (-want +got):\n%s", diff)
	}
}
