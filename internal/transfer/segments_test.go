package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// inSegments cuts objects of more than three parts.
func inSegments(o *transfer.Options) { o.SegmentSize = 3*partSize + 1 }

// again is t signed another time.
func again(t *wire.Transfer, signature string) *wire.Transfer {
	signed := *t
	signed.URL = secret.New(strings.Replace(t.URL.Reveal(), "topsecret", signature, 1))
	signed.NotAfter = t.NotAfter.Add(time.Minute)
	return &signed
}

// deliver is one delivery of a message, as the receiver makes it: what has to be
// told is told.
func (f *ferry) deliver(t *wire.Transfer, segment int) (transfer.Result, error) {
	f.Helper()
	carried := *t
	var r transfer.Result
	var err error
	if segment == transfer.Whole {
		r, err = f.engine.Put(f.Context(), &carried, false)
	} else {
		r, err = f.engine.PutSegment(f.Context(), &carried, segment)
	}
	f.told(r)
	return r, err
}

// shared delivers t and expects it to be cut into the segments.
func (f *ferry) shared(t *wire.Transfer, want ...int) {
	f.Helper()
	r, err := f.deliver(t, transfer.Whole)
	if diff := cmp.Diff(want, r.Segments); err != nil || r.Outcome != "" || diff != "" {
		f.Fatalf("got %q, %v, segments (-want +got):\n%s", r.Outcome, err, diff)
	}
}

// carries delivers segment n of t and expects the outcome, empty for silence.
func (f *ferry) carries(t *wire.Transfer, n int, want wire.Outcome) {
	f.Helper()
	r, err := f.deliver(t, n)
	if err != nil || r.Outcome != want || r.Segments != nil || r.Residue != nil {
		f.Errorf("segment %d: got %q, %v, segments %v, residue %v, want %q", n, r.Outcome, err, r.Segments, r.Residue, want)
	}
}

func TestSegmentsEndAsOneObject(t *testing.T) {
	for name, change := range map[string]func(*ferry) func(*wire.Transfer){
		"checksum of the source": func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC64NVME") },
		"another algorithm":      func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC32C") },
		"none":                   func(*ferry) func(*wire.Transfer) { return func(*wire.Transfer) {} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 7500, inSegments)
			f.dst.page = 2
			d := f.transfer(change(f))
			f.shared(d, 0, 1, 2)
			f.carries(d, 2, "")
			f.carries(d, 0, "")
			if got := slices.Sorted(slices.Values(f.src.asks())); !slices.Equal(got, []string{"0-999", "1000-1999", "2000-2999", "6000-6999", "7000-7499"}) {
				t.Errorf("asked for %v", got)
			}
			r, err := f.deliver(d, 1)
			want := wire.ByFullObject
			if name == "none" {
				want = wire.ByLength
			}
			if err != nil || r.Outcome != wire.Copied || r.Bytes != 7500 || r.Verified != want {
				t.Errorf("got %+v, %v", r, err)
			}
			f.arrived()
			f.carries(d, 1, "") // a duplicate
			if r, err := f.deliver(d, transfer.Whole); err != nil || r.Outcome != wire.Skipped {
				t.Errorf("a duplicate of the whole: got %q, %v", r.Outcome, err)
			}
			if got := f.src.bytesSent(); got != 7500 {
				t.Errorf("%d bytes pulled, want each of 7500 once", got)
			}
		})
	}
}

func TestOnlySegmentsThatMissPartsAreSharedOut(t *testing.T) {
	f := newFerry(t, 7500, inSegments)
	d := f.transfer()
	f.shared(d, 0, 1, 2)
	f.carries(d, 1, "")
	f.shared(d, 0, 2)
	f.carries(d, 0, "")
	f.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
		if op == "Complete" {
			refuse(w, 503, "SlowDown")
		}
		return op == "Complete"
	})
	if _, err := f.deliver(d, 2); err == nil || fault.IsPermanent(err) {
		t.Errorf("got %v, want a failure that passes", err)
	}
	f.dst.hook(nil)
	if r, err := f.deliver(d, transfer.Whole); err != nil || r.Outcome != wire.Copied {
		t.Errorf("nothing is missing: got %q, %v, want copied", r.Outcome, err)
	}
	f.arrived()
}

func TestCompletionIsToldUntilItsReceiptIsSafe(t *testing.T) {
	f := newFerry(t, 4500, inSegments)
	d := f.transfer()
	f.shared(d, 0, 1)
	f.carries(d, 0, "")
	if r, err := f.engine.PutSegment(t.Context(), d, 1); err != nil || r.Outcome != wire.Copied {
		t.Fatalf("got %q, %v", r.Outcome, err)
	}
	// Killed before the receipt: the message comes again.
	f.carries(d, 1, wire.Skipped)
	f.arrived()
	f.carries(d, 1, "")
}

