package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"
)

func body(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	return b
}

// A client that knows nothing of s3ferry puts objects; they arrive whole.
func TestAForeignClientsObjectsArrive(t *testing.T) {
	eachReceiver(t, testAForeignClientsObjectsArrive)
}

func testAForeignClientsObjectsArrive(t *testing.T, start func(*testing.T, ...string) *local) {
	l := start(t)
	expires := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		key       string
		size      int
		algorithm types.ChecksumAlgorithm
	}{
		{"hello.txt", 11, types.ChecksumAlgorithmCrc64nvme},
		{"empty", 0, types.ChecksumAlgorithmCrc32},
		{"报告/2026 +100% \"x\" 🚢.bin", 70_000, types.ChecksumAlgorithmSha256},
		{"large.bin", 21 << 20, types.ChecksumAlgorithmCrc64nvme},
		{"large-crc32c.bin", 17 << 20, types.ChecksumAlgorithmCrc32c},
		{"large-sha1.bin", 9 << 20, types.ChecksumAlgorithmSha1},
	} {
		content := body(tc.size)
		put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &l.Source.Bucket, Key: &tc.key, Body: bytes.NewReader(content),
			ChecksumAlgorithm: tc.algorithm,
			ContentType:       aws.String("text/x-report"), CacheControl: aws.String("no-store"),
			ContentDisposition: aws.String("inline"), ContentLanguage: aws.String("zh-CN"), Expires: &expires,
			Metadata: map[string]string{"author": "=?UTF-8?B?5p2O?=", "n": "1"},
			Tagging:  aws.String("team=east+asia&k=%2B"),
		})
		if err != nil {
			t.Fatalf("%s: %v", tc.key, err)
		}
		head := l.arrived(t, tc.key, *put.ETag)
		if aws.ToString(head.ContentType) != "text/x-report" || aws.ToString(head.CacheControl) != "no-store" ||
			aws.ToString(head.ContentDisposition) != "inline" || aws.ToString(head.ContentLanguage) != "zh-CN" ||
			aws.ToString(head.ExpiresString) != expires.Format(http.TimeFormat) {
			t.Errorf("%s: headers did not arrive: %+v", tc.key, head)
		}
		if head.Metadata["author"] != "=?UTF-8?B?5p2O?=" || head.Metadata["n"] != "1" {
			t.Errorf("%s: got metadata %v", tc.key, head.Metadata)
		}
		if head.Metadata["s3ferry-sequencer"] == "" || head.Metadata["s3ferry-source-version"] != aws.ToString(put.VersionId) {
			t.Errorf("%s: got provenance %v, source version %s", tc.key, head.Metadata, aws.ToString(put.VersionId))
		}
		tags, err := l.destination.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: &l.Destination.Bucket, Key: &tc.key})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, tag := range tags.TagSet {
			got[*tag.Key] = *tag.Value
		}
		if diff := cmp.Diff(map[string]string{"team": "east asia", "k": "+"}, got); diff != "" {
			t.Errorf("%s: tags (-want +got):\n%s", tc.key, diff)
		}
		object, err := l.destination.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &l.Destination.Bucket, Key: &tc.key})
		if err != nil {
			t.Fatal(err)
		}
		arrived, err := io.ReadAll(object.Body)
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(arrived) != sha256.Sum256(content) {
			t.Errorf("%s: %d other bytes arrived", tc.key, len(arrived))
		}
		// Where the destination can keep the source's kind of checksum, it is the
		// source's checksum.
		source, err := l.source.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &l.Source.Bucket, Key: &tc.key, ChecksumMode: "ENABLED"})
		if err != nil {
			t.Fatal(err)
		}
		if tc.algorithm != types.ChecksumAlgorithmSha1 {
			for name, pair := range map[string][2]*string{
				"CRC64NVME": {source.ChecksumCRC64NVME, head.ChecksumCRC64NVME}, "CRC32": {source.ChecksumCRC32, head.ChecksumCRC32},
				"CRC32C": {source.ChecksumCRC32C, head.ChecksumCRC32C}, "SHA256": {source.ChecksumSHA256, head.ChecksumSHA256},
			} {
				if aws.ToString(pair[0]) != aws.ToString(pair[1]) {
					t.Errorf("%s: %s is %q at the source and %q at the destination", tc.key, name, aws.ToString(pair[0]), aws.ToString(pair[1]))
				}
			}
		}
	}
	eventually(t, "empty queues", func() bool {
		q := l.SQS.Queues
		return l.depth(t.Context(), t, q.Outbox)+l.depth(t.Context(), t, q.Inbox)+l.depth(t.Context(), t, q.Receipts) == 0
	})
	for _, dlq := range []string{l.SQS.Queues.OutboxDlq, l.SQS.Queues.InboxDlq} {
		if n := l.depth(t.Context(), t, dlq); n != 0 {
			t.Errorf("%d messages in %s", n, dlq)
		}
	}
}

