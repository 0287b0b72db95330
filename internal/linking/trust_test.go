package linking

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/link"
)

func TestEdits(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const spelt = ` {"sources":[ {"bucket":"b","region":"r"} ], "keys":[], "later":1e3}`
	before, err := parseTrust(spelt, 7)
	if err != nil {
		t.Fatal(err)
	}
	s := link.Source{Bucket: "b", Region: "r"}
	for name, after := range map[string]trust{
		"a source that is there": before.withSources([]link.Source{s}),
		"no such key":            before.withoutKey("x"),
		"no such key to mark":    before.withExpiry("x", time.Now()),
		"no such source":         before.withoutSource(link.Source{Bucket: "b", Region: "s"}),
	} {
		if after.text != spelt {
			t.Errorf("%s: the text became %s", name, after.text)
		}
	}
	one := before.withKey("k", public)
	if again := one.withKey("k", public); again.text != one.text || !strings.Contains(one.text, `"later":1e3`) {
		t.Errorf("adding a key twice: %s and %s", one.text, again.text)
	}
	marked := one.withExpiry("k", time.Unix(1e9, 0))
	if later := marked.withExpiry("k", time.Unix(2e9, 0)); later.text != marked.text || !strings.Contains(marked.text, `"exp":1000000000`) {
		t.Errorf("marking a key twice: %s and %s", marked.text, later.text)
	}
	if back := marked.withKey("k", public); back.text != one.text {
		t.Errorf("a key that is in use again: got %s, want %s", back.text, one.text)
	}
	if gone := marked.withoutKey("k").withoutSource(s); strings.Contains(gone.text, `"k"`) || strings.Contains(gone.text, `"b"`) {
		t.Errorf("got %s", gone.text)
	}
	if before.text != spelt || len(before.keys) != 0 {
		t.Error("the document itself was changed")
	}
	if parsed, err := parseTrust(marked.text, 8); err != nil || !parsed.keys[0].expires.Equal(time.Unix(1e9, 0)) {
		t.Errorf("got %+v, %v", parsed, err)
	}
}

func TestKeyIDs(t *testing.T) {
	key, err := newKey("a-20260101-b", time.Date(2026, 11, 23, 23, 0, 0, 0, time.FixedZone("", -7200)))
	if err != nil {
		t.Fatal(err)
	}
	if nameOf(key.ID) != "a-20260101-b" || dayOf(key.ID) != "2026-11-24" {
		t.Errorf("%s: got name %q and day %q", key.ID, nameOf(key.ID), dayOf(key.ID))
	}
	for _, id := range []string{"", "link-2026-11-23", "x-20261323-00000000"} {
		if dayOf(id) != "" {
			t.Errorf("%q: got day %q", id, dayOf(id))
		}
	}
	if other, err := newKey("a", time.Now()); err != nil || other.Key.Equal(key.Key) {
		t.Error("two keys are the same")
	}
}
