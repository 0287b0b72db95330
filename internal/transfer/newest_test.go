package transfer_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

func withDeletes(o *transfer.Options) { o.Deletes = true }

// deletion is the event of that sequencer by which the source's object was deleted.
func (f *ferry) deletion(sequencer string) *wire.Transfer {
	return f.transfer(withSequencer(sequencer), func(t *wire.Transfer) {
		t.Op, t.URL, t.Object = wire.OpDelete, secret.String{}, wire.Object{}
		t.Source.VersionID, t.Source.ETag, t.Source.Size = "marker", "", 0
	})
}

// delete expects t to end with the outcome.
func (f *ferry) delete(t *wire.Transfer, want wire.Outcome) transfer.Result {
	f.Helper()
	r, err := f.engine.Delete(f.Context(), t)
	if err != nil || r.Outcome != want || r.Residue != nil {
		f.Fatalf("got %+v, %v, want %s", r, err, want)
	}
	return r
}

// absent expects no object at the destination and no upload.
func (f *ferry) absent() {
	f.Helper()
	if f.dst.get(bucket+"/"+testKey) != nil {
		f.Error("the destination has the object")
	}
	f.clean()
}

func TestDelete(t *testing.T) {
	for _, size := range []int{10, 3500} {
		f := newFerry(t, size, withDeletes)
		f.put(f.transfer(), false, wire.Copied)
		f.delete(f.deletion("0F"), wire.Superseded)
		f.arrived()
		f.dst.requests()
		f.delete(f.deletion("11"), wire.Deleted)
		f.asked("journalGet", "journalPut", "Head", "Delete", "journalGet")
		f.absent()
		f.delete(f.deletion("11"), wire.Deleted)

		f.src.asks()
		f.put(f.transfer(), false, wire.Superseded)
		f.put(f.transfer(), true, wire.Superseded)
		f.absent()
		f.put(f.transfer(withSequencer("12")), false, wire.Copied)
		f.arrived()
		f.delete(f.deletion("11"), wire.Superseded)
		f.arrived()
	}
}

func TestDeleteTakesWhatDidNotComeByFerry(t *testing.T) {
	f := newFerry(t, 10, withDeletes)
	f.dst.put(bucket+"/"+testKey, []byte("foreign"), nil)
	f.delete(f.deletion("10"), wire.Deleted)
	f.absent()
}

func TestDeleteFindsOrderInTheJournal(t *testing.T) {
	f := newFerry(t, 10, withDeletes)
	f.put(f.transfer(big), false, wire.Copied)
	f.delete(f.deletion("0F"), wire.Superseded)
	f.arrived()
	f.delete(f.deletion("11"), wire.Deleted)
	f.absent()
	f.put(f.transfer(big), true, wire.Superseded)
	f.absent()
}

// A deletion that comes while a put is about to be written finds nothing to
// delete; the put finds the deletion.
func TestDeletionBetweenLookAndWrite(t *testing.T) {
	for _, size := range []int{10, 3500} {
		f := newFerry(t, size, withDeletes)
		var once sync.Once
		f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
			if op == "Put" || op == "Complete" {
				once.Do(func() { f.delete(f.deletion("11"), wire.Deleted) })
			}
			return false
		})
		f.put(f.transfer(), false, wire.Superseded)
		f.absent()
	}
}

// What a deletion looks at may be replaced by a newer object before it is deleted.
func TestDeletionIsJudgedAgain(t *testing.T) {
	for sequencer, want := range map[string]wire.Outcome{"0E": wire.Deleted, "12": wire.Superseded} {
		f := newFerry(t, 10, withDeletes)
		f.put(f.transfer(), false, wire.Copied)
		var once sync.Once
		f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
			if op == "Delete" {
				once.Do(func() {
					f.dst.put(bucket+"/"+testKey, f.src.body, map[string]string{transfer.MetaSequencer: sequencer})
				})
			}
			return false
		})
		f.delete(f.deletion("11"), want)
		if there := f.dst.get(bucket+"/"+testKey) != nil; there != (want == wire.Superseded) {
			t.Errorf("%s: the destination has an object: %v", sequencer, there)
		}
	}
}

// Bytes that come back have the ETag they had, so a late deletion or overwrite
// passes its condition. It then finds the newer event and asks for it again.
func TestWhatIsUndoneIsAskedForAgain(t *testing.T) {
	newer := func(f *ferry) *wire.Transfer { return f.transfer(withSequencer("20"), withVersion("v9")) }
	for name, older := range map[string]func(*ferry) (transfer.Result, error){
		"deletion": func(f *ferry) (transfer.Result, error) { return f.engine.Delete(f.Context(), f.deletion("11")) },
		"put": func(f *ferry) (transfer.Result, error) {
			return f.engine.Put(f.Context(), f.transfer(withSequencer("11"), withVersion("v2")), true)
		},
	} {
		f := newFerry(t, 10, withDeletes)
		f.put(f.transfer(), false, wire.Copied)
		etag := f.dst.get(bucket + "/" + testKey).etag
		var met atomic.Bool
		f.dst.hook(func(op string, _ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("If-Match") == etag && met.CompareAndSwap(false, true) {
				f.put(newer(f), true, wire.Copied)
				r.Header.Set("If-Match", f.dst.get(bucket+"/"+testKey).etag)
			}
			return false
		})
		r, err := older(f)
		want := newer(f).Source
		if err != nil || r.Outcome != wire.Superseded || r.Again == nil || !cmp.Equal(*r.Again, want) {
			t.Fatalf("%s: got %+v, %v, want superseded and %v again", name, r, err, want)
		}
		f.put(newer(f), false, wire.Copied)
		f.arrived()
	}
}

func TestVersionThatIsThereIsNotCopied(t *testing.T) {
	for version, want := range map[string]wire.Outcome{"v1": wire.Skipped, "v2": wire.Copied, "null": wire.Copied, "": wire.Copied} {
		f := newFerry(t, 10, withDeletes)
		there := version
		if version == "v2" {
			there = "v1"
		}
		f.put(f.transfer(withVersion(there)), false, wire.Copied)
		f.put(f.transfer(withVersion(version), withSequencer("30")), true, want)
		f.arrived()
		f.delete(f.deletion("20"), wire.Superseded) // what lies between the two is over
		f.arrived()
		f.delete(f.deletion("31"), wire.Deleted)
		f.absent()
	}
}

func TestDeleteWithoutConditions(t *testing.T) {
	f := newFerry(t, 10, withDeletes, func(o *transfer.Options) { o.HeadThenWrite = true })
	f.dst.hook(func(op string, _ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(op, "journal") && (r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "") {
			t.Errorf("%s has a condition", op)
		}
		return false
	})
	f.put(f.transfer(), false, wire.Copied)
	f.delete(f.deletion("11"), wire.Deleted)
	f.put(f.transfer(), true, wire.Superseded)
	f.absent()
}
