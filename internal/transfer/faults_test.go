package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
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
	killAt   int // request, from 0; negative: never
	dead     bool
}

func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	now := p.requests == p.killAt
	p.requests++
	dead := p.dead
	p.dead = p.dead || now
	effect := now && p.killAt%2 == 0
	p.mu.Unlock()
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
		r, err = p.engine.Put(ctx, &carried, len(p.receipts) > 0)
	} else {
		r, err = p.engine.PutSegment(ctx, &carried, segment)
	}
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

// whole expects the object, told of, and nothing left but uploads that their
// creator could not tell of.
func (p *post) whole(orphans int) {
	p.Helper()
	o := p.dst.get(bucket + "/" + testKey)
	if o == nil || string(o.body) != string(p.src.body) {
		p.Fatal("the object has not arrived whole")
	}
	if !slices.Contains(p.receipts, wire.Copied) && !slices.Contains(p.receipts, wire.Skipped) {
		p.Errorf("told: %v", p.receipts)
	}
	if n := p.dst.pendings(); n > orphans {
		p.Errorf("%d uploads left", n)
	}
	for _, name := range p.dst.names(journalBucket) {
		p.Errorf("journal entry %s left", name)
	}
}

// hangUp ends a request without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// Every phase meets every fault, again and again: more often than one delivery
// tries.
func TestFaultsOfEveryPhase(t *testing.T) {
	faults := map[string]func(http.ResponseWriter){
		"500":     func(w http.ResponseWriter) { refuse(w, 500, "InternalError") },
		"503":     func(w http.ResponseWriter) { refuse(w, 503, "SlowDown") },
		"timeout": func(w http.ResponseWriter) { refuse(w, 400, "RequestTimeout") },
		"reset":   hangUp,
	}
	for _, mode := range []string{"whole", "in segments"} {
		for _, phase := range []string{"Head", "journalGet", "Create", "journalPut", "List", "Part", "Complete", "journalDelete", "source"} {
			for name, fail := range faults {
				t.Run(fmt.Sprintf("%s, %s, %s", mode, phase, name), func(t *testing.T) {
					var options []func(*transfer.Options)
					if mode == "in segments" {
						options = append(options, inSegments)
					}
					p := newPost(t, 7500, options...)
					left := 14
					var mu sync.Mutex
					failing := func(w http.ResponseWriter, hit bool) bool {
						mu.Lock()
						hit = hit && left > 0
						if hit {
							left--
						}
						mu.Unlock()
						if hit {
							fail(w)
						}
						return hit
					}
					p.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool { return failing(w, op == phase) })
					p.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
						return failing(w, phase == "source")
					}
					p.drain(p.transfer(withChecksum(p.ferry, "CRC64NVME")))
					p.whole(0)
					if left > 0 {
						t.Errorf("%d faults have not happened", left)
					}
				})
			}
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
		p.whole(0)
		if n < from+18 {
			t.Errorf("the outage from %d was not over after %d requests", from, n)
		}
	}
}

// The process is killed at each of 50 random requests, with and without the
// request having taken effect.
func TestKilledAtRandomPoints(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		killAt := rng.IntN(60)
		size := 5500 + rng.IntN(4000)
		t.Run(fmt.Sprintf("request %d of %d bytes", killAt, size), func(t *testing.T) {
			p := newPost(t, size, inSegments)
			p.restart(killAt)
			p.drain(p.transfer(withChecksum(p.ferry, "CRC32C")))
			// Only who is killed between creating an upload and entering it into
			// the journal leaves it.
			creating := killAt < 4
			if creating {
				p.whole(1)
			} else {
				p.whole(0)
			}
		})
	}
}