func TestSegmentsOfAnotherSigningAreSilent(t *testing.T) {
	f := newFerry(t, 7500, inSegments)
	first := f.transfer()
	second := again(first, "b")
	f.shared(first, 0, 1, 2)
	f.carries(first, 0, "")
	f.shared(second, 1, 2)
	pulled := f.src.bytesSent()
	f.carries(first, 1, "")
	f.carries(first, 2, "")
	if got := f.src.bytesSent(); got != pulled {
		t.Errorf("segments of an earlier signing pulled %d bytes", got-pulled)
	}
	f.carries(second, 1, "")
	f.shared(first, 2) // delivered again, it takes over
	f.carries(second, 2, "")
	f.carries(first, 2, wire.Copied)
	f.arrived()
}

// expire makes the source refuse the URL of every signing but alive.
func (f *ferry) expire(alive string) {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("X-Amz-Signature") == alive {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
		return true
	}
}

func TestExpiredIsToldOnceAndCostsOnlyWhatIsMissing(t *testing.T) {
	f := newFerry(t, 9500, inSegments)
	first := f.transfer()
	f.shared(first, 0, 1, 2, 3)
	f.carries(first, 2, "")
	f.expire("b")
	f.carries(first, 3, wire.Expired)
	f.carries(first, 0, "")
	f.carries(first, 1, "")
	f.carries(first, 3, wire.Expired) // its receipt was not safe yet
	second := again(first, "b")
	f.shared(second, 0, 1, 3)
	f.carries(first, 3, "")
	for _, n := range []int{0, 1} {
		f.carries(second, n, "")
	}
	f.carries(second, 3, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got != 9500 {
		t.Errorf("%d bytes pulled, want each of 9500 once", got)
	}
}

func TestExpiredSignedAtTheSameTimeGoesOn(t *testing.T) {
	f := newFerry(t, 4500, inSegments)
	d := f.transfer()
	f.shared(d, 0, 1)
	f.expire("b")
	f.carries(d, 0, wire.Expired)
	f.src.behave()
	f.shared(d, 0, 1)
	f.carries(d, 0, "")
	f.carries(d, 1, wire.Copied)
	f.arrived()
}

func TestWhatEndsATransferIsToldOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(f *ferry)
		want  wire.Outcome // or a permanent fault of the class
		class string
	}{
		"superseded at the source": {func(f *ferry) { f.src.etag = "another" }, wire.Superseded, ""},
		"gone": {func(f *ferry) {
			f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool { refuse(w, 404, "NoSuchKey"); return true }
		}, wire.Gone, ""},
		"superseded at the destination": {func(f *ferry) {
			f.dst.put(bucket+"/"+testKey, nil, map[string]string{transfer.MetaSequencer: "11"})
		}, wire.Superseded, ""},
		"denied": {func(f *ferry) {
			f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool { refuse(w, 403, "AccessDenied"); return true }
		}, "", "source-denied"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 9500, inSegments)
			d := f.transfer()
			f.shared(d, 0, 1, 2, 3)
			f.carries(d, 0, "")
			tc.spoil(f)
			tells := func(n int) {
				t.Helper()
				r, err := f.engine.PutSegment(t.Context(), d, n)
				if r.Outcome != tc.want || fault.IsPermanent(err) != (tc.class != "") || err != nil && fault.Class(err) != tc.class {
					t.Errorf("got %q, %v, want %q, class %q", r.Outcome, err, tc.want, tc.class)
				}
				if r.Told == nil {
					t.Fatal("nothing to call when that is told")
				}
			}
			tells(2)
			f.carries(d, 1, "") // another found the same
			tells(2)            // the first receipt was not safe
			r, _ := f.deliver(d, 2)
			if r.Outcome != tc.want {
				t.Errorf("got %q, want %q", r.Outcome, tc.want)
			}
			f.clean()
			f.carries(d, 3, "")
			f.carries(d, 2, "")
			f.clean()
		})
	}
}

