package s3gw_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

func TestPresignedURLOfASession(t *testing.T) {
	server := start(t, config(t.TempDir()))
	old := put(t, client(server), versioned, "键 +%/'\"😀", "0123456789")
	put(t, client(server), versioned, "键 +%/'\"😀", "newer")
	presign := func(expires time.Time) string {
		t.Helper()
		id, secret, token := s3gw.MintSession("AKIAROOT", "root/secret+key", expires)
		signed, err := s3.NewPresignClient(sessionClient(server, id, secret, token)).PresignGetObject(t.Context(), &s3.GetObjectInput{
			Bucket: aws.String(versioned), Key: aws.String("键 +%/'\"😀"), VersionId: old.VersionId, ChecksumMode: types.ChecksumModeEnabled,
		}, s3.WithPresignExpires(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return signed.URL
	}
	live := presign(time.Now().Add(time.Hour))
	dead := presign(time.Now().Add(-time.Millisecond))

	response, body := fetch(t, live, nil)
	if response.StatusCode != 200 || body != "0123456789" {
		t.Fatalf("whole: %s %q", response.Status, body)
	}
	if got := response.Header.Get("X-Amz-Checksum-Type"); got != "FULL_OBJECT" {
		t.Errorf("the checksum asked for in the query is not there: %v", response.Header)
	}
	response, body = fetch(t, live, http.Header{"Range": {"bytes=3-5"}, "If-Match": {*old.ETag}})
	if response.StatusCode != 206 || body != "345" {
		t.Errorf("pinned range: %s %q", response.Status, body)
	}
	response, body = fetch(t, live, http.Header{"Range": {"bytes=3-5"}, "If-Match": {`"0cc175b9c0f1b6a831c399e269772661"`}})
	if response.StatusCode != 412 {
		t.Errorf("range of another object: %s %q", response.Status, body)
	}
	// S3 answers 400 here, and 403 to the URL's own end.
	response, body = fetch(t, dead, nil)
	if response.StatusCode != 400 || !strings.Contains(body, "<Code>ExpiredToken</Code>") {
		t.Errorf("dead token: %s %q", response.Status, body)
	}
	response, body = fetch(t, strings.Replace(live, "X-Amz-Expires=3600", "X-Amz-Expires=3601", 1), nil)
	if response.StatusCode != 403 || !strings.Contains(body, "SignatureDoesNotMatch") {
		t.Errorf("tampered: %s %q", response.Status, body)
	}
}

func TestPresignedURLExpires(t *testing.T) {
	server := start(t, config(t.TempDir()))
	put(t, client(server), plain, "key", "data")
	id, secret, token := s3gw.MintSession("AKIAROOT", "root/secret+key", time.Now().Add(time.Hour))
	request, err := http.NewRequest(http.MethodGet, server.Endpoint+"/"+plain+"/key?X-Amz-Expires=60", nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, _, err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).PresignHTTP(t.Context(),
		aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token},
		request, "UNSIGNED-PAYLOAD", "s3", region, time.Now().Add(-61*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	response, body := fetch(t, signed, nil)
	if response.StatusCode != 403 || !strings.Contains(body, "Request has expired") {
		t.Errorf("got %s %q", response.Status, body)
	}
}

func TestSessions(t *testing.T) {
	server := start(t, config(t.TempDir()))
	put(t, client(server), plain, "key", "data")
	soon := time.Now().Add(time.Hour)
	id, secret, token := s3gw.MintSession("AKIAROOT", "root/secret+key", soon)
	pastID, pastSecret, pastToken := s3gw.MintSession("AKIAROOT", "root/secret+key", time.Now().Add(-time.Second))
	otherID, otherSecret, otherToken := s3gw.MintSession("AKIAROOT", "another secret", soon)
	foreignID, foreignSecret, foreignToken := s3gw.MintSession("AKIAELSE", "root/secret+key", soon)
	raw, err := base64.StdEncoding.DecodeString(pastToken)
	if err != nil {
		t.Fatal(err)
	}
	stretched := base64.StdEncoding.EncodeToString([]byte(string(raw[:len(raw)-13]) + "9999999999999"))

	for name, tc := range map[string]struct {
		id, secret, token string
		status            int
		code              string
	}{
		"live":                {id, secret, token, 200, ""},
		"expired":             {pastID, pastSecret, pastToken, 400, "ExpiredToken"},
		"expiry moved":        {pastID, pastSecret, stretched, 400, "InvalidToken"},
		"another root secret": {otherID, otherSecret, otherToken, 400, "InvalidToken"},
		"another root":        {foreignID, foreignSecret, foreignToken, 400, "InvalidToken"},
		"no token":            {id, secret, "", 400, "InvalidToken"},
		"garbage":             {id, secret, "garbage", 400, "InvalidToken"},
		"another's token":     {otherID, secret, token, 400, "InvalidToken"},
		"wrong secret":        {id, "wrong", token, 403, "SignatureDoesNotMatch"},
		"root with a token":   {"AKIAROOT", "root/secret+key", token, 400, "InvalidToken"},
		"unknown key":         {"AKIANOBODY", "x", "", 403, "InvalidAccessKeyId"},
	} {
		out, err := sessionClient(server, tc.id, tc.secret, tc.token).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(plain), Key: aws.String("key")})
		if tc.status != 200 {
			wantError(t, name, err, tc.status, tc.code)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if body := read(t, out.Body); body != "data" {
			t.Errorf("%s: got %q", name, body)
		}
	}
}
