package transfer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/minio/crc64nvme"

	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var (
	schedules = flag.Int("schedules", 2000, "random schedules of the order model")
	firstSeed = flag.Uint64("schedule", 0, "the first of them, to repeat a failure")
)

// TestOrderModel runs random schedules: versions and deletions of one key,
// delivered several times and at once, small and in parts, with and without room
// for our metadata, from a bucket with and without versioning, with deliveries
// killed between any two calls and delivered again. One call happens at a time,
// and which one is drawn. Half of the destinations make ETags of the bytes, as S3
// mostly does, and then bytes come back. Half of the sources change tags, of which
// puts know any state that there was, and half of the destinations have versions.
// Against each schedule stands the reference model, which is one line: the end is
// that of the newest event, with the source's last tags. Where ETags differ, no
// version is ever overwritten by an older one either.
func TestOrderModel(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+uint64(*schedules); seed++ {
		synctest.Test(t, func(t *testing.T) { newSchedule(seed).run(t) })
		if t.Failed() {
			t.Fatalf("to repeat it: go test ./internal/transfer -run OrderModel -schedules 1 -schedule %d", seed)
		}
	}
}

// TestOrderModelHeadThenWrite is what is left without conditional writes: order
// holds as long as the deliveries of a key come one after the other.
func TestOrderModelHeadThenWrite(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+uint64(*schedules)/4; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := newSchedule(seed)
			w.headThenWrite = true
			w.run(t)
		})
		if t.Failed() {
			t.Fatalf("to repeat it: go test ./internal/transfer -run OrderModelHeadThenWrite -schedules 4 -schedule %d", seed)
		}
	}
}

// schedule is one world: a source, a destination with its journal, and the
// deliveries under way.
type schedule struct {
	rng           *rand.Rand
	versioned     bool // the source
	deletes       bool
	byBytes       bool // ETags are of the bytes
	tagChanges    int  // still to come, -1: tags are not carried
	keepsVersions bool // the destination
	headThenWrite bool // no conditions, and one delivery at a time without kills
	versions      []*edition
	current       int // index of the source's newest event so far

	mu      sync.Mutex
	waiting []*call // calls that want to happen
	objects map[string]modelObject
	uploads map[string]*openUpload
	serial  int
	kills   int
	trace   []string
	broken  error // what the model forbids
}

// edition is one event of the key at the source.
type edition struct {
	transfer   *wire.Transfer
	body       []byte
	deliveries int // still to come
	round      int // of the next message, where they are signed anew
	tried      bool
	done       bool

	tags          *[]string // every state so far, the last is that of now; shared by the events of a version
	since         int       // the state when the event happened
	tagDeliveries int       // still to come
	tagTried      bool
}

type modelObject struct {
	body     []byte
	metadata map[string]string
	tags     string // as in a header
	etag     string
	version  string
}

type openUpload struct {
	key      string
	metadata map[string]string
	tags     string
	parts    map[int32][]byte
}

// call is a call of a delivery that waits to be drawn.
type call struct {
	delivery *delivery
	name     string
	released chan struct{}
}

// delivery is one Put, Delete or Tag under way.
type delivery struct {
	edition *edition
	op      wire.Op
	killed  bool
	ended   bool
	err     error
	result  transfer.Result
}

type deliveryKey struct{}

var errKilled = errors.New("killed")

