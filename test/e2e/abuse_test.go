package e2e

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// post puts messages into the inbox as whoever holds the API key can, and waits
// out the throttle.
func (l *local) post(t *testing.T, messages ...string) {
	t.Helper()
	for i, message := range messages {
		body, err := json.Marshal(map[string]any{"entries": []any{map[string]string{"Id": fmt.Sprint(i), "MessageBody": message}}})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the API to take a message", func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.API.URL+"/transfers", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("X-Api-Key", l.API.APIKey)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests {
				t.Fatalf("the API answered %d to %s", resp.StatusCode, message)
			}
			return resp.StatusCode == http.StatusOK
		})
	}
}

// message is what the sender made, or would make, of an object version.
func (l *local) message(t *testing.T, key string, put *s3.PutObjectOutput, size int64, sequencer string, notAfter time.Time) string {
	t.Helper()
	presigned, err := s3.NewPresignClient(l.source).PresignGetObject(t.Context(), &s3.GetObjectInput{
		Bucket: &l.Source.Bucket, Key: &key, VersionId: put.VersionId, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		t.Fatal(err)
	}
	transfer := wire.Transfer{
		Op: wire.OpPut, URL: secret.New(presigned.URL), NotAfter: notAfter.UTC().Truncate(time.Second),
		Source: wire.Source{
			Region: l.Source.Region, Bucket: l.Source.Bucket, Key: key, VersionID: *put.VersionId,
			ETag: strings.Trim(*put.ETag, `"`), Size: size, Sequencer: sequencer, EventTime: time.Now().UTC(),
		},
	}
	transfer.ID = wire.ID(transfer.Op, transfer.Source)
	message, err := wire.Sign(&transfer, l.signingKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// Whoever can read the inbox and has the API key can send what was sent before:
// it changes nothing, while its URL lives and after.
func TestAReplayChangesNothing(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	put := func(content string) *s3.PutObjectOutput {
		out, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: aws.String("k"), Body: strings.NewReader(content)})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first := put("first")
	sequencer := l.arrived(t, "k", *first.ETag).Metadata["s3ferry-sequencer"]
	second := put("second")
	l.arrived(t, "k", *second.ETag)
	alive, dead := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	l.post(t,
		l.message(t, "k", first, 5, sequencer, alive), l.message(t, "k", first, 5, sequencer, alive), l.message(t, "k", first, 5, sequencer, dead),
	)
	l.quiet(t)
	if head := l.arrived(t, "k", *second.ETag); head.Metadata["s3ferry-source-version"] != *second.VersionId {
		t.Errorf("a replay was written: %v", head.Metadata)
	}
	for _, queue := range []string{l.SQS.Queues.InboxDlq, l.SQS.Queues.OutboxDlq} {
		if n := l.depth(t.Context(), t, queue); n != 0 {
			t.Errorf("%d messages in %s", n, queue)
		}
	}
}

// Whoever holds the signing key, or bends a size at the source, cannot make the
// receiver store anything but the bytes that are there.
func TestASignedSizeThatIsNotTheObjects(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	const key = "small"
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: aws.String(key), Body: strings.NewReader("bytes")})
	if err != nil {
		t.Fatal(err)
	}
	l.arrived(t, key, *put.ETag)
	// A version that is there already would not be pulled at all.
	if _, err := l.destination.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.Destination.Bucket, Key: aws.String(key)}); err != nil {
		t.Fatal(err)
	}
	for i, size := range []int64{1, 4, 6, 5 << 40, wire.MaxObjectSize} {
		message := l.message(t, key, put, size, fmt.Sprintf("FF%02X", i), time.Now().Add(time.Hour))
		l.post(t, message)
		letter := l.letter(t, l.SQS.Queues.InboxDlq, message)
		if got := aws.ToString(letter.MessageAttributes["s3ferry-class"].StringValue); got == "" {
			t.Errorf("%d bytes: the dead letter has no class", size)
		}
	}
	there, err := l.destination.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &l.Destination.Bucket})
	if err != nil || len(there.Contents) > 0 {
		t.Errorf("got %d objects, %v, want none: no size was that of the bytes", len(there.Contents), err)
	}
	uploads, err := l.destination.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &l.Destination.Bucket})
	if err != nil || len(uploads.Uploads) > 0 {
		t.Errorf("%d uploads are open, %v", len(uploads.Uploads), err)
	}
}

