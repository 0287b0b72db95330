package s3gw_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

func TestTwoServersKeepTheirOwnObjects(t *testing.T) {
	one, two := start(t, config(t.TempDir())), start(t, config(t.TempDir()))
	put(t, client(one), plain, "a/key", "of one")
	put(t, client(two), plain, "a/key", "of two")
	if got := get(t, client(one), plain, "a/key"); got != "of one" {
		t.Errorf("one holds %q", got)
	}
	if got := get(t, client(two), plain, "a/key"); got != "of two" {
		t.Errorf("two holds %q", got)
	}
}

func TestStartReportsWhatIsMissing(t *testing.T) {
	_, err := s3gw.Start(t.Context(), s3gw.Config{Dir: "relative", EventBucket: "b"})
	if err == nil {
		t.Fatal("an empty configuration was accepted")
	}
	for _, want := range []string{"Dir", "Region", "AccessKeyID", "SecretAccessKey", "EventBucket"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error: %v", want, err)
		}
	}
}

func TestStartSaysThatItsPortIsTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cfg := config(t.TempDir())
	cfg.Port = listener.Addr().(*net.TCPAddr).Port
	if _, err := s3gw.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestStopEndsTheChild(t *testing.T) {
	server := start(t, config(t.TempDir()))
	process, err := os.FindProcess(server.Pid())
	if err != nil {
		t.Fatal(err)
	}
	put(t, client(server), plain, "key", "leaves a connection open")
	began := time.Now()
	stop(t, server)
	t.Logf("stopped after %v", time.Since(began).Round(time.Millisecond))
	select {
	case <-server.Done():
	default:
		t.Error("Stop returned before the child was gone")
	}
	if err := process.Signal(syscall.Signal(0)); err == nil {
		t.Error("the process still takes signals")
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(server.Endpoint, "http://")); err == nil {
		t.Error("the port still answers")
	}
}

// The child inherits standard error, so its end is the end of the pipe.
func TestChildEndsWithAKilledParent(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(executable)
	parent.Env = append(os.Environ(), parentMarker+"="+t.TempDir())
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	parent.Stderr = theirs
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := url.Parse(strings.Fields(line)[0])
	if err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("tcp", endpoint.Host)
	if err != nil {
		t.Fatalf("the server does not answer: %v (%s)", err, line)
	}
	connection.Close()
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	_ = stderr.SetReadDeadline(time.Now().Add(time.Minute))
	if left, err := io.ReadAll(stderr); err != nil {
		t.Errorf("the child lives on: %v\n%s", err, left)
	}
	if _, err := net.Dial("tcp", endpoint.Host); err == nil {
		t.Error("the port still answers")
	}
}

func TestMultipartUploadResumesAfterAKill(t *testing.T) {
	cfg := config(t.TempDir())
	server := start(t, cfg)
	c := client(server)
	key := "大きい/big object.bin"
	first, second := random(5<<20, 1), random(1<<20, 2)
	create, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: aws.String(versioned), Key: &key, ContentType: aws.String("image/x"), Metadata: map[string]string{"a": "b"},
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		t.Fatal(err)
	}
	part := func(c *s3.Client, number int32, data []byte) types.CompletedPart {
		t.Helper()
		out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(versioned), Key: &key, UploadId: create.UploadId, PartNumber: &number,
			Body: bytes.NewReader(data), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		})
		if err != nil {
			t.Fatal(err)
		}
		return types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC64NVME: out.ChecksumCRC64NVME}
	}
	done := []types.CompletedPart{part(c, 1, first)}

	kill(t, server)
	c = client(start(t, cfg))
	uploads, err := c.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(versioned), Prefix: &key})
	if err != nil || len(uploads.Uploads) != 1 || *uploads.Uploads[0].UploadId != *create.UploadId {
		t.Fatalf("uploads after the restart: %+v, %v", uploads, err)
	}
	parts, err := c.ListParts(t.Context(), &s3.ListPartsInput{Bucket: aws.String(versioned), Key: &key, UploadId: create.UploadId})
	if err != nil || len(parts.Parts) != 1 || *parts.Parts[0].Size != 5<<20 {
		t.Fatalf("parts after the restart: %+v, %v", parts, err)
	}
	done = append(done, part(c, 2, second))
	if _, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(versioned), Key: &key, UploadId: create.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, versioned, key); got != string(first)+string(second) {
		t.Errorf("got %d other bytes", len(got))
	}
}

func kill(t *testing.T, server *s3gw.Server) {
	t.Helper()
	process, err := os.FindProcess(server.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-server.Done():
	case <-ctx.Done():
		t.Fatal("the child outlives a kill")
	}
}

// A server killed while it completes an upload has claimed it by a rename.
func TestClaimedUploadIsReopened(t *testing.T) {
	cfg := config(t.TempDir())
	server := start(t, cfg)
	c := client(server)
	upload := createUpload(t, c, plain, "key")
	stop(t, server)
	claims, err := filepath.Glob(filepath.Join(cfg.Dir, "data", plain, ".sgwtmp", "multipart", "*", *upload))
	if err != nil || len(claims) != 1 {
		t.Fatalf("the upload is at %v, %v", claims, err)
	}
	if err := os.Rename(claims[0], claims[0]+".0123456789abcdef-1.inprogress"); err != nil {
		t.Fatal(err)
	}
	leftover := filepath.Join(cfg.Dir, "data", plain, ".sgwtmp", "half-written")
	if err := os.WriteFile(leftover, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c = client(start(t, cfg))
	if err := finish(t, c, plain, "key", upload, []byte("data"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, plain, "key"); got != "data" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(leftover); err == nil {
		t.Error("a half-written object is still there")
	}
}