func newSchedule(seed uint64) *schedule {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := &schedule{
		rng: rng, versioned: rng.IntN(2) == 0, deletes: rng.IntN(3) > 0, byBytes: rng.IntN(2) == 0,
		tagChanges: 3, keepsVersions: rng.IntN(2) == 0,
		objects: map[string]modelObject{}, uploads: map[string]*openUpload{},
	}
	if rng.IntN(2) == 0 {
		w.tagChanges = -1
	}
	sizes := []int{5, 8, 20, 20, 6}
	sizes[rng.IntN(len(sizes))] = 0 // one at most: bodies tell versions apart
	rng.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	for i := range 2 + rng.IntN(4) {
		e := &edition{body: bytes.Repeat([]byte{byte('a' + i)}, sizes[i]), deliveries: 1 + rng.IntN(2), tags: &[]string{""}}
		e.transfer = &wire.Transfer{
			Op: wire.OpPut, URL: secret.New(fmt.Sprintf("http://source/%d", i)), NotAfter: time.Now().Add(1000 * time.Hour),
			Source: wire.Source{
				Region: "us-east-1", Bucket: "source", Key: "key", ETag: fmt.Sprintf("etag%d", i),
				Size: int64(len(e.body)), Sequencer: fmt.Sprintf("%04X", 16*i+16), EventTime: time.Now(),
			},
		}
		if w.versioned {
			e.transfer.Source.VersionID = fmt.Sprintf("v%d", i)
		}
		if rng.IntN(4) == 0 { // the user's metadata leaves no room for ours
			e.transfer.Object.Metadata = map[string]string{"long": strings.Repeat("x", 2000)}
		}
		w.vary(e, i)
		e.transfer.ID = wire.ID(e.transfer.Op, e.transfer.Source)
		w.versions = append(w.versions, e)
	}
	return w
}

// vary makes some events deletions, and has some bring back what was there before:
// its version, where there are versions, or just its bytes.
func (w *schedule) vary(e *edition, i int) {
	source := &e.transfer.Source
	switch {
	case w.deletes && i > 0 && w.rng.IntN(3) == 0:
		e.transfer.Op, e.transfer.URL, e.transfer.Object, e.body = wire.OpDelete, secret.String{}, wire.Object{}, nil
		source.ETag, source.Size = "", 0
	case w.byBytes && i > 1 && w.rng.IntN(2) == 0:
		before := w.versions[w.rng.IntN(i)]
		if before.transfer.Op != wire.OpPut {
			return
		}
		e.body, source.ETag, source.Size = before.body, before.transfer.Source.ETag, int64(len(before.body))
		if w.deletes && w.rng.IntN(2) == 0 {
			source.VersionID, e.transfer.Object = before.transfer.Source.VersionID, before.transfer.Object
			if w.versioned {
				e.tags = before.tags
			}
		}
	}
}

func (w *schedule) run(t *testing.T) {
	engine := transfer.New(transfer.Options{
		S3: w, Bucket: "destination", Journal: journal.New(w, "journal"), HTTP: &http.Client{Transport: w},
		Connections: 3, PartSize: 8, Memory: 64, Attempts: 2, Backoff: time.Millisecond, MaxBackoff: time.Second,
		Deletes: w.deletes, TagChanges: w.tagChanges >= 0, HeadThenWrite: w.headThenWrite,
	})
	atOnce := 4
	if w.headThenWrite {
		atOnce = 1
	}
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
		if broken != nil || steps > 5000 {
			t.Errorf("%v after %d steps\n%s", broken, steps, strings.Join(w.trace, "\n"))
			w.abandon(under)
			return
		}
		due := w.due()
		switch choice := w.rng.IntN(20); {
		case len(due) > 0 && len(under) < atOnce && (choice < 5 || len(under) == 0):
			under = append(under, w.deliver(ctx, engine, due[w.rng.IntN(len(due))]))
		case choice == 19 && w.current < len(w.versions)-1:
			w.mu.Lock()
			w.current++ // the source is overwritten
			now := w.versions[w.current]
			now.since = len(*now.tags) - 1
			w.mu.Unlock()
		case choice == 17 && w.tagChanges > 0:
			w.changeTags()
		case choice == 18 && len(calls) > 0 && w.rng.IntN(3) == 0 && !w.headThenWrite:
			w.kill(calls[w.rng.IntN(len(calls))].delivery)
		case len(calls) > 0:
			w.release(calls[w.rng.IntN(len(calls))])
		case len(under) > 0:
			time.Sleep(time.Second) // they wait for a backoff
		case w.current == len(w.versions)-1:
			w.check(t)
			return
		}
	}
}

// changeTags gives a version of the source other tags: the current one, where there
// is no other.
func (w *schedule) changeTags() {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.versions[w.current]
	if w.versioned {
		e = w.versions[w.rng.IntN(w.current+1)]
	}
	if e.transfer.Op != wire.OpPut {
		return
	}
	w.tagChanges--
	states := []string{"", "t=1", "t=2"} // some come back
	*e.tags = append(*e.tags, states[w.rng.IntN(len(states))])
	e.tagDeliveries += 1 + w.rng.IntN(2)
	w.trace = append(w.trace, fmt.Sprintf("tags of %s: %q", e.transfer.Source.Sequencer, *e.tags))
}

