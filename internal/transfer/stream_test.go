package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/crc64nvme"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// In these tests an object has at most four parts, and the memory holds 4,000
// bytes: one of more than 8,000 bytes has parts that are streamed, in slabs of 250.
const streamMemory = 4000

func streamed(o *transfer.Options) {
	o.PartSize, o.MaxParts, o.Memory = 500, 4, streamMemory
}

// watchMemory fails the test if more is lent than there is, whenever anything is
// asked of the source, and returns what checks that all of it came back.
func (f *ferry) watchMemory() (check func()) {
	f.Helper()
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	misbehave := f.src.misbehave
	var most atomic.Int64
	f.src.misbehave = func(n int, w http.ResponseWriter, r *http.Request) bool {
		most.Store(max(most.Load(), f.engine.Lent()))
		return misbehave != nil && misbehave(n, w, r)
	}
	return func() {
		f.Helper()
		if got := most.Load(); got > streamMemory || got == 0 {
			f.Errorf("%d bytes lent at once, want some and at most %d", got, streamMemory)
		}
		if got := f.engine.Lent(); got != 0 {
			f.Errorf("%d bytes were not given back", got)
		}
	}
}

func TestPartsBeyondTheMemoryAreStreamed(t *testing.T) {
	for name, change := range map[string]func(*ferry) func(*wire.Transfer){
		"CRC64NVME": func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC64NVME") },
		"CRC32":     func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC32") },
		"CRC32C":    func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC32C") },
		"none":      func(*ferry) func(*wire.Transfer) { return func(*wire.Transfer) {} },
	} {
		for _, size := range []int{8001, 31_750, 32_000, 32_001, 100_003} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				f := newFerry(t, size, streamed)
				check := f.watchMemory()
				var framed atomic.Int64
				f.dst.hook(func(op string, _ http.ResponseWriter, r *http.Request) bool {
					if op == "Part" && r.Header.Get("X-Amz-Trailer") != "" {
						framed.Add(1)
					}
					return false
				})
				f.put(f.transfer(change(f)), false, wire.Copied)
				f.arrived()
				check()
				if got := f.src.bytesSent(); got != size {
					t.Errorf("%d bytes pulled, want each of %d once", got, size)
				}
				if got := count(f.dst.requests(), "Part"); got < 3 || got > 4 || framed.Load() < 3 {
					t.Errorf("%d parts, %d of them streamed", got, framed.Load())
				}
			})
		}
	}
}

func TestARangeOfAStreamedPartGoesOnWhereItStopped(t *testing.T) {
	for name, end := range map[string]func(*ferry, *http.Request){
		"short body": func(*ferry, *http.Request) {},
		"reset":      func(*ferry, *http.Request) { panic(http.ErrAbortHandler) },
		"stall":      func(f *ferry, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 20_000, streamed, func(o *transfer.Options) {
				if name == "stall" {
					o.StallWindow, o.StallFloor = time.Second, 1000
				}
			})
			f.src.misbehave = func(n int, w http.ResponseWriter, r *http.Request) bool {
				from, to, _ := f.src.asked(r)
				if n%7 != 0 || to-from < 100 {
					return false
				}
				f.src.cut(w, r, 100)
				end(f, r)
				return true
			}
			check := f.watchMemory()
			f.put(f.transfer(withChecksum(f, "CRC64NVME")), false, wire.Copied)
			f.arrived()
			check()
			resumed := 0
			for _, asked := range f.src.asks() {
				if from, _ := strconv.Atoi(strings.Split(asked, "-")[0]); from%250 == 100 {
					resumed++
				}
			}
			if resumed < 5 {
				t.Errorf("%d ranges went on where they stopped: %v", resumed, f.src.asks())
			}
		})
	}
}

// A range in the middle of a part holds up all that come after it.
func TestALateRangeOfAStreamedPartIsHedged(t *testing.T) {
	f := newFerry(t, 20_000, streamed, func(o *transfer.Options) { o.StallWindow, o.HedgeAfter = time.Hour, transfer.DefaultHedgeAfter })
	var hung atomic.Bool
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if from, _, _ := f.src.asked(r); from != 1000 || hung.Swap(true) {
			return false
		}
		f.src.cut(w, r, 100)
		<-r.Context().Done() // which only the second connection can end
		return true
	}
	check := f.watchMemory()
	f.put(f.transfer(withChecksum(f, "CRC64NVME")), false, wire.Copied)
	f.arrived()
	check()
	if asks := f.src.asks(); !slices.Contains(asks, "1100-1249") {
		t.Errorf("no second connection for the rest of the range: %v", asks)
	}
}

