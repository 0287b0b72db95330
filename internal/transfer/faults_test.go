package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// post is a ferry with an inbox: it delivers until nothing is left, as SQS and
// the receiver do.
type post struct {
	*ferry
	inbox    []int // segments of t, or transfer.Whole
	failed   bool  // a delivery of the whole has
	receipts []wire.Outcome
	process  *process
	options  []func(*transfer.Options)
}

func newPost(t *testing.T, size int, options ...func(*transfer.Options)) *post {
	t.Helper()
	p := &post{ferry: newFerry(t, size, options...), inbox: []int{transfer.Whole}, options: options}
	p.restart(-1)
	return p
}

// process is what a kill ends: all of its requests fail from the given one on,
// which itself may take effect.
type process struct {
	next   http.RoundTripper
	cancel context.CancelFunc

	mu       sync.Mutex
	requests int
	underWay int
	killAt   int // request, from 0; negative: never
	dead     bool
}

func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	now := p.requests == p.killAt
	p.requests++
	p.underWay++
	dead := p.dead
	p.dead = p.dead || now
	effect := now && p.killAt%2 == 0
	p.mu.Unlock()
	defer func() {
		if r.Context().Err() != nil {
			time.Sleep(time.Millisecond) // so that one that nobody waits for is seen
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.underWay--
	}()
	if !dead && !now {
		return p.next.RoundTrip(r)
	}
	if effect {
		if resp, err := p.next.RoundTrip(r); err == nil {
			_ = resp.Body.Close()
		}
	}
	p.cancel()
	return nil, errors.New("the process is gone")
}

// idle expects that no request outlived the delivery.
func (p *process) idle(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.underWay != 0 {
		t.Errorf("%d requests are still under way", p.underWay)
	}
}

