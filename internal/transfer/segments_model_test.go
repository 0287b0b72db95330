package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var (
	segmentSchedules = flag.Int("segment-schedules", 1000, "random schedules of the model of segments")
	firstSegmentSeed = flag.Uint64("segment-schedule", 0, "the first of them, to repeat a failure")
)

// TestSegmentsModel runs random schedules of one object in segments, in half of
// them with a newer version after it. Every call of every delivery, to either S3
// or to the queues, happens by itself, in an order that is drawn. Messages are
// delivered twice, and while another delivery of them is under way; deliveries
// are killed between any two calls; in a quarter of the schedules parts are streamed;
// calls fail, some of them after they took
// effect, or all of them for 30 s; URLs expire in the middle and are signed again
// when that was told.
//
// In the end each version was told of, the newest is at the destination, written
// once, and nothing is left: no upload that the journal ever had, and no entry.
func TestSegmentsModel(t *testing.T) {
	for seed := *firstSegmentSeed; seed < *firstSegmentSeed+uint64(*segmentSchedules); seed++ {
		synctest.Test(t, func(t *testing.T) { newSegmentsWorld(seed).run(t) })
		if t.Failed() {
			t.Fatalf("to repeat it: go test ./internal/transfer -run SegmentsModel -segment-schedules 1 -segment-schedule %d", seed)
		}
	}
}

// segmentsWorld is a schedule with an inbox, a receipts queue and a courier.
type segmentsWorld struct {
	*schedule
	inbox    []*letter
	clock    time.Time
	outages  int             // of the destination, still to come
	outage   time.Time       // the end of one
	expiries int             // still to come
	faults   int             // of calls, still to come
	dead     map[string]bool // URLs that the source refuses early
	signed   int             // URLs
	receipts map[*edition][]wire.Outcome
	written  map[string]int // bodies written to the destination
	working  map[*delivery]*letter
	numbers  map[*delivery]int
	calls    map[string]int // by delivery and what is called
	seed     uint64
}

// letter is a message of the inbox.
type letter struct {
	edition  *edition
	transfer *wire.Transfer
	segment  int
	copies   int // times that it may still be delivered beside or after itself
	receives int
}

func newSegmentsWorld(seed uint64) *segmentsWorld {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &segmentsWorld{
		schedule: &schedule{
			rng: rng, versioned: rng.IntN(2) == 0,
			objects: map[string]modelObject{}, uploads: map[string]*openUpload{},
		},
		clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), expiries: rng.IntN(3), faults: rng.IntN(4), outages: rng.IntN(8) / 7,
		dead: map[string]bool{}, receipts: map[*edition][]wire.Outcome{}, written: map[string]int{},
		working: map[*delivery]*letter{},
		numbers: map[*delivery]int{}, calls: map[string]int{}, seed: seed,
	}
	for i := range 1 + rng.IntN(2) {
		e := &edition{body: bytes.Repeat([]byte{byte('a' + i)}, 33+rng.IntN(30)), deliveries: 1}
		e.transfer = &wire.Transfer{
			Op: wire.OpPut,
			Source: wire.Source{
				Region: "us-east-1", Bucket: "source", Key: "key", ETag: fmt.Sprintf("etag%d", i),
				Size: int64(len(e.body)), Sequencer: fmt.Sprintf("%04X", 16*i+16), EventTime: w.clock,
			},
		}
		if w.versioned {
			e.transfer.Source.VersionID = fmt.Sprintf("v%d", i)
		}
		if rng.IntN(4) == 0 {
			e.transfer.Object.Metadata = map[string]string{"long": strings.Repeat("x", 2000)}
		}
		e.transfer.ID = wire.ID(wire.OpPut, e.transfer.Source)
		w.versions = append(w.versions, e)
	}
	return w
}