// Each of these happens to a part once.
func TestARefusedStreamedPartIsPulledAgain(t *testing.T) {
	read := func(r *http.Request, n int64) { _, _ = io.CopyN(io.Discard, r.Body, n) }
	for name, tc := range map[string]struct {
		early bool
		do    func(w http.ResponseWriter, r *http.Request)
		again int // bytes that are pulled again, at most
	}{
		"wrong checksum":       {false, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "BadDigest") }, 5000},
		"500 after the body":   {false, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "InternalError") }, 5000},
		"reset after the body": {false, func(w http.ResponseWriter, _ *http.Request) { hangUp(w) }, 5000},
		"idle for too long":    {false, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "RequestTimeout") }, 5000},
		"503 before the body": {true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			refuse(w, 503, "SlowDown")
		}, 0},
		"503 in the middle":   {true, func(w http.ResponseWriter, r *http.Request) { read(r, 2000); refuse(w, 503, "SlowDown") }, 5000},
		"reset in the middle": {true, func(w http.ResponseWriter, r *http.Request) { read(r, 2000); hangUp(w) }, 5000},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 20_000, streamed)
			f.expectContinue()
			var once atomic.Bool
			fail := func(op string, w http.ResponseWriter, r *http.Request) bool {
				if op != "Part" || r.URL.Query().Get("partNumber") != "2" || once.Swap(true) {
					return false
				}
				tc.do(w, r)
				return true
			}
			if tc.early {
				f.dst.meet(fail)
			} else {
				f.dst.hook(fail)
			}
			check := f.watchMemory()
			f.put(f.transfer(withChecksum(f, "CRC64NVME")), false, wire.Copied)
			f.arrived()
			check()
			if got := f.src.bytesSent() - 20_000; got < 0 || got > tc.again || (tc.again > 0) != (got > 0) {
				t.Errorf("%d bytes pulled again, want at most %d: %v, with %v", got, tc.again, f.src.asks(), f.dst.requests())
			}
			if !once.Load() {
				t.Error("nothing was refused")
			}
		})
	}
}

// expectContinue makes the destination's client wait for 100-continue before it
// sends a body, as it does with parts of more than 2 MiB.
func (f *ferry) expectContinue() {
	o := f.dst.client.Options()
	o.ContinueHeaderThresholdBytes = 1
	o.HTTPClient = &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	f.dst.client = s3.New(o)
	f.engine = f.newEngine(streamed)
}

// A destination that does not look at the trailer has stored something else.
func TestAnotherChecksumInTheAnswerIsPulledAgain(t *testing.T) {
	f := newFerry(t, 20_000, streamed)
	f.dst.naive = true
	var once atomic.Bool
	f.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
		if op != "Part" || once.Swap(true) {
			return false
		}
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("X-Amz-Checksum-Crc64nvme", sumOf("CRC64NVME", nil))
		return true
	})
	f.put(f.transfer(withChecksum(f, "CRC64NVME")), false, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got != 25_000 {
		t.Errorf("%d bytes pulled, want 20000 and a part", got)
	}
}

func TestAStreamedPartThatIsAlwaysRefusedIsTransient(t *testing.T) {
	for code, class := range map[string]string{"BadDigest": "checksum-mismatch", "RequestTimeout": "destination-busy"} {
		f := newFerry(t, 20_000, streamed)
		f.dst.hook(func(op string, w http.ResponseWriter, r *http.Request) bool {
			hit := op == "Part" && r.URL.Query().Get("partNumber") == "2"
			if hit {
				refuse(w, 400, code)
			}
			return hit
		})
		check := f.watchMemory()
		f.fail(f.transfer(), class, false)
		check()
		if got := f.src.bytesSent(); got > 40_000 {
			t.Errorf("%s: %d bytes pulled for parts that are refused", code, got)
		}
		f.dst.hook(nil)
		f.put(f.transfer(), true, wire.Copied)
		f.arrived()
	}
}

// Bytes that bend before they are here have the checksum of what they are. That of
// the whole finds them.
func TestBentBytesOfAStreamedPartAreNeverWritten(t *testing.T) {
	f := newFerry(t, 20_000, streamed)
	change := withChecksum(f, "CRC32C")
	good := f.src.body
	f.src.body = bytes.Clone(good)
	f.src.body[7777] ^= 1
	f.fail(f.transfer(change), "checksum-mismatch", false)
	if f.dst.get(bucket+"/"+testKey) != nil {
		t.Error("bent bytes were written")
	}
	f.src.body = good
	f.put(f.transfer(change), true, wire.Copied)
	f.arrived()
}

