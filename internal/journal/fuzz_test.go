package journal

import (
	"bytes"
	"testing"

	"github.com/s3ferry/s3ferry/internal/fault"
)

// FuzzOrderRecord looks for a record that is believed though no journal wrote
// it.
func FuzzOrderRecord(f *testing.F) {
	name := orderName("dest", "k")
	written := newBucket()
	if _, err := New(written, "journal").Advance(f.Context(), Order{Bucket: "dest", Key: "k", Sequencer: "1A", ETag: "e", VersionID: "v"}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(written.entries[name]))
	f.Add([]byte(`{"v":1,"V":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBucket()
		b.set(name, string(data))
		o, err := New(b, "journal").Order(t.Context(), "dest", "k")
		if err != nil {
			if fault.Class(err) != ClassCorrupt {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if o.Bucket != "dest" || o.Key != "k" || o.Sequencer == "" {
			t.Fatalf("%q was taken for %+v", data, o)
		}
		again := newBucket()
		if _, err := New(again, "journal").Advance(t.Context(), *o); err != nil {
			t.Fatal(err)
		}
		if got := again.entries[name]; !bytes.Equal([]byte(got), data) {
			t.Fatalf("%q was accepted, but is written as %q", data, got)
		}
	})
}
