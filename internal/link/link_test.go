package link_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, ed25519.SeedSize))

func TestSecretRoundTrip(t *testing.T) {
	want := link.Secret{
		APIURL: "https://abc.execute-api.cn-north-1.amazonaws.com.cn/v1", APIKey: secret.New("k"),
		SigningKey: wire.SigningKey{ID: "2026-11", Key: secret.New(key)},
	}
	document, err := link.EncodeSecret(want)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(document, []byte("iamCredentials")) {
		t.Errorf("credentials that are not there are in %s", document)
	}
	// CloudFormation's output ends with a slash.
	got, err := link.DecodeSecret(bytes.Replace(document, []byte(`/v1"`), []byte(`/v1/"`), 1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecretWithCredentials(t *testing.T) {
	want := link.Secret{
		APIURL: "https://x/v1", APIKey: secret.New("k"), SigningKey: wire.SigningKey{ID: "a", Key: secret.New(key)},
		Credentials: link.Credentials{AccessKeyID: "AKIA1", SecretAccessKey: secret.New("hunter2"), Region: "cn-north-1"},
	}
	document, err := link.EncodeSecret(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := link.DecodeSecret(document)
	if err != nil || !cmp.Equal(want, got) || !got.SameDoor(want) {
		t.Errorf("got %v, %s", err, cmp.Diff(want, got))
	}
	for _, lacking := range []string{"accessKeyId", "secretAccessKey", "region"} {
		_, err := link.DecodeSecret(bytes.Replace(document, []byte(lacking), []byte("x"), 1))
		if err == nil || !strings.Contains(err.Error(), "iamCredentials: expected") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("without %s: got %v", lacking, err)
		}
	}
	for name, change := range map[string]func(*link.Secret){
		"URL":               func(s *link.Secret) { s.APIURL += "x" },
		"API key":           func(s *link.Secret) { s.APIKey = secret.New("l") },
		"no credentials":    func(s *link.Secret) { s.Credentials = link.Credentials{} },
		"access key ID":     func(s *link.Secret) { s.Credentials.AccessKeyID = "AKIA2" },
		"secret access key": func(s *link.Secret) { s.Credentials.SecretAccessKey = secret.New("x") },
		"region":            func(s *link.Secret) { s.Credentials.Region = "cn-northwest-1" },
	} {
		other := want
		if change(&other); other.SameDoor(want) {
			t.Errorf("another %s is the same door", name)
		}
	}
	other := want
	if other.SigningKey.ID = "b"; !other.SameDoor(want) {
		t.Error("another signing key is another door")
	}
}

func TestASecretWithoutContentIsNotLinked(t *testing.T) {
	for _, document := range []string{"", " \n", "{}", " { } "} {
		if _, err := link.DecodeSecret([]byte(document)); !errors.Is(err, link.ErrNotLinked) {
			t.Errorf("%q: got %v", document, err)
		}
	}
}

func TestABrokenSecretIsNamedButNotQuoted(t *testing.T) {
	good, err := link.EncodeSecret(link.Secret{
		APIURL: "https://x/v1", APIKey: secret.New("hunter2"), SigningKey: wire.SigningKey{ID: "a", Key: secret.New(key)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ document, want string }{
		"text":       {`hunter2`, "not a JSON object"},
		"no url":     {strings.Replace(string(good), "apiUrl", "url", 1), "apiUrl: missing"},
		"odd url":    {strings.Replace(string(good), "https://x/v1", "hunter2", 1), "apiUrl: expected"},
		"public key": {`{"apiUrl":"https://x/v1","apiKey":"hunter2","signingKey":{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"a"}}`, "signingKey"},
		"no kid":     {strings.Replace(string(good), `"kid":"a"`, `"kid":""`, 1), "signingKey"},
		"all":        {`{"x":"hunter2"}`, "apiKey: missing"},
	} {
		_, err := link.DecodeSecret([]byte(tc.document))
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want something with %q and without the secret", name, err, tc.want)
		}
	}
}

func TestTrust(t *testing.T) {
	want := link.Trust{
		Keys:    wire.PublicKeys{"a": key.Public().(ed25519.PublicKey)},
		Sources: []link.Source{{Bucket: "b", Region: "us-east-1"}},
	}
	document, err := link.EncodeTrust(want)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(document, []byte(`"d"`)) {
		t.Error("a private key is in the trust document")
	}
	got, err := link.DecodeTrust(document, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.Allows("b", "us-east-1") || got.Allows("b", "us-east-2") || got.Allows("c", "us-east-1") {
		t.Error("Allows does not hold bucket and region together")
	}
}

// A rotation marks the key it replaces, and nobody may ever come to remove it.
func TestAnExpiredKeyIsNotTrusted(t *testing.T) {
	document, err := link.EncodeTrust(link.Trust{Keys: wire.PublicKeys{"a": key.Public().(ed25519.PublicKey)}})
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Unix(1_800_000_000, 0)
	document = bytes.Replace(document, []byte(`"kid":"a"`), fmt.Appendf(nil, `"kid":"a","exp":%d`, expires.Unix()), 1)
	for name, tc := range map[string]struct {
		now  time.Time
		want bool
	}{
		"before": {expires.Add(-time.Nanosecond), true}, "at": {expires, false}, "after": {expires.Add(time.Hour), false},
	} {
		trust, err := link.DecodeTrust(document, tc.now)
		if _, got := trust.Keys["a"]; err != nil || got != tc.want {
			t.Errorf("%s: trusted: %v, %v, want %v", name, got, err, tc.want)
		}
	}
}

func TestTheFirstTrustDocumentTrustsNobody(t *testing.T) {
	trust, err := link.DecodeTrust([]byte(`{"keys":[],"sources":[]}`), time.Now())
	if err != nil || len(trust.Keys) != 0 || trust.Allows("", "") {
		t.Errorf("got %+v, %v", trust, err)
	}
}

func TestABrokenTrustDocumentIsRefusedWhole(t *testing.T) {
	private, err := link.EncodeSecret(link.Secret{SigningKey: wire.SigningKey{ID: "a", Key: secret.New(key)}})
	if err != nil {
		t.Fatal(err)
	}
	jwk := string(private)[strings.Index(string(private), `"signingKey":`)+len(`"signingKey":`) : len(private)-1]
	for name, document := range map[string]string{
		"empty":       ``,
		"private key": `{"keys":[` + jwk + `],"sources":[]}`,
		"half source": `{"keys":[],"sources":[{"bucket":"b"}]}`,
		"no time":     `{"keys":[{"kid":"a","exp":"soon"}],"sources":[]}`,
	} {
		if trust, err := link.DecodeTrust([]byte(document), time.Now()); err == nil {
			t.Errorf("%s: got %+v", name, trust)
		}
	}
}

func TestCache(t *testing.T) {
	reads, fail := 0, false
	c := link.Cache[int]{Life: time.Hour, Fetch: func(context.Context) (int, error) {
		if fail {
			return 0, errors.New("down")
		}
		reads++
		return reads, nil
	}}
	get := func(f func(context.Context) (int, error)) int {
		t.Helper()
		v, err := f(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if a, b := get(c.Get), get(c.Get); a != 1 || b != 1 {
		t.Errorf("two Gets read %d, %d, want the first one twice", a, b)
	}
	if v := get(c.Refresh); v != 2 {
		t.Errorf("Refresh gave %d, want a new one", v)
	}
	c.Pause = time.Hour
	if v := get(c.Refresh); v != 2 {
		t.Errorf("Refresh within the pause gave %d, want the one at hand", v)
	}
	c.Life, c.Pause, fail = 0, 0, true
	if _, err := c.Get(t.Context()); err == nil {
		t.Error("an old document was given out although it could not be read again")
	}
}

func TestAFetchThatFailsOrHangsDelaysNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches := 0
		c := link.Cache[int]{Life: time.Hour, Pause: 5 * time.Second, Fetch: func(ctx context.Context) (int, error) {
			fetches++
			<-ctx.Done() // the store never answers
			return 0, ctx.Err()
		}}
		start := time.Now()
		for range 10 { // one after another, as they get its lock
			if _, err := c.Get(t.Context()); err == nil {
				t.Error("a document came from nowhere")
			}
		}
		if took := time.Since(start); fetches != 1 || took > 10*time.Second {
			t.Errorf("ten callers made %d fetches and waited %s, want one of 10 s", fetches, took)
		}
		time.Sleep(c.Pause)
		c.Fetch = func(context.Context) (int, error) { return 7, nil }
		if v, err := c.Get(t.Context()); err != nil || v != 7 {
			t.Errorf("after the pause: got %d, %v", v, err)
		}
	})
}

// A link secret may end up in a log or an error of somebody who holds one.
func TestALinkSecretDoesNotPrint(t *testing.T) {
	s := link.Secret{
		APIURL: "https://x/v1", APIKey: secret.New("hunter2"), SigningKey: wire.SigningKey{ID: "a", Key: secret.New(key)},
		Credentials: link.Credentials{AccessKeyID: "AKIA", SecretAccessKey: secret.New("hunter2"), Region: "cn-north-1"},
	}
	type holder struct{ hidden link.Secret }
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		forms = append(forms, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, holder{s}))
	}
	for _, form := range forms {
		for _, leak := range []string{"hunter2", "3 3 3", "0x3, 0x3", "030303", "AwMDAw", `\x03\x03`} {
			if strings.Contains(form, leak) {
				t.Errorf("%q is in %s", leak, form)
			}
		}
	}
}