// due returns the editions whose event may be delivered now.
func (w *schedule) due() (due []*edition) {
	for _, e := range w.versions[:w.current+1] {
		if e.deliveries+e.tagDeliveries > 0 {
			due = append(due, e)
		}
	}
	return due
}

func (w *schedule) deliver(ctx context.Context, engine *transfer.Engine, e *edition) *delivery {
	d := &delivery{edition: e, op: e.transfer.Op}
	redelivered := e.done || e.tried || w.rng.IntN(2) == 0
	t := *e.transfer
	if e.deliveries == 0 || e.tagDeliveries > 0 && w.rng.IntN(2) == 0 {
		d.op, redelivered = wire.OpTag, e.tagTried || w.rng.IntN(2) == 0
		t.Op, t.URL = d.op, secret.New(t.URL.Reveal()+"?tagging")
		t.Object, t.Source.Size, t.Source.Sequencer = wire.Object{}, 0, ""
		e.tagDeliveries--
	} else {
		e.deliveries--
		if states := (*e.tags)[e.since:]; t.Op == wire.OpPut {
			t.Object.Tags = parseTags(states[w.rng.IntN(len(states))])
		}
	}
	w.trace = append(w.trace, fmt.Sprintf("deliver %s of %s %.1s %v", t.Op, e.transfer.Source.Sequencer, e.body, t.Object.Tags))
	go func() {
		ctx := context.WithValue(ctx, deliveryKey{}, d)
		var result transfer.Result
		var err error
		switch t.Op {
		case wire.OpDelete:
			result, err = engine.Delete(ctx, &t)
		case wire.OpTag:
			result, err = engine.Tag(ctx, &t, redelivered)
		default:
			result, err = engine.Put(ctx, &t, redelivered)
		}
		if err == nil && result.Told != nil {
			err = result.Told(ctx)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		d.result, d.err, d.ended = result, err, true
	}()
	return d
}

// settle does what the queue does with a delivery that has ended. w.mu is held.
func (w *schedule) settle(d *delivery) {
	w.trace = append(w.trace, fmt.Sprintf("ended %s of %s: %s %v", d.op, d.edition.transfer.Source.Sequencer, d.result.Outcome, d.err))
	switch {
	case (d.err != nil || d.killed) && d.op == wire.OpTag:
		d.edition.tagDeliveries++
		d.edition.tagTried = true
		return
	case d.err != nil || d.killed:
		d.edition.deliveries++
		d.edition.tried = true
		return
	case d.op != wire.OpTag:
		d.edition.done = true
	}
	if retag := d.result.Retag; retag != nil {
		w.trace = append(w.trace, "again the tags of "+retag.ETag+retag.VersionID)
		for _, e := range w.versions {
			if s := e.transfer.Source; s.ETag == retag.ETag && s.VersionID == retag.VersionID {
				e.tagDeliveries++
				break
			}
		}
	}
	if again := d.result.Again; again != nil {
		w.trace = append(w.trace, "again "+again.Sequencer)
		for _, e := range w.versions {
			if e.transfer.Source.Sequencer == again.Sequencer {
				e.deliveries++
			}
		}
	}
}

func (w *schedule) release(c *call) {
	w.mu.Lock()
	w.waiting = slices.DeleteFunc(w.waiting, func(other *call) bool { return other == c })
	w.trace = append(w.trace, fmt.Sprintf("%s: %s", c.delivery.edition.transfer.Source.Sequencer, c.name))
	w.mu.Unlock()
	close(c.released)
}

// kill makes every call of d fail from now on, as a process that is gone makes
// none.
func (w *schedule) kill(d *delivery) {
	w.mu.Lock()
	d.killed = true
	w.kills++
	w.trace = append(w.trace, "kill "+d.edition.transfer.Source.Sequencer)
	var freed []*call
	w.waiting = slices.DeleteFunc(w.waiting, func(c *call) bool {
		if c.delivery == d {
			freed = append(freed, c)
		}
		return c.delivery == d
	})
	w.mu.Unlock()
	for _, c := range freed {
		close(c.released)
	}
}

func (w *schedule) abandon(under []*delivery) {
	for _, d := range under {
		w.kill(d)
	}
	time.Sleep(time.Hour)
}

// check compares the end with the model's.
func (w *schedule) check(t *testing.T) {
	newest := w.versions[len(w.versions)-1]
	got, ok := w.objects["destination/key"]
	if want := newest.transfer.Op == wire.OpPut; ok != want || !bytes.Equal(got.body, newest.body) {
		t.Errorf("the destination has %v %q, want %v %q\n%s", ok, got.body, want, newest.body, strings.Join(w.trace, "\n"))
	}
	if now := (*newest.tags)[len(*newest.tags)-1]; ok && w.tagChanges >= 0 && got.tags != now {
		t.Errorf("the destination has the tags %q, want %q\n%s", got.tags, now, strings.Join(w.trace, "\n"))
	}
	if len(w.uploads) > 0 {
		t.Errorf("%d uploads are left open\n%s", len(w.uploads), strings.Join(w.trace, "\n"))
	}
	for name := range w.objects {
		if strings.HasPrefix(name, "journal/uploads/") {
			t.Errorf("%s is left behind\n%s", name, strings.Join(w.trace, "\n"))
		}
	}
}

// enter waits until the call is drawn. It fails if the delivery is killed, with
// nothing done.
func (w *schedule) enter(ctx context.Context, name string) error {
	d, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok {
		return fmt.Errorf("%s: a call of nobody", name)
	}
	c := &call{delivery: d, name: name, released: make(chan struct{})}
	w.mu.Lock()
	if !d.killed {
		w.waiting = append(w.waiting, c)
	} else {
		close(c.released)
	}
	w.mu.Unlock()
	<-c.released
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.killed {
		return errKilled
	}
	return nil
}

func apiError(status int, code string) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: "model"},
	}
}

