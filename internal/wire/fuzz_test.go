package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// FuzzVerify looks for a message that is accepted though Sign did not write it.
func FuzzVerify(f *testing.F) {
	good, err := wire.Sign(testTransfer(nil), testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, message string) {
		transfer, err := wire.Verify(message, testKeys)
		if err != nil {
			return
		}
		again, err := wire.Sign(transfer, testKey)
		if err != nil || again != message {
			t.Fatalf("%q was accepted, but is signed as %q (%v)", message, again, err)
		}
	})
}

// FuzzPayload gives the strict decoder anything that a known key has signed.
func FuzzPayload(f *testing.F) {
	good, err := wire.Sign(testTransfer(nil), testKey)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(good, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(signed.UnsafePayloadWithoutVerification()))
	f.Add(`{"v":1}`)
	f.Add(`{"v":1,"V":1}`)
	f.Fuzz(func(t *testing.T, payload string) {
		message := signPayload(t, payload, testKey, map[jose.HeaderKey]any{jose.HeaderType: wire.Type})
		transfer, err := wire.Verify(message, testKeys)
		if err != nil {
			return
		}
		again, err := wire.Sign(transfer, testKey)
		if err != nil || again != message {
			t.Fatalf("payload %q was accepted, but is written as %q (%v)", payload, payloadOf(t, again), err)
		}
	})
}

// FuzzRoundTrip signs transfers of any content and expects them back whole.
func FuzzRoundTrip(f *testing.F) {
	f.Add("key", "v1", "etag", "00FF", int64(3), "name", "value", "https://x/y?z", int64(1790000000))
	f.Add("年/ +%\"\\\u2028", "", "e-2", "1", int64(0), "", "", "u", int64(0))
	f.Fuzz(func(t *testing.T, key, version, etag, sequencer string, size int64, name, value, url string, at int64) {
		want := testTransfer(func(t *wire.Transfer) {
			t.Source.Key, t.Source.VersionID, t.Source.ETag = key, version, etag
			t.Source.Sequencer, t.Source.Size = sequencer, size
			t.Object.Metadata = map[string]string{name: value}
			t.URL = secret.New(url)
			t.NotAfter = time.Unix(at, 0).UTC()
		})
		message, err := wire.Sign(want, testKey)
		if err != nil {
			return
		}
		got, err := wire.Verify(message, testKeys)
		if err != nil {
			t.Fatalf("%q was signed, but is refused: %v", message, err)
		}
		if got.ID != want.ID || got.Source != want.Source || got.Object.Metadata[name] != value ||
			!got.URL.Equal(want.URL) || !got.NotAfter.Equal(want.NotAfter) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// FuzzReceipt looks for a receipt that is accepted though nobody encoded it.
func FuzzReceipt(f *testing.F) {
	for _, o := range wire.Outcomes() {
		message, err := wire.EncodeReceipt(testReceipt(o))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message string) {
		r, err := wire.DecodeReceipt(message)
		if err != nil {
			return
		}
		again, err := wire.EncodeReceipt(r)
		if err == nil && len(r.Reason) <= wire.MaxReason && again != message {
			t.Fatalf("%q was accepted, but is written as %q", message, again)
		}
	})
}