func TestAURLThatExpiresInAStreamedPart(t *testing.T) {
	f := newFerry(t, 20_000, streamed)
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		from, _, _ := f.src.asked(r)
		if from < 7000 {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"))
		return true
	}
	check := f.watchMemory()
	f.put(f.transfer(), false, wire.Expired)
	check()
	f.src.behave()
	f.put(f.transfer(func(t *wire.Transfer) { t.URL = secret.New(f.src.url + "&again") }), true, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got > 22_500 {
		t.Errorf("%d bytes sent in all: more than the part that was begun came again", got)
	}
}

// A part that is not stored when the time is up starts over; what was stored stays.
func TestAStreamedPartStartsOverWhenTimeIsUp(t *testing.T) {
	f := newFerry(t, 20_000, streamed)
	stopped, stop := context.WithCancel(t.Context())
	f.src.misbehave = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		from, _, _ := f.src.asked(r)
		if from >= 7000 {
			for f.dst.stored() == 0 && r.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			stop()
			<-r.Context().Done()
		}
		return from >= 7000
	}
	check := f.watchMemory()
	_, err := f.engine.Put(transfer.Until(t.Context(), stopped), f.transfer(), false)
	if u, ok := errors.AsType[*transfer.Unfinished](err); !ok || u.Parts != 1 || u.Remaining != 3 {
		t.Fatalf("got %v, want 1 part finished and 3 to do", err)
	}
	check()
	f.src.behave()
	f.put(f.transfer(), true, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got < 20_000 || got > 22_500 {
		t.Errorf("%d bytes sent in all, want those of the part that was begun twice, and no others", got)
	}
}

// slowLink is a source and a destination in virtual time: all calls are answered at
// once, but a range takes as long as pause says.
type slowLink struct {
	*schedule
	pause  func(offset int) time.Duration
	pulled atomic.Int64
}

func (l *slowLink) RoundTrip(r *http.Request) (*http.Response, error) {
	var from, to int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
		return nil, err
	}
	select {
	case <-time.After(l.pause(from)):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	l.pulled.Add(int64(to - from + 1))
	return l.schedule.RoundTrip(r)
}

// put carries 20,000 bytes over l, in four parts of 20 ranges, one after the other,
// within 15 minutes or the life of the URL, and returns how long that took.
func (l *slowLink) put(t *testing.T, life time.Duration) (transfer.Result, time.Duration, error) {
	t.Helper()
	e := &edition{body: random(20_000), transfer: &wire.Transfer{
		Op: wire.OpPut, URL: secret.New("http://source/0"), NotAfter: time.Now().Add(life),
		Source: wire.Source{Region: "us-east-1", Bucket: "source", Key: "key", ETag: "etag", Size: 20_000, Sequencer: "10"},
	}}
	e.transfer.ID = wire.ID(wire.OpPut, e.transfer.Source)
	l.schedule = &schedule{
		versioned: true, versions: []*edition{e}, objects: map[string]modelObject{}, uploads: map[string]*openUpload{},
	}
	engine := transfer.New(transfer.Options{
		S3: l, Bucket: "destination", Journal: journal.New(l, "journal"), HTTP: &http.Client{Transport: l},
		Connections: 1, PartSize: 500, MaxParts: 4, Memory: streamMemory, StallWindow: time.Hour,
	})
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), deliveryKey{}, &delivery{edition: e}), 15*time.Minute)
	defer cancel()
	began := time.Now()
	var r transfer.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err = engine.Put(ctx, e.transfer, false)
	}()
	for {
		synctest.Wait()
		l.mu.Lock()
		calls := slices.Clone(l.waiting)
		l.mu.Unlock()
		for _, c := range calls {
			l.release(c)
		}
		select {
		case <-done:
			if got := engine.Lent(); got != 0 {
				t.Errorf("%d bytes were not given back", got)
			}
			return r, time.Since(began), err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestAPartThatWouldNotBeInTimeIsGivenUpEarly(t *testing.T) {
	const slow = 100 * time.Second // 20 of them are more than twice the 15 minutes
	for name, tc := range map[string]struct {
		slowFrom int
		life     time.Duration
		judge    func(*testing.T, transfer.Result, error)
	}{
		"the first": {0, time.Hour, func(t *testing.T, r transfer.Result, err error) {
			if fault.Class(err) != "too-slow" || fault.IsPermanent(err) || r.Outcome != "" {
				t.Errorf("got %+v, %v, want a part that is too slow", r, err)
			}
		}},
		"another": {5000, time.Hour, func(t *testing.T, _ transfer.Result, err error) {
			if u, ok := errors.AsType[*transfer.Unfinished](err); !ok || u.Parts != 1 || u.Remaining != 3 {
				t.Errorf("got %v, want 1 part finished and 3 to do", err)
			}
		}},
		"the URL would not live as long": {0, 10 * time.Minute, func(t *testing.T, r transfer.Result, err error) {
			if err != nil || r.Outcome != wire.Expired {
				t.Errorf("got %+v, %v, want expired", r, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &slowLink{pause: func(offset int) time.Duration {
					if offset >= tc.slowFrom {
						return slow
					}
					return time.Second
				}}
				r, took, err := l.put(t, tc.life)
				tc.judge(t, r, err)
				if took > 4*time.Minute {
					t.Errorf("given up after %s", took)
				}
			})
		})
	}
}

// Three of four parts fit into the time: the last is left to another delivery, not
// begun and broken off.
func TestNoPartIsBegunForWhichNoTimeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &slowLink{pause: func(int) time.Duration { return 13 * time.Second }} // 260 s a part
		_, _, err := l.put(t, time.Hour)
		if u, ok := errors.AsType[*transfer.Unfinished](err); !ok || u.Parts != 3 || u.Remaining != 1 {
			t.Errorf("got %v, want 3 parts finished and 1 to do", err)
		}
		if got := l.pulled.Load(); got != 15_000 {
			t.Errorf("%d bytes pulled, want those of three parts", got)
		}
	})
}