func TestASegmentWithoutItsEntryIsNotLost(t *testing.T) {
	now := time.Now()
	f := newFerry(t, 4500, inSegments, func(o *transfer.Options) { o.Now = func() time.Time { return now } })
	d := f.transfer()
	f.carries(d, 0, "") // it has ended and was told of
	now = now.Add(20 * 24 * time.Hour)
	f.carries(d, 0, "") // the entry would still be there
	now = now.Add(10 * 24 * time.Hour)
	f.carries(d, 0, wire.Expired) // nothing remembers: ask for it again
	f.dst.put(bucket+"/"+testKey, f.src.body, map[string]string{transfer.MetaSequencer: "10"})
	f.carries(d, 0, wire.Skipped)
}

func TestALostUploadOfSegmentsIsBegunAgain(t *testing.T) {
	tries := map[string]int{"aborted": 6, "bent": 2}
	for name, lose := range map[string]func(*ferry){
		"aborted": func(f *ferry) {
			f.dst.mu.Lock()
			defer f.dst.mu.Unlock()
			clear(f.dst.uploads)
		},
		"bent": func(f *ferry) {
			f.dst.mu.Lock()
			defer f.dst.mu.Unlock()
			for _, u := range f.dst.uploads {
				for n, p := range u.parts {
					u.parts[n] = object{body: slices.Repeat([]byte("x"), len(p.body)), etag: p.etag}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 4500, inSegments)
			d := f.transfer(withChecksum(f, "CRC64NVME"))
			for round := 1; ; round++ {
				f.shared(d, 0, 1)
				f.carries(d, 0, "")
				lose(f)
				r, err := f.deliver(d, 1)
				if round == tries[name] {
					if fault.Class(err) != "upload-hopeless" || !fault.IsPermanent(err) {
						t.Errorf("again and again: got %+v, %v", r, err)
					}
					break
				}
				if err != nil || r.Outcome != "" || !slices.Equal(r.Segments, []int{transfer.Whole}) {
					t.Fatalf("got %+v, %v, want the whole again", r, err)
				}
				f.carries(d, 0, "") // silent: the whole is on its way
			}
			f.clean()
			f.shared(again(d, "b"), 0, 1)
			f.carries(again(d, "b"), 0, "")
			f.carries(again(d, "b"), 1, wire.Copied)
			f.arrived()
		})
	}
}

// redelivered delivers a message again for as long as that may help: another worker
// may have replaced a part that this one was about to complete.
func redelivered(deliver func() (transfer.Result, error)) (r transfer.Result, err error) {
	const most = 50
	for range most {
		if r, err = deliver(); err == nil || fault.IsPermanent(err) {
			break
		}
	}
	return r, err
}

func TestManyWorkersOnEverySegment(t *testing.T) {
	f := newFerry(t, 30_500, inSegments)
	d := f.transfer(withChecksum(f, "CRC64NVME"))
	r, err := f.deliver(d, transfer.Whole)
	if err != nil || len(r.Segments) != 11 {
		t.Fatalf("got %+v, %v", r, err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[wire.Outcome]int{}
	for range 2 {
		engine := f.newEngine(inSegments)
		for _, n := range r.Segments {
			wg.Go(func() {
				r, err := redelivered(func() (transfer.Result, error) {
					carried := *d
					r, err := engine.PutSegment(t.Context(), &carried, n)
					if err == nil && r.Told != nil {
						err = r.Told(t.Context())
					}
					return r, err
				})
				if err != nil {
					t.Errorf("segment %d: %v", n, err)
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[r.Outcome]++
			})
		}
	}
	wg.Wait()
	f.arrived()
	if outcomes[wire.Copied] != 1 {
		t.Errorf("got %v, want copied once", outcomes)
	}
}

func TestAnUnfinishedSegmentGoesOn(t *testing.T) {
	f := newFerry(t, 7500, inSegments, func(o *transfer.Options) { o.Connections = 1 })
	d := f.transfer()
	f.shared(d, 0, 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	f.src.misbehave = func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n > 2 {
			cancel()
			<-r.Context().Done()
		}
		return n > 2
	}
	_, err := f.engine.PutSegment(ctx, d, 0)
	if u, ok := errors.AsType[*transfer.Unfinished](err); !ok || u.Remaining == 0 {
		t.Fatalf("got %v, want *Unfinished", err)
	}
	f.src.behave()
	f.carries(d, 0, "")
	if asks := strings.Join(f.src.asks(), " "); strings.Contains(asks, "3000-") {
		t.Errorf("segment 0 asked for %s", asks)
	}
}

func TestAnObjectBegunWholeIsNotCut(t *testing.T) {
	f := newFerry(t, 4500)
	f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool { refuse(w, 503, "SlowDown"); return true }
	f.fail(f.transfer(), "border", false)
	f.src.behave()
	f.engine = f.newEngine(inSegments)
	f.carries(f.transfer(), 0, "")
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
}