// A receiver killed in the middle of a multipart transfer loses the parts in
// flight and nothing else.
func TestAKilledReceiverResumes(t *testing.T) { eachReceiver(t, testAKilledReceiverResumes) }

func testAKilledReceiverResumes(t *testing.T, start func(*testing.T, ...string) *local) {
	if runtime.GOOS != "linux" {
		t.Skip("finds the receiver's process in /proc")
	}
	const key, size, partSize = "large.bin", 96 << 20, 8 << 20
	link := startRelay(t, 0)
	const held = size * 5 / 8
	release := link.hold(held)
	// With few connections, few parts are under way when the link stops.
	l := start(t, "--presign-endpoint", link.url, "--env", "S3FERRY_CONNECTIONS=4")
	link.to(t, l.Source)
	content := body(size)
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &l.Source.Bucket, Key: aws.String(key), Body: bytes.NewReader(content),
	})
	if err != nil {
		t.Fatal(err)
	}

	finished := func() map[string]bool {
		uploads, err := l.destination.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &l.Destination.Bucket, Prefix: aws.String(key)})
		if err != nil {
			t.Fatal(err)
		}
		done := map[string]bool{}
		for _, u := range uploads.Uploads {
			parts, err := l.destination.ListParts(t.Context(), &s3.ListPartsInput{Bucket: &l.Destination.Bucket, Key: u.Key, UploadId: u.UploadId})
			if err != nil {
				return nil // it has just been completed
			}
			for _, p := range parts.Parts {
				first := int(*p.PartNumber-1) * partSize
				done[fmt.Sprintf("bytes=%d-", first)] = true
			}
		}
		return done
	}
	eventually(t, "three parts at the destination", func() bool { return len(finished()) >= 3 })
	killed := l.killReceivers(t)
	at := time.Now()
	if killed == 0 {
		t.Fatal("no receiver was running")
	}
	done := finished()
	if len(done) < 3 || len(done) == size/partSize {
		t.Fatalf("%d of %d parts were done when the receiver was killed", len(done), size/partSize)
	}

	release()
	l.arrived(t, key, *put.ETag)
	for _, asked := range link.since(at) {
		first, _, _ := strings.Cut(asked, "-")
		if done[first+"-"] {
			t.Errorf("the finished part %s was fetched again", asked)
		}
	}
	// Two parts more are what second connections of late ranges may bring twice.
	left := int64(size - len(done)*partSize)
	if got := link.bytes(); got > held+left+2*partSize {
		t.Errorf("%d bytes came over the link for %d bytes with %d not done at the kill", got, size, left)
	}
	t.Logf("%d of %d parts were done at the kill; %d bytes came over the link for %d", len(done), size/partSize, link.bytes(), size)

	l.holds(t, key, content)
	eventually(t, "no open upload", func() bool {
		uploads, err := l.destination.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &l.Destination.Bucket})
		if err != nil {
			t.Fatal(err)
		}
		return len(uploads.Uploads) == 0
	})
}

// Whatever garbage comes in, each piece goes to a dead-letter queue with its
// reason, and the objects beside it arrive.
func TestGarbageHurtsNobodyElse(t *testing.T) { eachReceiver(t, testGarbageHurtsNobodyElse) }

func testGarbageHurtsNobodyElse(t *testing.T, start func(*testing.T, ...string) *local) {
	l := start(t)
	garbage := map[string]string{ // message: class
		"not a JWS":   "malformed-transfer",
		"e30.e30.e30": "malformed-transfer",
		// An honest header of a key that nobody linked.
		"eyJhbGciOiJFZERTQSIsImtpZCI6Im5vYm9keSIsInR5cCI6InMzZmVycnktdHJhbnNmZXIrandzIn0.e30." + strings.Repeat("A", 86): "unknown-key",
	}
	for message := range garbage {
		if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &l.SQS.Queues.Inbox, MessageBody: &message}); err != nil {
			t.Fatal(err)
		}
	}
	events := map[string]string{
		`{"Records":"none"}`: "malformed-event",
		`hello`:              "malformed-event",
	}
	for message := range events {
		if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &l.SQS.Queues.Outbox, MessageBody: &message}); err != nil {
			t.Fatal(err)
		}
	}
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: aws.String("good"), Body: strings.NewReader("good")})
	if err != nil {
		t.Fatal(err)
	}
	l.arrived(t, "good", *put.ETag)
	check := func(queue string, want map[string]string) {
		for message, class := range want {
			m := l.letter(t, queue, message)
			if got := aws.ToString(m.MessageAttributes["s3ferry-class"].StringValue); got != class {
				t.Errorf("%q: got class %q, want %q", message, got, class)
			}
			if aws.ToString(m.MessageAttributes["s3ferry-reason"].StringValue) == "" {
				t.Errorf("%q: the dead letter gives no reason", message)
			}
		}
	}
	check(l.SQS.Queues.InboxDlq, garbage)
	check(l.SQS.Queues.OutboxDlq, events)
}