// write puts o under name if the conditions hold. w.mu is held. Here the model
// watches: the destination never goes back.
func (w *schedule) write(name string, o modelObject, ifMatch, ifNoneMatch *string) (string, error) {
	there, exists := w.objects[name]
	if ifNoneMatch != nil && exists || ifMatch != nil && (!exists || *ifMatch != there.etag) {
		return "", apiError(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	if before, after := w.rank(there.body, exists), w.rank(o.body, true); name == "destination/key" && !w.byBytes && after < before {
		w.broken = fmt.Errorf("version %d was overwritten by version %d", before, after)
	}
	if w.headThenWrite && name == "destination/key" && (ifMatch != nil || ifNoneMatch != nil) {
		w.broken = errors.New("a write has a condition")
	}
	w.serial++
	o.etag = fmt.Sprintf(`"%d"`, w.serial)
	o.version = fmt.Sprintf("d%d", w.serial)
	if w.byBytes {
		o.etag = fmt.Sprintf(`"%x"`, crc64nvme.Checksum(o.body))
	}
	w.objects[name] = o
	return o.etag, nil
}

// rank is the index of the version with that body, or -1.
func (w *schedule) rank(body []byte, exists bool) int {
	if !exists {
		return -1
	}
	return slices.IndexFunc(w.versions, func(e *edition) bool { return e.transfer.Op == wire.OpPut && bytes.Equal(e.body, body) })
}

// RoundTrip is the source.
func (w *schedule) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := w.enter(r.Context(), "GET "+r.Header.Get("Range")); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var i int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &i); err != nil {
		return nil, err
	}
	answer := func(status int, header http.Header, body []byte) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)), Request: r,
		}, nil
	}
	e, now := w.versions[i], w.versions[w.current].transfer
	if r.URL.Query().Has("tagging") {
		of := e
		if !w.versioned {
			of = w.versions[w.current]
		}
		if of.transfer.Op == wire.OpDelete {
			return answer(http.StatusNotFound, http.Header{}, []byte(`<Error><Code>NoSuchKey</Code></Error>`))
		}
		set := "<Tagging><TagSet/></Tagging>"
		for key, value := range parseTags((*of.tags)[len(*of.tags)-1]) { // one at most
			set = "<Tagging><TagSet><Tag><Key>" + key + "</Key><Value>" + value + "</Value></Tag></TagSet></Tagging>"
		}
		return answer(http.StatusOK, http.Header{}, []byte(set))
	}
	switch {
	case w.versioned: // every version is still there
	case now.Op == wire.OpDelete:
		return answer(http.StatusNotFound, http.Header{}, []byte(`<Error><Code>NoSuchKey</Code></Error>`))
	case now.Source.ETag != e.transfer.Source.ETag:
		return answer(http.StatusPreconditionFailed, http.Header{}, []byte(`<Error><Code>PreconditionFailed</Code></Error>`))
	}
	header := http.Header{"Etag": {`"` + e.transfer.Source.ETag + `"`}}
	var from, to int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
		return answer(http.StatusOK, header, e.body)
	}
	header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(e.body)))
	return answer(http.StatusPartialContent, header, e.body[from:to+1])
}