// send puts a newly signed message of e into the inbox, as the sender does.
func (w *segmentsWorld) send(e *edition) {
	t := *e.transfer
	w.signed++
	t.URL = secret.New(fmt.Sprintf("http://source/%d?X-Amz-Signature=%d", slices.Index(w.versions, e), w.signed))
	t.NotAfter = w.clock.Add(time.Hour)
	t.Round = e.round
	e.round++
	w.inbox = append(w.inbox, &letter{edition: e, transfer: &t, segment: transfer.Whole, copies: w.rng.IntN(2)})
}

func (w *segmentsWorld) run(t *testing.T) {
	options := transfer.Options{
		S3: w, Bucket: "destination", Journal: journal.New(w, "journal"), HTTP: &http.Client{Transport: w},
		Connections: 3, PartSize: 8, SegmentSize: 16, Memory: 64, Attempts: 2, Backoff: time.Millisecond, MaxBackoff: time.Second,
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.clock
		},
	}
	if w.rng.IntN(4) == 0 { // parts that are streamed
		options.PartSize, options.MaxParts, options.Memory = 4, 4, 16
	}
	engine := transfer.New(options)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var under []*delivery
	for steps := 0; ; steps++ {
		synctest.Wait()
		w.mu.Lock()
		under = slices.DeleteFunc(under, func(d *delivery) bool {
			if d.ended {
				w.settle(d)
			}
			return d.ended
		})
		broken, calls := w.broken, slices.Clone(w.waiting)
		w.mu.Unlock()
		slices.SortStableFunc(calls, func(a, b *call) int {
			return cmp.Or(w.numbers[a.delivery]-w.numbers[b.delivery], strings.Compare(a.name, b.name))
		})
		if broken != nil || steps > 20_000 {
			t.Errorf("%v after %d steps\n%s", broken, steps, strings.Join(w.trace, "\n"))
			w.abandon(under)
			return
		}
		switch choice := w.rng.IntN(30); {
		case choice == 0 && w.current < len(w.versions)-1:
			w.note("the source is overwritten")
			w.current++
		case choice == 1 && w.expiries > 0:
			w.expire()
		case choice == 2 && len(calls) > 0 && w.kills < 8 && w.rng.IntN(2) == 0:
			w.kill(calls[w.rng.IntN(len(calls))].delivery)
		case choice == 3 && w.outages > 0:
			w.outages--
			w.note("the destination is out for 30 s")
			w.outage = time.Now().Add(30 * time.Second)
		case time.Now().Before(w.outage) && len(calls) == 0:
			time.Sleep(time.Second)
		case time.Now().Before(w.outage):
			w.release(calls[w.rng.IntN(len(calls))]) // nothing new is begun: its messages wait
		case choice < 12 && len(under) < 4 && w.next() != nil, len(under) == 0 && len(w.inbox) > 0:
			under = append(under, w.receive(ctx, engine))
		case len(calls) > 0:
			w.release(calls[w.rng.IntN(len(calls))])
		case len(under) > 0:
			time.Sleep(time.Second) // they wait for a backoff
		case w.next() == nil && w.current == len(w.versions)-1:
			w.judge(t)
			return
		}
	}
}

func (w *segmentsWorld) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// next sends the event of a version that has none yet, and returns something to
// deliver.
func (w *segmentsWorld) next() *letter {
	for _, e := range w.versions[:w.current+1] {
		if e.deliveries > 0 {
			e.deliveries--
			w.send(e)
		}
	}
	if len(w.inbox) == 0 {
		return nil
	}
	return w.inbox[w.rng.IntN(len(w.inbox))]
}

// expire ends the life of every URL there is: by the clock, or only at the
// source, whose clock or whose role is another.
func (w *segmentsWorld) expire() {
	w.expiries--
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rng.IntN(2) == 0 {
		w.clock = w.clock.Add(2 * time.Hour)
		w.trace = append(w.trace, "time passes")
		return
	}
	for i := 1; i <= w.signed; i++ {
		w.dead[fmt.Sprint(i)] = true
	}
	w.trace = append(w.trace, "the source refuses what was signed")
}