// restart gives p a new process, which dies at a request.
func (p *post) restart(killAt int) {
	p.process = &process{next: &http.Transport{MaxIdleConnsPerHost: 64}, killAt: killAt}
	client := &http.Client{
		Transport:     p.process,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s3Client := s3.New(p.dst.client.Options(), func(o *s3.Options) { o.HTTPClient = client })
	p.engine = p.newEngine(append(slices.Clone(p.options), func(o *transfer.Options) {
		o.S3, o.Journal, o.HTTP = s3Client, journal.New(s3Client, journalBucket), client
		o.MaxBackoff = 10 * time.Millisecond
	})...)
}

// drain delivers t's messages until none is left.
func (p *post) drain(t *wire.Transfer) {
	p.Helper()
	const most = 300
	for n := 0; len(p.inbox) > 0; n++ {
		if n == most {
			p.Fatalf("%d deliveries, and still %v in the inbox", n, p.inbox)
		}
		segment := p.inbox[0]
		if err := p.once(t, segment); err != nil {
			if fault.IsPermanent(err) {
				p.Fatalf("segment %d: %v", segment, err)
			}
			p.inbox = append(p.inbox[1:], segment)
			p.failed = p.failed || segment == transfer.Whole
			if p.process.dead {
				p.restart(-1)
			}
			continue
		}
		p.inbox = p.inbox[1:]
	}
}

// once is one delivery. Whatever happens to its process, the queues are as if
// each call to them was made or not.
func (p *post) once(t *wire.Transfer, segment int) error {
	ctx, cancel := context.WithCancel(p.Context())
	defer cancel()
	p.process.cancel = cancel
	carried := *t
	var r transfer.Result
	var err error
	if segment == transfer.Whole {
		r, err = p.engine.Put(ctx, &carried, p.failed || len(p.receipts) > 0)
	} else {
		r, err = p.engine.PutSegment(ctx, &carried, segment)
	}
	p.process.idle(p.T)
	if err != nil {
		return err
	}
	p.inbox = append(p.inbox, r.Segments...)
	if r.Outcome != "" {
		p.receipts = append(p.receipts, r.Outcome)
	}
	if r.Told != nil {
		return r.Told(ctx)
	}
	return nil
}

// whole expects the object, told of, written once, and nothing left.
func (p *post) whole() {
	p.Helper()
	o := p.dst.get(bucket + "/" + testKey)
	if o == nil || string(o.body) != string(p.src.body) {
		p.Fatal("the object has not arrived whole")
	}
	if n := p.dst.written(bucket + "/" + testKey); n != 1 {
		p.Errorf("it was written %d times", n)
	}
	if !slices.Contains(p.receipts, wire.Copied) && !slices.Contains(p.receipts, wire.Skipped) {
		p.Errorf("told: %v", p.receipts)
	}
	p.nothingLeft()
}

func (p *post) nothingLeft() {
	p.Helper()
	if n := p.dst.pendings(); n > 0 {
		p.Errorf("%d uploads left", n)
	}
	for _, name := range p.dst.names(journalBucket) {
		if strings.HasPrefix(name, "uploads/") {
			p.Errorf("journal entry %s left", name)
		}
	}
	if got := p.engine.Lent(); got != 0 {
		p.Errorf("%d bytes of buffers were not given back", got)
	}
}

// hangUp ends a request without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// way is how an object can be carried, and what is asked of the destination then.
type way struct {
	size    int
	older   bool // an older event's object is there
	options []func(*transfer.Options)
	phases  []string
}

var (
	ofLarge = []string{"Head", "journalGet", "Create", "journalPut", "List", "Part", "Complete", "journalDelete"}

	ways = map[string]way{
		"small":           {size: 700, phases: []string{"Put"}},
		"small over":      {size: 700, older: true, phases: []string{"Put", "Head", "journalPut", "journalGet"}},
		"small, deletes":  {size: 700, options: []func(*transfer.Options){withDeletes}, phases: []string{"Put", "journalGet"}},
		"whole":           {size: 7500, phases: ofLarge},
		"whole, deletes":  {size: 7500, options: []func(*transfer.Options){withDeletes}, phases: []string{"journalGet"}},
		"in segments":     {size: 7500, options: []func(*transfer.Options){inSegments}, phases: ofLarge},
		"over, segments":  {size: 7500, older: true, options: []func(*transfer.Options){inSegments}, phases: ofLarge},
		"streamed":        {size: 20_000, options: []func(*transfer.Options){streamed, ofTwoParts}, phases: ofLarge},
		"streamed, whole": {size: 20_000, options: []func(*transfer.Options){streamed}, phases: ofLarge},
	}
)

func ofTwoParts(o *transfer.Options) { o.SegmentSize = 10_000 }

func (w way) newPost(t *testing.T) *post {
	t.Helper()
	p := newPost(t, w.size, w.options...)
	w.prepare(p.ferry)
	return p
}

func (w way) prepare(f *ferry) {
	if w.older {
		f.dst.put(bucket+"/"+testKey, []byte("before"), map[string]string{transfer.MetaSequencer: "0F"})
		clear(f.dst.writes)
	}
}

// isLarge reports whether there is an upload.
func (w way) isLarge() bool { return w.size > partSize }

// A fault either keeps a request from being done, or only its answer.
var faults = map[string]func(http.ResponseWriter){
	"500":     func(w http.ResponseWriter) { refuse(w, 500, "InternalError") },
	"503":     func(w http.ResponseWriter) { refuse(w, 503, "SlowDown") },
	"timeout": func(w http.ResponseWriter) { refuse(w, 400, "RequestTimeout") },
	"reset":   hangUp,
	"lost":    nil, // the answer
}

// failing lets n requests of a phase meet a fault, and returns how many have not.
func (p *post) failing(phase, fault string, n int) (left func() int) {
	var mu sync.Mutex
	hit := func(is bool) bool {
		mu.Lock()
		defer mu.Unlock()
		is = is && n > 0
		if is {
			n--
		}
		return is
	}
	left = func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
	fail := faults[fault]
	switch {
	case phase == "source" && fail == nil:
		fail = hangUp // it acts on nothing
		fallthrough
	case phase == "source":
		p.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			is := hit(true)
			if is {
				fail(w)
			}
			return is
		}
	case fail == nil:
		p.dst.losing(func(op string) bool { return hit(op == phase) })
	default:
		p.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
			is := hit(op == phase)
			if is {
				fail(w)
			}
			return is
		})
	}
	return left
}

// Every phase meets every fault, again and again: more often than one delivery
// tries.
func TestFaultsOfEveryPhase(t *testing.T) {
	for way, tc := range ways {
		for _, phase := range append([]string{"source"}, tc.phases...) {
			for fault := range faults {
				t.Run(fmt.Sprintf("%s, %s, %s", way, phase, fault), func(t *testing.T) {
					p := tc.newPost(t)
					const many = 14
					n := many
					if fault == "lost" {
						n = 3 // what was done is not asked for again
					}
					left := p.failing(phase, fault, n)
					p.drain(p.transfer(withChecksum(p.ferry, "CRC64NVME")))
					p.whole()
					if left() > 0 && (fault != "lost" || left() == n) {
						t.Errorf("%d faults have not happened", left())
					}
				})
			}
		}
	}
}