func (w *schedule) HeadObject(ctx context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	if err := w.enter(ctx, "HEAD"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.objects[*in.Bucket+"/"+*in.Key]
	if !ok {
		return nil, apiError(http.StatusNotFound, "NotFound")
	}
	out := &s3.HeadObjectOutput{ETag: &o.etag, Metadata: o.metadata, ContentLength: aws.Int64(int64(len(o.body)))}
	if w.keepsVersions {
		out.VersionId = &o.version
	}
	return out, nil
}

func (w *schedule) PutObjectTagging(ctx context.Context, in *s3.PutObjectTaggingInput, _ ...func(*s3.Options)) (*s3.PutObjectTaggingOutput, error) {
	if err := w.enter(ctx, "tag "+aws.ToString(in.VersionId)); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keepsVersions == (in.VersionId == nil) {
		w.broken = fmt.Errorf("tags for version %v, of %t", in.VersionId, w.keepsVersions)
	}
	name := *in.Bucket + "/" + *in.Key
	o, ok := w.objects[name]
	switch {
	case in.VersionId != nil && (!ok || o.version != *in.VersionId):
		return &s3.PutObjectTaggingOutput{}, nil // a version that is not the current one any more
	case !ok:
		return nil, apiError(http.StatusNotFound, "NoSuchKey")
	}
	o.tags = ""
	for _, tag := range in.Tagging.TagSet {
		o.tags = *tag.Key + "=" + *tag.Value
	}
	w.objects[name] = o
	return &s3.PutObjectTaggingOutput{}, nil
}

// parseTags reads a state of tags: one at most.
func parseTags(state string) map[string]string {
	key, value, ok := strings.Cut(state, "=")
	if !ok {
		return nil
	}
	return map[string]string{key: value}
}

func (w *schedule) GetObject(ctx context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	if err := w.enter(ctx, "GET "+*in.Key); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.objects[*in.Bucket+"/"+*in.Key]
	if !ok {
		return nil, apiError(http.StatusNotFound, "NoSuchKey")
	}
	return &s3.GetObjectOutput{ETag: &o.etag, Body: io.NopCloser(bytes.NewReader(o.body)), ContentLength: aws.Int64(int64(len(o.body)))}, nil
}

func (w *schedule) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	if err := w.enter(ctx, "PUT "+*in.Bucket+"/"+*in.Key); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	etag, err := w.write(*in.Bucket+"/"+*in.Key, modelObject{body: body, metadata: in.Metadata, tags: aws.ToString(in.Tagging)}, in.IfMatch, in.IfNoneMatch)
	return &s3.PutObjectOutput{ETag: &etag}, err
}

func (w *schedule) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput, _ ...func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
	if err := w.enter(ctx, "DELETE "+*in.Bucket+"/"+*in.Key); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	name := *in.Bucket + "/" + *in.Key
	there, exists := w.objects[name]
	switch {
	case in.VersionId != nil:
		w.broken = errors.New("a version was deleted for good")
	case in.IfMatch != nil && !exists:
		return nil, apiError(http.StatusNotFound, "NoSuchKey")
	case in.IfMatch != nil && *in.IfMatch != there.etag:
		return nil, apiError(http.StatusPreconditionFailed, "PreconditionFailed")
	case name == "destination/key" && (in.IfMatch == nil) != w.headThenWrite:
		w.broken = fmt.Errorf("a deletion under the condition %v", in.IfMatch)
	}
	delete(w.objects, name)
	return &s3.DeleteObjectOutput{}, nil
}

