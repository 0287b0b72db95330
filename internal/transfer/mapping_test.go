package transfer_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

func mapped(m transfer.Mapping) func(*transfer.Options) {
	return func(o *transfer.Options) { o.Mapping = m }
}

func TestMappedKeys(t *testing.T) {
	long := strings.Repeat("k", 1020)
	for name, tc := range map[string]struct {
		mapping   transfer.Mapping
		key, want string // want "" is a permanent fault
	}{
		"neither":                  {transfer.Mapping{}, "a//b", "a//b"},
		"strip":                    {transfer.Mapping{StripPrefix: "out/"}, "out/out/b", "out/b"},
		"add":                      {transfer.Mapping{AddPrefix: "in/"}, "/b", "in//b"},
		"both":                     {transfer.Mapping{StripPrefix: "out/年", AddPrefix: "in/"}, "out/年报", "in/报"},
		"all but what is added":    {transfer.Mapping{StripPrefix: "out/b", AddPrefix: "in"}, "out/b", "in"},
		"placeholders":             {transfer.Mapping{AddPrefix: "{region}/{bucket}/{key}/"}, "{bucket}", "us-east-1/src/{key}/{bucket}"},
		"longest":                  {transfer.Mapping{AddPrefix: "1234"}, long, "1234" + long},
		"too long":                 {transfer.Mapping{AddPrefix: "12345"}, long, ""},
		"nothing left":             {transfer.Mapping{StripPrefix: "out/"}, "out/", ""},
		"outside the prefix":       {transfer.Mapping{StripPrefix: "out/"}, "output", ""},
		"prefix in the wrong case": {transfer.Mapping{StripPrefix: "out/"}, "OUT/b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 10, mapped(tc.mapping))
			work := f.transfer(func(w *wire.Transfer) { w.Source.Key = tc.key })
			if tc.want == "" {
				err := f.fail(work, "key-mapping", true)
				if !strings.Contains(err.Error(), "map key") {
					t.Errorf("got %v", err)
				}
				f.asked()
				return
			}
			f.put(work, false, wire.Copied)
			if o := f.dst.get(bucket + "/" + tc.want); o == nil || !bytes.Equal(o.body, f.src.body) {
				t.Errorf("got %v, expected the object as %q", f.dst.names(bucket), tc.want)
			}
		})
	}
}

// Everything about the destination goes by its key: uploads, their journal
// entries, and the order of events, in metadata and in the journal.
func TestOrderAndResumeGoByTheMappedKey(t *testing.T) {
	m := mapped(transfer.Mapping{StripPrefix: "dir//", AddPrefix: "in/"})
	const want = "in/年报 +%.bin"

	large := newFerry(t, 5*partSize, m)
	large.put(large.transfer(), false, wire.Copied)
	large.put(large.transfer(), true, wire.Skipped)
	large.put(large.transfer(withSequencer("0F")), false, wire.Superseded)
	if o := large.dst.get(bucket + "/" + want); o == nil || !bytes.Equal(o.body, large.src.body) {
		t.Errorf("got %v, expected the object as %q", large.dst.names(bucket), want)
	}
	large.clean()

	overflowing := newFerry(t, 10, m)
	overflowing.put(overflowing.transfer(big), false, wire.Copied)
	record, err := journal.New(overflowing.dst.client, journalBucket).Order(t.Context(), bucket, want)
	if err != nil || record == nil || record.Sequencer != "10" || record.SourceBucket != "src" {
		t.Errorf("got order record %+v, %v, expected one of the destination's key", record, err)
	}
	overflowing.put(overflowing.transfer(big), true, wire.Skipped)
}

// What is under way when the mapping changes begins again, and ends up where the
// new one says.
func TestAChangedMappingBeginsAgain(t *testing.T) {
	f := newFerry(t, 5*partSize, mapped(transfer.Mapping{AddPrefix: "old/"}))
	ctx, cancel := context.WithCancel(t.Context())
	f.src.misbehave = func(int, http.ResponseWriter, *http.Request) bool {
		cancel()
		return false
	}
	if _, err := f.engine.Put(ctx, f.transfer(), false); err == nil {
		t.Fatal("the first attempt came through, so this test proves nothing")
	}
	if f.dst.pendings() != 1 {
		t.Fatalf("got %d uploads under way, want 1", f.dst.pendings())
	}
	f.src.behave()
	f.engine = f.newEngine(mapped(transfer.Mapping{AddPrefix: "new/"}))
	f.put(f.transfer(), true, wire.Copied)
	if diff := cmp.Diff([]string{"new/" + testKey}, f.dst.names(bucket)); diff != "" {
		t.Error(diff)
	}
}

func TestMappedStorageClasses(t *testing.T) {
	named := map[string]string{"STANDARD": "STANDARD_IA", "EXPRESS_ONEZONE": "STANDARD", "GLACIER": "OUTPOSTS"}
	all := map[string]string{"GLACIER_IR": "GLACIER_IR", transfer.AnyClass: "INTELLIGENT_TIERING"}
	for name, tc := range map[string]struct {
		classes     map[string]string
		class, want string
	}{
		"none":        {nil, "STANDARD_IA", "STANDARD_IA"},
		"named":       {named, "EXPRESS_ONEZONE", "STANDARD"},
		"the default": {named, "", "STANDARD_IA"},
		"not named":   {named, "GLACIER_IR", "GLACIER_IR"},
		"any":         {all, "EXPRESS_ONEZONE", "INTELLIGENT_TIERING"},
		"but not one": {all, "GLACIER_IR", "GLACIER_IR"},
		"unreachable": {named, "GLACIER", ""},
	} {
		for _, size := range []int{10, 3 * partSize} {
			f := newFerry(t, size, mapped(transfer.Mapping{StorageClasses: tc.classes}))
			work := f.transfer(func(w *wire.Transfer) { w.Object.StorageClass = tc.class })
			if tc.want == "" {
				f.fail(work, "storage-class", true)
				continue
			}
			f.put(work, false, wire.Copied)
			if got := f.dst.get(bucket + "/" + testKey).header.Get("X-Amz-Storage-Class"); got != tc.want {
				t.Errorf("%s, %d bytes: got %q, want %q", name, size, got, tc.want)
			}
		}
	}
}