// What ends a transfer early aborts its upload, whatever that meets.
func TestFaultsOfTheEnd(t *testing.T) {
	for way, tc := range ways {
		if !tc.isLarge() {
			continue
		}
		phases := []string{"Abort", "journalDelete", "journalGet"}
		if strings.Contains(way, "segments") {
			phases = append(phases, "journalPut") // segments agree there on who tells
		}
		for _, phase := range phases {
			for fault := range faults {
				t.Run(fmt.Sprintf("%s, %s, %s", way, phase, fault), func(t *testing.T) {
					p := tc.newPost(t)
					const half = 5
					var once sync.Once
					left := func() int { return 10 }
					p.src.misbehave = func(n int, w http.ResponseWriter, _ *http.Request) bool {
						if n < half {
							return false
						}
						once.Do(func() { left = p.failing(phase, fault, 10) })
						refuse(w, 404, "NoSuchKey")
						return true
					}
					p.drain(p.transfer())
					if !slices.Contains(p.receipts, wire.Gone) {
						t.Errorf("told: %v", p.receipts)
					}
					if n := p.dst.written(bucket + "/" + testKey); n != 0 {
						t.Errorf("written %d times", n)
					}
					p.nothingLeft()
					if left() == 10 {
						t.Error("no fault has happened")
					}
				})
			}
		}
	}
}

// The URL dies half-way, and again half-way through what is left.
func TestURLsThatExpireHalfWay(t *testing.T) {
	for way, tc := range ways {
		t.Run(way, func(t *testing.T) {
			p := tc.newPost(t)
			var mu sync.Mutex
			alive := map[string]int{"topsecret": 6, "b": 3} // requests
			p.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				signature := r.URL.Query().Get("X-Amz-Signature")
				left, mortal := alive[signature]
				if !mortal {
					return false
				}
				if left > 0 {
					alive[signature]--
					return false
				}
				w.WriteHeader(http.StatusForbidden)
				_, _ = fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
				return true
			}
			d := p.transfer(withChecksum(p.ferry, "CRC32"))
			for _, signature := range []string{"topsecret", "b", "c"} {
				p.drain(again(d, signature))
				if p.receipts[len(p.receipts)-1] != wire.Expired {
					break
				}
				p.inbox = append(p.inbox, transfer.Whole)
			}
			p.whole()
		})
	}
}

// Every message comes twice, and two workers have one at the same time.
func TestEveryMessageTwice(t *testing.T) {
	for way, tc := range ways {
		for _, workers := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%s, %d workers", way, workers), func(t *testing.T) {
				f := newFerry(t, tc.size, tc.options...)
				tc.prepare(f)
				d := f.transfer(withChecksum(f, "CRC64NVME"))
				inbox := make(chan int, 1000)
				var under sync.WaitGroup
				send := func(n int) {
					under.Add(2)
					inbox <- n
					inbox <- n
				}
				send(transfer.Whole)
				var mu sync.Mutex
				outcomes := map[wire.Outcome]int{}
				for range workers {
					engine := f.newEngine(tc.options...)
					go func() {
						for n := range inbox {
							carried := *d
							var r transfer.Result
							var err error
							if n == transfer.Whole {
								r, err = engine.Put(t.Context(), &carried, false)
							} else {
								r, err = engine.PutSegment(t.Context(), &carried, n)
							}
							if err == nil && r.Told != nil {
								err = r.Told(t.Context())
							}
							if err != nil { // it comes again, once
								if fault.IsPermanent(err) {
									t.Errorf("message %d: %v", n, err)
								}
								under.Add(1)
								inbox <- n
							}
							for _, segment := range r.Segments {
								send(segment)
							}
							mu.Lock()
							outcomes[r.Outcome]++
							mu.Unlock()
							under.Done()
						}
					}()
				}
				under.Wait()
				close(inbox)
				f.arrived()
				if n := f.dst.written(bucket + "/" + testKey); n != 1 || outcomes[wire.Copied] > 1 {
					t.Errorf("written %d times, told %v", n, outcomes)
				}
			})
		}
	}
}

// An outage ends after so many requests here; the model of segments has one that
// ends by its clock.
func TestOutageOfTheDestination(t *testing.T) {
	for _, from := range []int{0, 3, 8, 12, 20} {
		p := newPost(t, 9500, inSegments)
		var mu sync.Mutex
		n := 0
		p.dst.hook(func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			mu.Lock()
			out := n >= from && n < from+18
			n++
			mu.Unlock()
			if out {
				refuse(w, 503, "ServiceUnavailable")
			}
			return out
		})
		p.drain(p.transfer())
		p.whole()
		if n < from+18 {
			t.Errorf("the outage from %d was not over after %d requests", from, n)
		}
	}
}

// The process is killed at each of 50 random requests, with and without the
// request having taken effect.
func TestKilledAtRandomPoints(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		tc := ways[way]
		requests := 60
		switch {
		case !tc.isLarge():
			requests = 10
		case tc.size > 10_000:
			requests = 130
		}
		for range 50 {
			killAt := rng.IntN(requests)
			size := tc.size - rng.IntN(tc.size/3)
			t.Run(fmt.Sprintf("%s, request %d of %d bytes", way, killAt, size), func(t *testing.T) {
				p := newPost(t, size, tc.options...)
				tc.prepare(p.ferry)
				p.restart(killAt)
				p.drain(p.transfer(withChecksum(p.ferry, "CRC32C")))
				p.whole()
			})
		}
	}
}