func (w *schedule) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	if err := w.enter(ctx, "create upload"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	id := fmt.Sprintf("upload%d", w.serial)
	w.uploads[id] = &openUpload{key: *in.Bucket + "/" + *in.Key, metadata: in.Metadata, tags: aws.ToString(in.Tagging), parts: map[int32][]byte{}}
	return &s3.CreateMultipartUploadOutput{UploadId: &id}, nil
}

func (w *schedule) UploadPart(ctx context.Context, in *s3.UploadPartInput, _ ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	if err := w.enter(ctx, fmt.Sprintf("part %d of %s", *in.PartNumber, *in.UploadId)); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok := w.uploads[*in.UploadId]
	if !ok {
		return nil, apiError(http.StatusNotFound, "NoSuchUpload")
	}
	u.parts[*in.PartNumber] = body
	return &s3.UploadPartOutput{ETag: aws.String("part")}, nil
}

func (w *schedule) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput, _ ...func(*s3.Options)) (*s3.ListMultipartUploadsOutput, error) {
	if err := w.enter(ctx, "list uploads"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := &s3.ListMultipartUploadsOutput{}
	for _, id := range slices.Sorted(maps.Keys(w.uploads)) {
		if key, ok := strings.CutPrefix(w.uploads[id].key, *in.Bucket+"/"); ok && strings.HasPrefix(key, *in.Prefix) {
			out.Uploads = append(out.Uploads, types.MultipartUpload{Key: &key, UploadId: &id})
		}
	}
	return out, nil
}

func (w *schedule) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	if err := w.enter(ctx, "list "+*in.Prefix); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := &s3.ListObjectsV2Output{}
	for _, name := range slices.Sorted(maps.Keys(w.objects)) {
		if key, ok := strings.CutPrefix(name, *in.Bucket+"/"); ok && strings.HasPrefix(key, *in.Prefix) {
			out.Contents = append(out.Contents, types.Object{Key: &key})
		}
	}
	return out, nil
}

func (w *schedule) ListParts(ctx context.Context, in *s3.ListPartsInput, _ ...func(*s3.Options)) (*s3.ListPartsOutput, error) {
	if err := w.enter(ctx, "list "+*in.UploadId); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok := w.uploads[*in.UploadId]
	if !ok {
		return nil, apiError(http.StatusNotFound, "NoSuchUpload")
	}
	out := &s3.ListPartsOutput{Key: in.Key}
	for n, body := range u.parts {
		sum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(body)))
		out.Parts = append(out.Parts, types.Part{
			PartNumber: aws.Int32(n), ETag: aws.String("part"), Size: aws.Int64(int64(len(body))), ChecksumCRC64NVME: &sum,
		})
	}
	return out, nil
}

func (w *schedule) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	if err := w.enter(ctx, "complete "+*in.UploadId); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok := w.uploads[*in.UploadId]
	if !ok {
		return nil, apiError(http.StatusNotFound, "NoSuchUpload")
	}
	var body []byte
	for _, p := range in.MultipartUpload.Parts {
		body = append(body, u.parts[*p.PartNumber]...)
	}
	etag, err := w.write(u.key, modelObject{body: body, metadata: u.metadata, tags: u.tags}, in.IfMatch, in.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	delete(w.uploads, *in.UploadId)
	return &s3.CompleteMultipartUploadOutput{ETag: &etag}, nil
}

func (w *schedule) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, _ ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	if err := w.enter(ctx, "abort "+*in.UploadId); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.uploads[*in.UploadId]; !ok {
		return nil, apiError(http.StatusNotFound, "NoSuchUpload")
	}
	delete(w.uploads, *in.UploadId)
	return &s3.AbortMultipartUploadOutput{}, nil
}