func TestStreamedAndOtherTransfersShareTheMemory(t *testing.T) {
	f := newFerry(t, 20_000, streamed)
	small := newFerry(t, 7000) // parts of 2000
	check := f.watchMemory()
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			from := f
			if i%2 == 1 {
				from = small
			}
			d := from.transfer(withChecksum(from, "CRC64NVME"), func(t *wire.Transfer) { t.Source.Key = fmt.Sprintf("key-%d", i) })
			r, err := f.engine.Put(t.Context(), d, false)
			if err != nil || r.Outcome != wire.Copied {
				t.Errorf("got %q, %v", r.Outcome, err)
			}
			f.told(r)
		})
	}
	wg.Wait()
	f.clean()
	check()
}

var giant = flag.Bool("giant", false, "stream two parts of 5 GiB")

// TestGiantPart streams two of the largest parts there can be, as an object of
// 48.8 TiB has them, with 64 MiB of buffers.
func TestGiantPart(t *testing.T) {
	if !*giant {
		t.Skip("10 GiB through this machine: go test ./internal/transfer -run GiantPart -giant -timeout 20m")
	}
	const size = 2 * 5 << 30
	var parts sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if operation(r) != "Part" {
			sink{size}.ServeHTTP(w, r)
			return
		}
		// What is between the chunk's head and the trailer.
		decoded, _ := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		head := int64(len(strconv.FormatInt(decoded, 16)) + 2)
		_, _ = io.CopyN(io.Discard, r.Body, head)
		sum := crc64nvme.New()
		n, _ := io.CopyN(sum, r.Body, decoded)
		tail, err := io.ReadAll(r.Body)
		if n == 5<<30 && err == nil && strings.Contains(string(tail), ":"+base64Of(sum.Sum64())+"\r\n") {
			parts.Store(r.URL.Query().Get("partNumber"), true)
		}
		w.Header().Set("ETag", `"d"`)
	}))
	defer server.Close()
	engine := transfer.New(transfer.Options{
		S3: clientOf(server.URL), Bucket: bucket, Journal: journal.New(clientOf(server.URL), journalBucket),
		HTTP:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: transfer.DefaultConnections}},
		Memory: 64 << 20, MaxParts: 2, SegmentSize: size,
	})
	var peak uint64
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	began := time.Now()
	r, err := engine.Put(t.Context(), &wire.Transfer{
		Op: wire.OpPut, Source: wire.Source{Region: "us-east-1", Bucket: "src", Key: "key", ETag: "e", Size: size, Sequencer: "10"},
		URL: secret.New(server.URL + "/src/key"), NotAfter: time.Now().Add(time.Hour),
	}, false)
	close(stop)
	watch.Wait()
	if err != nil || r.Outcome != wire.Copied {
		t.Fatalf("got %+v, %v", r, err)
	}
	for _, n := range []string{"1", "2"} {
		if _, proved := parts.Load(n); !proved {
			t.Errorf("part %s did not come with its bytes and their checksum", n)
		}
	}
	t.Logf("%d bytes in %s, heap of source, engine and destination at most %d MiB", size, time.Since(began).Round(time.Second), peak>>20)
	if most := uint64(256 << 20); peak > most {
		t.Errorf("the heap had %d bytes, want at most %d", peak, most)
	}
}