// receive begins a delivery as the receiver makes it.
func (w *segmentsWorld) receive(ctx context.Context, engine *transfer.Engine) *delivery {
	m := w.next()
	if m.copies > 0 && w.rng.IntN(3) == 0 {
		m.copies-- // it stays in the inbox
	} else {
		w.inbox = slices.DeleteFunc(w.inbox, func(other *letter) bool { return other == m })
	}
	m.receives++
	redelivered := m.receives > 1
	d := &delivery{edition: m.edition}
	w.working[d], w.numbers[d] = m, len(w.numbers)
	w.note("deliver %s segment %d, URL %s", m.edition.transfer.Source.Sequencer, m.segment, m.transfer.URL.Reveal())
	go func() {
		err := w.carry(context.WithValue(ctx, deliveryKey{}, d), engine, m, redelivered)
		w.mu.Lock()
		defer w.mu.Unlock()
		d.err, d.ended = err, true
	}()
	return d
}

func (w *segmentsWorld) carry(ctx context.Context, engine *transfer.Engine, m *letter, redelivered bool) error {
	t := *m.transfer
	var r transfer.Result
	var err error
	switch {
	case m.segment != transfer.Whole:
		r, err = engine.PutSegment(ctx, &t, m.segment)
	case !redelivered && !engine.Now().Before(t.NotAfter):
		r.Outcome = wire.Expired
	default:
		r, err = engine.Put(ctx, &t, redelivered)
	}
	if fault.IsPermanent(err) {
		w.mu.Lock()
		w.broken = fmt.Errorf("failed for good: %w", err)
		w.mu.Unlock()
	}
	if err != nil {
		return err
	}
	for _, n := range r.Segments {
		if err := w.act(ctx, fmt.Sprint("send segment ", n), func() {
			w.inbox = append(w.inbox, &letter{edition: m.edition, transfer: m.transfer, segment: n, copies: w.rng.IntN(2)})
		}); err != nil {
			return err
		}
	}
	if r.Outcome != "" {
		if err := w.act(ctx, "receipt "+string(r.Outcome), func() {
			w.receipts[m.edition] = append(w.receipts[m.edition], r.Outcome)
			if r.Outcome == wire.Expired {
				w.send(m.edition)
			}
		}); err != nil {
			return err
		}
	}
	if r.Told != nil {
		if err := r.Told(ctx); err != nil {
			return err
		}
	}
	return w.act(ctx, "acknowledge", func() {})
}

// act is a call to a queue.
func (w *segmentsWorld) act(ctx context.Context, name string, do func()) error {
	if err := w.enter(ctx, name); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
	return nil
}

// settle does what the queue does with a delivery that has ended. w.mu is held.
func (w *segmentsWorld) settle(d *delivery) {
	w.trace = append(w.trace, fmt.Sprintf("ended: %v", d.err))
	m := w.working[d]
	delete(w.working, d)
	if d.err != nil || d.killed {
		if !slices.Contains(w.inbox, m) {
			w.inbox = append(w.inbox, m)
		}
	}
}

// judge compares the end with what is promised.
func (w *segmentsWorld) judge(t *testing.T) {
	bad := func(format string, args ...any) {
		t.Errorf(format+"\n%s", append(args, strings.Join(w.trace, "\n"))...)
	}
	newest := w.versions[len(w.versions)-1]
	if got := w.objects["destination/key"]; !bytes.Equal(got.body, newest.body) {
		bad("the destination has %q, want %q", got.body, newest.body)
	}
	for i, e := range w.versions {
		told := w.receipts[e]
		for _, o := range told {
			if o != wire.Copied && o != wire.Skipped && o != wire.Expired && (o != wire.Superseded || e == newest) {
				bad("version %d is told as %v", i, told)
			}
		}
		if !slices.ContainsFunc(told, func(o wire.Outcome) bool { return o != wire.Expired }) {
			bad("version %d is told as %v, want an end", i, told)
		}
		// Where there is no room for our metadata, a kill before the order record
		// is confirmed costs another upload.
		if n := w.written[string(e.body)]; n > 1 && e.transfer.Object.Metadata == nil {
			bad("version %d was written %d times", i, n)
		}
	}
	for id := range w.uploads {
		bad("%s is left open", id)
	}
	for name := range w.objects {
		if strings.HasPrefix(name, "journal/uploads/") {
			bad("%s is left behind", name)
		}
	}
}