// Whoever writes into the source bucket chooses keys, metadata and tags. They
// arrive as they are, next to nothing else, and can forge neither a place in the
// order of events nor a line of the log.
func TestHostileNamesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	keys := []string{
		"%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2fescape", "...", "back\\..\\slash", "tab\tand\nline", "\x01\x1b[31mred", "\"quote' <script>alert(1)</script>", "${jndi:ldap:x}", "{{7*7}}", "$(touch x)`x`;x|x&x",
		"?versionId=null#frag", "a?X-Amz-Signature=x", "http:/169.254.169.254/latest", "\u202egnp.exe", "ｆｕｌｌ", "e\u0301", "é", "+plus +%2B", " leading", "trailing ", "{\"level\":\"ERROR\",\"msg\":\"forged\"}",
		"line\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\n", strings.Repeat("deep/", 100) + "end",
	}
	hostile := map[string]string{"a": "../../x", "b": `"};DROP TABLE--`, "s3ferry-x": "mine", "s3ferry-sequencer": "FFFFFFFFFFFFFFFFFFFF", "c": strings.Repeat("m", 900)}
	etags := map[string]string{}
	for _, key := range keys {
		put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &l.Source.Bucket, Key: &key, Body: strings.NewReader(key), Metadata: hostile,
			Tagging: aws.String(url.Values{"t=1 +/:@": {"../=_-:"}}.Encode()), ContentType: aws.String("text/html; x=\"'\""),
		})
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		etags[key] = *put.ETag
	}
	for _, key := range keys {
		head := l.arrived(t, key, etags[key])
		if head.Metadata["b"] != hostile["b"] || head.Metadata["a"] != hostile["a"] || aws.ToString(head.ContentType) != "text/html; x=\"'\"" {
			t.Errorf("%q: got metadata %v and type %q", key, head.Metadata, aws.ToString(head.ContentType))
		}
		if got := head.Metadata["s3ferry-sequencer"]; got == "" || got == hostile["s3ferry-sequencer"] {
			t.Errorf("%q: its writer has chosen its place in the order: %q", key, got)
		}
	}
	listed, err := l.destination.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &l.Destination.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.Contents) != len(keys) {
		t.Errorf("%d objects are at the destination, want %d", len(listed.Contents), len(keys))
	}
	l.stop(t)
	lines := strings.Split(strings.TrimSpace(l.log(t)), "\n")
	if len(lines) < len(keys) {
		t.Errorf("%d lines in the log for %d objects", len(lines), len(keys))
	}
	for n, line := range lines {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("line %d of the log is no JSON: %v: %s", n+1, err, line)
		}
		if entry["msg"] == "forged" || entry["message"] == "forged" {
			t.Errorf("line %d of the log was forged: %s", n+1, line)
		}
	}
}

// log is what the functions have logged so far.
func (l *local) log(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(l.Logs)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// All logs, at the level that says most, after everything that makes functions
// quote what they were given: no secret is in them.
func TestNoSecretIsInTheLogs(t *testing.T) {
	t.Parallel()
	relay := startRelay(t, 0)
	l := startLocal(t, "--presign-endpoint", relay.url, "--env", "AWS_LAMBDA_LOG_LEVEL=DEBUG")
	relay.to(t, l.Source)
	put := func(key string, size int) *s3.PutObjectOutput {
		out, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: &key, Body: bytes.NewReader(body(size))})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	// Before the sender has ever read its link, the link is broken for a while.
	store := secretsmanager.New(secretsmanager.Options{
		Region: l.SQS.Region, BaseEndpoint: &l.SQS.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(l.SQS.AccessKeyID, l.SQS.SecretAccessKey, ""),
	})
	kept, err := store.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("s3ferry-link")})
	if err != nil {
		t.Fatal(err)
	}
	link := func(document string) {
		t.Helper()
		if _, err := store.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("s3ferry-link"), SecretString: &document}); err != nil {
			t.Fatal(err)
		}
	}
	const wrongKey = "canary-of-an-api-key"
	link(strings.Replace(*kept.SecretString, l.API.APIKey, wrongKey, 1))
	small := put("small", 10)
	eventually(t, "a denial in the log", func() bool { return strings.Contains(l.log(t), "link-denied") })
	link(*kept.SecretString)
	large := put("large", 20<<20)
	l.arrived(t, "small", *small.ETag)
	l.arrived(t, "large", *large.ETag)

	// A URL of another place, and what is no transfer, become dead letters.
	key := l.signingKey(t)
	refused := l.message(t, "small", small, 10, "FF", time.Now().Add(time.Hour)) // at the source, not the relay
	l.post(t, refused, "a.b.c")
	letter := l.letter(t, l.SQS.Queues.InboxDlq, refused)
	l.letter(t, l.SQS.Queues.InboxDlq, "a.b.c")
	l.stop(t)
	log := l.log(t) + l.stderr.String()
	_, query, _ := strings.Cut(presignedOf(t, aws.ToString(letter.Body), key), "?")
	values, err := url.ParseQuery(query)
	if err != nil || values.Get("X-Amz-Signature") == "" {
		t.Fatalf("the refused message has no signature (%v): this test proves nothing", err)
	}
	private := key.Key.Reveal()
	secrets := []string{
		"X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Credential=", values.Get("X-Amz-Signature"),
		l.API.APIKey, wrongKey, l.Source.SecretAccessKey, l.Destination.SecretAccessKey, l.SQS.SecretAccessKey,
		hex.EncodeToString(private.Seed()), base64.StdEncoding.EncodeToString(private)[:40], base64.RawURLEncoding.EncodeToString(private.Seed()), refused,
	}
	for _, name := range secrets {
		if name == "" {
			t.Error("a secret is empty: this test proves nothing")
		} else if at := strings.Index(log, name); at >= 0 {
			t.Errorf("%.12s... is in the log: %s", name, log[max(0, at-200):min(len(log), at+100)])
		}
	}
	if reason := aws.ToString(letter.MessageAttributes["s3ferry-reason"].StringValue); reason == "" || strings.Contains(reason, "X-Amz-") {
		t.Errorf("a dead letter's reason quotes the URL: %s", reason)
	}
}

// presignedOf returns the URL in a signed message.
func presignedOf(t *testing.T, message string, key wire.SigningKey) string {
	t.Helper()
	transfer, err := wire.Verify(message, wire.PublicKeys{key.ID: key.Key.Reveal().Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	return transfer.URL.Reveal()
}
