package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// A URL that dies half-way is signed again without a person, and the next one
// goes on where the first one stopped.
func TestAnExpiredURLIsSignedAgain(t *testing.T) { eachReceiver(t, testAnExpiredURLIsSignedAgain) }

func testAnExpiredURLIsSignedAgain(t *testing.T, start func(*testing.T, ...string) *local) {
	link := startRelay(t, 24<<20)
	l := start(t, "--presign-endpoint", strings.Replace(link.url, "127.0.0.1", "localhost", 1), "--url-life", "3s")
	link.to(t, l.Source)
	// More parts than connections, so that some are asked for after the URL died.
	const key, size = "slow.bin", 168 << 20
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &l.Source.Bucket, Key: aws.String(key), Body: bytes.NewReader(body(size)),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.arrived(t, key, *put.ETag)
	l.stop(t)
	if !strings.Contains(l.stderr.String(), "expired") {
		t.Errorf("no URL expired, so this shows nothing:\n%s", l.stderr)
	}
	// What is lost when a URL dies are the parts that still had ranges to ask for, and
	// a slow machine lets more of them die.
	if got := link.bytes(); got > size*2 {
		t.Errorf("%d bytes came over the link for %d", got, size)
	}
	t.Logf("%d bytes came over the link for %d\n%s", link.bytes(), size, l.stderr)
}

// Whoever holds the signing key still cannot send the receiver anywhere but to
// the linked bucket.
func TestSignedButHostile(t *testing.T) { eachReceiver(t, testSignedButHostile) }

func testSignedButHostile(t *testing.T, start func(*testing.T, ...string) *local) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the receiver came: %s %s", r.Method, r.URL.Path)
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(elsewhere.Close)

	l := start(t)
	key := l.signingKey(t)
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: aws.String("bait"), Body: strings.NewReader("bait")})
	if err != nil {
		t.Fatal(err)
	}
	l.arrived(t, "bait", *put.ETag)
	presigned, err := s3.NewPresignClient(l.source).PresignGetObject(t.Context(), &s3.GetObjectInput{
		Bucket: &l.Source.Bucket, Key: aws.String("bait"), VersionId: put.VersionId, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		t.Fatal(err)
	}
	good, err := url.Parse(presigned.URL)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*url.URL)) string {
		u := *good
		change(&u)
		return u.String()
	}
	for i, tc := range []struct {
		name, url, class string
		source           func(*wire.Source)
	}{
		{"other host", changed(func(u *url.URL) { u.Host = strings.TrimPrefix(elsewhere.URL, "http://") }), "url-refused", nil},
		{"other scheme", changed(func(u *url.URL) { u.Scheme = "https" }), "url-refused", nil},
		{"other port", changed(func(u *url.URL) { u.Host = "127.0.0.1:1" }), "url-refused", nil},
		{"metadata service", "http://169.254.169.254/latest/meta-data/", "url-refused", nil},
		{"other key", changed(func(u *url.URL) { u.Path = "/source/other" }), "url-refused", nil},
		{"other bucket", changed(func(u *url.URL) { u.Path = "/journal/bait" }), "url-refused", nil},
		{"userinfo", changed(func(u *url.URL) { u.User = url.User("a") }), "url-refused", nil},
		{"fragment", changed(func(u *url.URL) { u.Fragment = "x" }), "url-refused", nil},
		{"more query", changed(func(u *url.URL) { u.RawQuery += "&acl" }), "url-refused", nil},
		{"unlinked bucket", good.String(), "unknown-source", func(s *wire.Source) { s.Bucket = "private" }},
	} {
		transfer := wire.Transfer{
			Op: wire.OpPut, URL: secret.New(tc.url), NotAfter: time.Now().Add(time.Hour).UTC().Truncate(time.Second),
			Source: wire.Source{
				Region: l.Source.Region, Bucket: l.Source.Bucket, Key: "bait", VersionID: *put.VersionId,
				ETag: strings.Trim(*put.ETag, `"`), Size: 4, Sequencer: fmt.Sprintf("FF%02X", i), EventTime: time.Now().UTC(),
			},
		}
		if tc.source != nil {
			tc.source(&transfer.Source)
		}
		transfer.ID = wire.ID(transfer.Op, transfer.Source)
		message, err := wire.Sign(&transfer, key)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &l.SQS.Queues.Inbox, MessageBody: &message}); err != nil {
			t.Fatal(err)
		}
		letter := l.letter(t, l.SQS.Queues.InboxDlq, message)
		if got := aws.ToString(letter.MessageAttributes["s3ferry-class"].StringValue); got != tc.class {
			t.Errorf("%s: got class %q, want %q: %s", tc.name, got, tc.class, aws.ToString(letter.MessageAttributes["s3ferry-reason"].StringValue))
		}
		if reason := aws.ToString(letter.MessageAttributes["s3ferry-reason"].StringValue); strings.Contains(reason, "X-Amz-Signature=") {
			t.Errorf("%s: the reason quotes the URL: %s", tc.name, reason)
		}
	}
	// The object is still the one that came before.
	head := l.arrived(t, "bait", *put.ETag)
	if strings.HasPrefix(head.Metadata["s3ferry-sequencer"], "FF") {
		t.Errorf("a hostile transfer was written: %v", head.Metadata)
	}
}

// signingKey is the key that the sender signs with, read as an attacker would.
func (l *local) signingKey(t *testing.T) wire.SigningKey {
	t.Helper()
	secrets := secretsmanager.New(secretsmanager.Options{
		Region: l.SQS.Region, BaseEndpoint: &l.SQS.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(l.SQS.AccessKeyID, l.SQS.SecretAccessKey, ""),
	})
	out, err := secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("s3ferry-link")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := link.DecodeSecret([]byte(aws.ToString(out.SecretString)))
	if err != nil {
		t.Fatal(err)
	}
	return s.SigningKey
}

// A key that the laptop's S3 cannot hold is refused where it is put, not lost on
// the way.
func TestKeysTheLaptopCannotHoldAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	for _, key := range []string{"a//b", "/a", "a/../b", "./a", strings.Repeat("x", 256)} {
		_, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &l.Source.Bucket, Key: &key, Body: strings.NewReader("x")})
		var status interface{ HTTPStatusCode() int }
		if !errors.As(err, &status) || status.HTTPStatusCode() != http.StatusBadRequest {
			t.Errorf("%q: got %v, want 400", key, err)
		}
	}
}
