package link_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// FuzzSecret looks for a document that is read as something that would not be
// kept so, and for an error that quotes it.
func FuzzSecret(f *testing.F) {
	const canary = "hunter2hunter2"
	good, err := link.EncodeSecret(link.Secret{
		APIURL: "https://x.execute-api.cn-north-1.amazonaws.com.cn/v1", APIKey: secret.New(canary), SigningKey: wire.SigningKey{ID: "a", Key: secret.New(key)},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add(strings.Replace(string(good), "https://x", canary, 1))
	f.Add(`{"apiUrl":"` + canary + `","apiKey":7,"signingKey":{"kty":"OKP"}}`)
	f.Add("{}")
	f.Fuzz(func(t *testing.T, document string) {
		got, err := link.DecodeSecret([]byte(document))
		if err != nil {
			if strings.Contains(err.Error(), canary) {
				t.Fatalf("the error quotes the document: %v", err)
			}
			return
		}
		if len(got.SigningKey.Key.Reveal()) != ed25519.PrivateKeySize || got.SigningKey.ID == "" || got.APIURL == "" {
			t.Fatalf("%q was taken for a link secret", document)
		}
		kept, err := link.EncodeSecret(got)
		if err != nil {
			t.Fatalf("%q was read, but cannot be kept: %v", document, err)
		}
		again, err := link.DecodeSecret(kept)
		if err != nil {
			t.Fatalf("%q was read, but what is kept of it is refused: %v", document, err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("%q changes when it is kept:\n%s", document, diff)
		}
	})
}

// FuzzTrust looks for a document that makes the receiver trust what is no key,
// or a key whose time is over.
func FuzzTrust(f *testing.F) {
	now := time.Unix(1_790_000_000, 0)
	good, err := link.EncodeTrust(link.Trust{
		Keys:    wire.PublicKeys{"a": key.Public().(ed25519.PublicKey)},
		Sources: []link.Source{{Bucket: "reports", Region: "us-east-1"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add(strings.Replace(string(good), `"kid"`, `"exp":1790000000,"kid"`, 1))
	f.Add(strings.Replace(string(good), `"kid"`, `"exp":1790000001,"kid"`, 1))
	f.Add(`{"keys":[{}],"sources":[{"bucket":"b"}]}`)
	f.Add(`{"keys":null,"Keys":[]}`)
	f.Fuzz(func(t *testing.T, document string) {
		trust, err := link.DecodeTrust([]byte(document), now)
		if err != nil {
			return
		}
		for id, k := range trust.Keys {
			if id == "" || len(k) != ed25519.PublicKeySize {
				t.Fatalf("%q: the key %q of %d bytes is trusted", document, id, len(k))
			}
		}
		if trust.Allows("", "us-east-1") || trust.Allows("reports", "") {
			t.Fatalf("%q: a source without a name is trusted", document)
		}
		kept, err := link.EncodeTrust(trust)
		if err != nil {
			t.Fatalf("%q was read, but cannot be kept: %v", document, err)
		}
		again, err := link.DecodeTrust(kept, now)
		if err != nil {
			t.Fatalf("%q was read, but what is kept of it is refused: %v", document, err)
		}
		if len(trust.Keys) != len(again.Keys) || !cmp.Equal(trust.Keys, again.Keys) {
			t.Fatalf("%q changes when it is kept: %s", document, cmp.Diff(trust, again))
		}
		later, err := link.DecodeTrust([]byte(document), now.AddDate(1000, 0, 0))
		if err != nil || len(later.Keys) > len(trust.Keys) {
			t.Fatalf("%q trusts more keys in 1000 years: %v", document, errors.Join(err))
		}
	})
}