// The API refuses at the door what is not a batch of transfers.
func TestTheAPIRefusesAtTheDoor(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	entry := `{"Id":"a","MessageBody":"e30.e30.e30"}`
	for name, tc := range map[string]struct {
		path, key, body string
		status          int
	}{
		"no key":          {"/transfers", "", `{"entries":[` + entry + `]}`, 403},
		"wrong key":       {"/transfers", "guess", `{"entries":[` + entry + `]}`, 403},
		"not JSON":        {"/transfers", l.API.APIKey, `hello`, 400},
		"eleven entries":  {"/transfers", l.API.APIKey, `{"entries":[` + strings.Repeat(entry+",", 10) + entry + `]}`, 400},
		"more than a JWS": {"/transfers", l.API.APIKey, `{"entries":[{"Id":"a","MessageBody":"e30.e30.e30","DelaySeconds":900}]}`, 400},
		"another path":    {"/queues", l.API.APIKey, `{}`, 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.API.URL+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if tc.key != "" {
			req.Header.Set("X-Api-Key", tc.key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tc.status {
			t.Errorf("%s: got %d, want %d", name, resp.StatusCode, tc.status)
		}
	}
	if n := l.depth(t.Context(), t, l.SQS.Queues.Inbox) + l.depth(t.Context(), t, l.SQS.Queues.InboxDlq); n != 0 {
		t.Errorf("%d messages came through", n)
	}
}

// Where the API's authorization is IAM, its key alone is not enough.
func TestIAMAsksForASignature(t *testing.T) {
	t.Parallel()
	l := startLocal(t, "--authorization", "iam")
	if l.API.AccessKeyID == "" || l.API.SecretAccessKey == "" || l.API.Region == "" {
		t.Errorf("the announcement does not say what requests are signed with: %+v", l.API)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.API.URL+"/receipts", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", l.API.APIKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: got %d, want 403", resp.StatusCode)
	}
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: aws.String("signed"), Body: strings.NewReader("x")})
	if err != nil {
		t.Fatal(err)
	}
	l.arrived(t, "signed", *put.ETag)
	// The courier signs, too: it empties the receipts queue.
	eventually(t, "no receipt left", func() bool { return l.depth(t.Context(), t, l.SQS.Queues.Receipts) == 0 })
}

// An object that the destination can't hold is a dead letter that says why.
func TestAKeyTheDestinationCannotHold(t *testing.T) {
	eachReceiver(t, testAKeyTheDestinationCannotHold)
}

func testAKeyTheDestinationCannotHold(t *testing.T, start func(*testing.T, ...string) *local) {
	l := start(t)
	if _, err := l.destination.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &l.Destination.Bucket, Key: aws.String("clash/inside"), Body: strings.NewReader("x"),
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"clash", "fine"} {
		if _, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: &key, Body: strings.NewReader("y")}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the other object", func() bool {
		_, err := l.destination.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &l.Destination.Bucket, Key: aws.String("fine")})
		return err == nil
	})
	eventually(t, "a dead letter", func() bool { return l.depth(t.Context(), t, l.SQS.Queues.InboxDlq) == 1 })
	m := l.letter(t, l.SQS.Queues.InboxDlq, "")
	if got := aws.ToString(m.MessageAttributes["s3ferry-reason"].StringValue); !strings.Contains(got, "clash") {
		t.Errorf("the reason does not name the key: %q", got)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	for _, authorization := range []string{"apiKey", "iam"} {
		t.Run(authorization, func(t *testing.T) { testDemo(t, "--authorization", authorization) })
	}
}

func testDemo(t *testing.T, args ...string) {
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"demo", "--objects", "30", "--large", fmt.Sprint(20 << 20), "--json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	var report struct {
		Objects, Agree, OverwrittenInFlight, Deleted int
		Bytes                                        int64
		Differences                                  []string
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// 30 small ones, an empty one, one overwritten, a large one, 5 deleted again.
	if report.Objects != 38 || report.Agree != 38 || len(report.Differences) > 0 || report.OverwrittenInFlight != 1 || report.Deleted != 5 {
		t.Errorf("got %s", out)
	}
}

func TestDemoCarriesADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, size := range map[string]int{"a.txt": 10, "sub/图 片.jpg": 1000, "sub/empty": 0} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body(size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), binary, "demo", "--from", dir, "--json").Output()
	if err != nil || !bytes.Contains(out, []byte(`"agree":3`)) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "demo", "--from", filepath.Join(dir, "none")).CombinedOutput(); err == nil {
		t.Errorf("a directory that is not there was carried:\n%s", out)
	}
}