// The calls to S3 are the schedule's, but some fail, before or after they took
// effect.

// fate draws one of many numbers for a call; 0 and 1 are faults. What happens at
// the same time must not draw from one source, or no schedule could be repeated.
func (w *segmentsWorld) fate(ctx context.Context, name string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	name = fmt.Sprint(w.seed, w.numbers[d], name)
	w.calls[name]++
	if time.Now().Before(w.outage) && !strings.Contains(name, "bytes=") {
		return 0
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, name, w.calls[name])
	const many = 40
	fate := h.Sum64() % many
	if fate < 2 && w.faults > 0 {
		w.faults--
		return fate
	}
	return many
}

func partOf(in any) any {
	if part, ok := in.(*s3.UploadPartInput); ok {
		return *part.PartNumber
	}
	return ""
}

func faulty[In, Out any](ctx context.Context, w *segmentsWorld, in In, call func(context.Context, In, ...func(*s3.Options)) (*Out, error)) (*Out, error) {
	fate := w.fate(ctx, fmt.Sprintf("%T %v", in, partOf(in)))
	if fate == 0 {
		if err := w.enter(ctx, fmt.Sprintf("500 before %T", in)); err != nil {
			return nil, err
		}
		return nil, apiError(http.StatusInternalServerError, "InternalError")
	}
	out, err := call(ctx, in)
	if fate == 1 && err == nil {
		w.note("500 after %T", in)
		return nil, apiError(http.StatusInternalServerError, "InternalError")
	}
	return out, err
}

func (w *segmentsWorld) HeadObject(ctx context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	return faulty(ctx, w, in, w.schedule.HeadObject)
}

func (w *segmentsWorld) GetObject(ctx context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return faulty(ctx, w, in, w.schedule.GetObject)
}

func (w *segmentsWorld) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	return faulty(ctx, w, in, func(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
		in.Body = bytes.NewReader(body)
		return w.schedule.PutObject(ctx, in)
	})
}

func (w *segmentsWorld) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput, _ ...func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
	return faulty(ctx, w, in, w.schedule.DeleteObject)
}

func (w *segmentsWorld) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	return faulty(ctx, w, in, w.schedule.CreateMultipartUpload)
}

func (w *segmentsWorld) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput, _ ...func(*s3.Options)) (*s3.ListMultipartUploadsOutput, error) {
	return faulty(ctx, w, in, w.schedule.ListMultipartUploads)
}

func (w *segmentsWorld) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	return faulty(ctx, w, in, w.schedule.ListObjectsV2)
}

func (w *segmentsWorld) UploadPart(ctx context.Context, in *s3.UploadPartInput, _ ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	return faulty(ctx, w, in, w.schedule.UploadPart)
}

func (w *segmentsWorld) ListParts(ctx context.Context, in *s3.ListPartsInput, _ ...func(*s3.Options)) (*s3.ListPartsOutput, error) {
	return faulty(ctx, w, in, w.schedule.ListParts)
}

func (w *segmentsWorld) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	return faulty(ctx, w, in, func(ctx context.Context, in *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
		out, err := w.schedule.CompleteMultipartUpload(ctx, in)
		if err == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.written[string(w.objects["destination/key"].body)]++
		}
		return out, err
	})
}

func (w *segmentsWorld) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, _ ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	return faulty(ctx, w, in, w.schedule.AbortMultipartUpload)
}

var errReset = errors.New("connection reset by peer")

// RoundTrip is the source.
func (w *segmentsWorld) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.fate(r.Context(), r.Header.Get("Range")) < 2 {
		return nil, errReset
	}
	resp, err := w.schedule.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead[r.URL.Query().Get("X-Amz-Signature")] {
		return &http.Response{
			StatusCode: http.StatusForbidden, Header: http.Header{}, Request: r,
			Body: io.NopCloser(strings.NewReader("<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")),
		}, nil
	}
	return resp, nil
}
