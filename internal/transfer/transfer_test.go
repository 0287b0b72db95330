package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/guard"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

const (
	bucket        = "dest"
	journalBucket = "journal"
	testKey       = "dir//年报 +%.bin"
	partSize      = 1000
)

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// ferry is a source, a destination and an engine between them.
type ferry struct {
	*testing.T
	src    *source
	dst    *fakeS3
	engine *transfer.Engine
}

func newFerry(t *testing.T, size int, changes ...func(*transfer.Options)) *ferry {
	t.Helper()
	f := &ferry{T: t, src: newSource(t, random(size)), dst: newFakeS3(t)}
	f.engine = f.newEngine(changes...)
	return f
}

func (f *ferry) newEngine(changes ...func(*transfer.Options)) *transfer.Engine {
	o := transfer.Options{
		S3: f.dst.client, Bucket: bucket, Journal: journal.New(f.dst.client, journalBucket),
		HTTP: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Connections: 4, PartSize: partSize, RangeSize: 2 * partSize, Memory: 16 * partSize,
		Attempts: 4, Backoff: time.Millisecond, MaxBackoff: 5 * time.Second,
		HedgeAfter: time.Hour, // a machine that stops for a second must not change what is counted
	}
	for _, change := range changes {
		change(&o)
	}
	return transfer.New(o)
}

// transfer is the event of sequencer 10 about the source's object.
func (f *ferry) transfer(changes ...func(*wire.Transfer)) *wire.Transfer {
	t := &wire.Transfer{
		Op: wire.OpPut,
		Source: wire.Source{
			Region: "us-east-1", Bucket: "src", Key: testKey, VersionID: "v1", ETag: f.src.etag,
			Size: int64(len(f.src.body)), Sequencer: "10",
		},
		Object: wire.Object{
			ContentType: "text/plain", CacheControl: "max-age=1", ContentDisposition: "inline", ContentEncoding: "gzip",
			ContentLanguage: "zh", Expires: "never, ever", WebsiteRedirect: "/elsewhere",
			Metadata: map[string]string{"author": "=?UTF-8?B?5p2O?=", "x": "a  b"},
			Tags:     map[string]string{"team": "east & west", "年": "=1"}, StorageClass: "STANDARD_IA",
		},
		URL:      secret.New(f.src.url),
		NotAfter: time.Now().Add(time.Hour),
	}
	for _, change := range changes {
		change(t)
	}
	t.ID = wire.ID(t.Op, t.Source)
	return t
}

func withChecksum(f *ferry, algorithm string) func(*wire.Transfer) {
	sum := wire.Checksum{Algorithm: algorithm, Type: wire.FullObject, Value: sumOf(algorithm, f.src.body)}
	return func(t *wire.Transfer) { t.Object.Checksum = &sum }
}

func withSequencer(s string) func(*wire.Transfer) {
	return func(t *wire.Transfer) { t.Source.Sequencer = s }
}

func withVersion(id string) func(*wire.Transfer) {
	return func(t *wire.Transfer) { t.Source.VersionID = id }
}

// put expects t to end with the outcome.
func (f *ferry) put(t *wire.Transfer, redelivered bool, want wire.Outcome) transfer.Result {
	f.Helper()
	r, err := f.engine.Put(f.Context(), t, redelivered)
	f.told(r)
	if err != nil || r.Outcome != want {
		f.Fatalf("got %q, %v, want %s", r.Outcome, err, want)
	}
	if r.Residue != nil {
		f.Errorf("left behind: %v", r.Residue)
	}
	return r
}

// told is what the receiver does once the receipt is safe.
func (f *ferry) told(r transfer.Result) {
	f.Helper()
	if r.Told == nil {
		return
	}
	if err := r.Told(context.WithoutCancel(f.Context())); err != nil {
		f.Errorf("tell: %v", err)
	}
}

// fail expects a fault of the class, without the URL in it.
func (f *ferry) fail(t *wire.Transfer, class string, permanent bool) error {
	f.Helper()
	r, err := f.engine.Put(f.Context(), t, false)
	f.told(r)
	if err == nil || fault.Class(err) != class || fault.IsPermanent(err) != permanent {
		f.Fatalf("got %q, class %s, permanent %v of %v, want %s, %v", r.Outcome, fault.Class(err), fault.IsPermanent(err), err, class, permanent)
	}
	if strings.Contains(err.Error(), "topsecret") {
		f.Errorf("the error quotes the URL: %v", err)
	}
	return err
}

// arrived expects the source's object at the destination and nothing else.
func (f *ferry) arrived() {
	f.Helper()
	o := f.dst.get(bucket + "/" + testKey)
	if o == nil {
		f.Fatal("nothing arrived")
	}
	if !bytes.Equal(o.body, f.src.body) {
		f.Errorf("got %d other bytes, want %d", len(o.body), len(f.src.body))
	}
	f.clean()
}

// clean expects no upload and no upload entry to be left.
func (f *ferry) clean() {
	f.Helper()
	if n := f.dst.pendings(); n != 0 {
		f.Errorf("%d uploads left", n)
	}
	for _, name := range f.dst.names(journalBucket) {
		if strings.HasPrefix(name, "uploads/") {
			f.Errorf("journal entry %s left", name)
		}
	}
}

func (f *ferry) asked(want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, f.dst.requests()); diff != "" {
		f.Errorf("requests to the destination (-want +got):\n%s", diff)
	}
}

func count(log []string, op string) int {
	n := 0
	for _, o := range log {
		if o == op {
			n++
		}
	}
	return n
}

func TestSmallIsOneGetAndOnePut(t *testing.T) {
	for _, size := range []int{0, 1, 999, partSize} {
		f := newFerry(t, size)
		r := f.put(f.transfer(), false, wire.Copied)
		f.arrived()
		f.asked("Put")
		if diff := cmp.Diff(transfer.Result{Outcome: wire.Copied, Bytes: int64(size), Verified: wire.ByETag}, r); diff != "" {
			t.Errorf("size %d (-want +got):\n%s", size, diff)
		}
		if got := len(f.src.asks()); got != 1 {
			t.Errorf("size %d: %d GETs", size, got)
		}
	}
}

func TestSmallIsPulledOverSeveralConnectionsWhereOneWouldBeSlow(t *testing.T) {
	for _, tc := range []struct{ size, gets int }{{300 << 10, 1}, {2 << 20, 8}} {
		f := newFerry(t, tc.size, func(o *transfer.Options) {
			o.PartSize, o.RangeSize, o.Memory, o.Connections = 8<<20, 4<<20, 64<<20, 32
		})
		f.put(f.transfer(withChecksum(f, "CRC64NVME")), false, wire.Copied)
		f.arrived()
		f.asked("Put")
		if got := len(f.src.asks()); got != tc.gets {
			t.Errorf("size %d: %d GETs, want %d", tc.size, got, tc.gets)
		}
		if got := f.src.bytesSent(); got != tc.size {
			t.Errorf("size %d: %d bytes sent", tc.size, got)
		}
	}
}

func TestEmptyObjectIsPulledWithoutARange(t *testing.T) {
	f := newFerry(t, 0)
	f.put(f.transfer(), false, wire.Copied)
	if diff := cmp.Diff([]string{""}, f.src.asks()); diff != "" {
		t.Error(diff)
	}
}

func TestMetadataArrivesWhole(t *testing.T) {
	for _, size := range []int{10, 3500} {
		f := newFerry(t, size)
		f.put(f.transfer(func(t *wire.Transfer) {
			// A bucket that is itself a destination has entries of another ferry.
			t.Object.Metadata[transfer.MetaSequencer], t.Object.Metadata[transfer.MetaSourceBucket] = "FFFF", "another"
			t.Object.ContentEncoding = "aws-chunked, gzip"
		}), false, wire.Copied)
		o := f.dst.get(bucket + "/" + testKey)
		tags := unescapeTags(t, o.header.Get("X-Amz-Tagging"))
		if diff := cmp.Diff(map[string]string{"team": "east & west", "年": "=1"}, tags); diff != "" {
			t.Errorf("size %d: tags: %s", size, diff)
		}
		o.header.Del("X-Amz-Tagging")
		want := http.Header{
			"Content-Type": {"text/plain"}, "Cache-Control": {"max-age=1"}, "Content-Disposition": {"inline"},
			"Content-Encoding": {"gzip"}, "Content-Language": {"zh"}, "Expires": {"never, ever"}, "X-Amz-Website-Redirect-Location": {"/elsewhere"},
			"X-Amz-Storage-Class": {"STANDARD_IA"},
			"X-Amz-Meta-Author":   {"=?UTF-8?B?5p2O?="}, "X-Amz-Meta-X": {"a  b"},
			"X-Amz-Meta-S3ferry-Sequencer": {"10"}, "X-Amz-Meta-S3ferry-Source-Etag": {f.src.etag},
			"X-Amz-Meta-S3ferry-Source-Version": {"v1"}, "X-Amz-Meta-S3ferry-Source-Bucket": {"src"},
		}
		if diff := cmp.Diff(want, o.header); diff != "" {
			t.Errorf("size %d: (-want +got)\n%s", size, diff)
		}
	}
}

func TestVerified(t *testing.T) {
	for _, tc := range []struct {
		size   int
		change func(f *ferry) func(*wire.Transfer)
		want   wire.Verified
	}{
		{10, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC64NVME") }, wire.ByFullObject},
		{10, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC32") }, wire.ByFullObject},
		{10, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC32C") }, wire.ByFullObject},
		{10, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "SHA1") }, wire.ByFullObject},
		{10, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "SHA256") }, wire.ByFullObject},
		{10, func(*ferry) func(*wire.Transfer) { return func(*wire.Transfer) {} }, wire.ByETag},
		{10, func(f *ferry) func(*wire.Transfer) {
			f.src.etag = strings.Repeat("a", 32) // as with SSE-KMS: no MD5 of the bytes
			return func(t *wire.Transfer) { t.Source.ETag = f.src.etag }
		}, wire.ByLength},
		{10, func(f *ferry) func(*wire.Transfer) {
			return func(t *wire.Transfer) {
				t.Object.Checksum = &wire.Checksum{Algorithm: "SHA256", Type: wire.Composite, Value: "x-2"}
			}
		}, wire.ByETag},
		{3500, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC64NVME") }, wire.ByFullObject},
		{3500, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC32") }, wire.ByFullObject},
		{3500, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "CRC32C") }, wire.ByFullObject},
		{3500, func(f *ferry) func(*wire.Transfer) { return withChecksum(f, "SHA256") }, wire.ByLength},
		{3500, func(*ferry) func(*wire.Transfer) { return func(*wire.Transfer) {} }, wire.ByLength},
	} {
		f := newFerry(t, tc.size)
		transfer := f.transfer(tc.change(f))
		r := f.put(transfer, false, wire.Copied)
		f.arrived()
		if r.Verified != tc.want {
			t.Errorf("size %d, checksum %+v: got %q, want %q", tc.size, transfer.Object.Checksum, r.Verified, tc.want)
		}
	}
}

func TestLargeIsPulledInPinnedParts(t *testing.T) {
	f := newFerry(t, 3500)
	f.dst.page = 2
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
	log := f.dst.requests()
	if diff := cmp.Diff([]string{"Head", "journalGet", "Create", "journalPut", "List"}, log[:5]); diff != "" {
		t.Errorf("begin (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Part", "Part", "Part", "Part", "Complete", "journalDelete"}, log[5:]); diff != "" {
		t.Errorf("end (-want +got):\n%s", diff)
	}
	asks := f.src.asks()
	slices.Sort(asks)
	if diff := cmp.Diff([]string{"0-999", "1000-1999", "2000-2999", "3000-3499"}, asks); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
}

func TestRedeliveredCostsNoByte(t *testing.T) {
	f := newFerry(t, 10)
	f.put(f.transfer(), false, wire.Copied)
	f.dst.requests()
	f.put(f.transfer(), true, wire.Skipped)
	f.asked("Head", "journalGet")
	if got := len(f.src.asks()); got != 1 {
		t.Errorf("%d GETs in all, want 1", got)
	}

	f = newFerry(t, 3500)
	f.put(f.transfer(), false, wire.Copied)
	f.dst.requests()
	f.put(f.transfer(), true, wire.Skipped)
	f.asked("Head", "journalGet", "Uploads", "journalGet")
	if got := len(f.src.asks()); got != 4 {
		t.Errorf("%d GETs in all, want 4", got)
	}
}

func TestOrder(t *testing.T) {
	for _, size := range []int{10, 3500} {
		for _, tc := range []struct {
			name  string
			there map[string]string // metadata of the destination's object
			want  wire.Outcome
		}{
			{"older", map[string]string{transfer.MetaSequencer: "0F"}, wire.Copied},
			{"same", map[string]string{transfer.MetaSequencer: "1000"}, wire.Skipped},
			{"newer", map[string]string{transfer.MetaSequencer: "11"}, wire.Superseded},
			{"foreign", map[string]string{"author": "me"}, wire.Copied},
		} {
			for _, redelivered := range []bool{false, true} {
				f := newFerry(t, size)
				before := f.dst.put(bucket+"/"+testKey, []byte("before"), tc.there)
				r, err := f.engine.Put(t.Context(), f.transfer(), redelivered)
				f.told(r)
				if err != nil || r.Outcome != tc.want {
					t.Errorf("%s, size %d: got %q, %v, want %s", tc.name, size, r.Outcome, err, tc.want)
				}
				if changed := f.dst.get(bucket+"/"+testKey).etag != before; changed != (tc.want == wire.Copied) {
					t.Errorf("%s, size %d: the destination changed: %v", tc.name, size, changed)
				}
				f.clean()
			}
		}
	}
}

func TestConflictIsJudgedAgainWithoutPulling(t *testing.T) {
	for _, size := range []int{10, 3500} {
		for name, tc := range map[string]struct {
			sequencer string
			want      wire.Outcome
		}{
			"a newer one comes in the middle":  {"11", wire.Superseded},
			"an older one comes in the middle": {"0F", wire.Copied},
			"the same comes in the middle":     {"10", wire.Skipped},
		} {
			f := newFerry(t, size)
			var once sync.Once
			f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
				if op == "Put" || op == "Complete" {
					once.Do(func() {
						f.dst.put(bucket+"/"+testKey, []byte("other"), map[string]string{transfer.MetaSequencer: tc.sequencer})
					})
				}
				return false
			})
			f.put(f.transfer(), false, tc.want)
			f.clean()
			if got := f.src.bytesSent(); got != size {
				t.Errorf("%s, size %d: %d bytes pulled", name, size, got)
			}
		}
	}
}

func TestConflictIsBounded(t *testing.T) {
	f := newFerry(t, 10)
	f.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
		if op == "Put" {
			refuse(w, 409, "ConditionalRequestConflict")
		}
		return op == "Put"
	})
	f.fail(f.transfer(), "destination-busy", false)
	if got := count(f.dst.requests(), "Put"); got != 8 {
		t.Errorf("%d puts, want 8", got)
	}
}

func TestHeadThenWriteSendsNoCondition(t *testing.T) {
	for _, size := range []int{10, 3500} {
		f := newFerry(t, size, func(o *transfer.Options) { o.HeadThenWrite = true })
		f.dst.hook(func(op string, _ http.ResponseWriter, r *http.Request) bool {
			if (op == "Put" || op == "Complete") && (r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "") {
				t.Errorf("%s has a condition", op)
			}
			return false
		})
		f.dst.put(bucket+"/"+testKey, nil, map[string]string{transfer.MetaSequencer: "0F"})
		f.put(f.transfer(), false, wire.Copied)
		f.arrived()
		f.put(f.transfer(withSequencer("0E")), false, wire.Superseded)
		f.arrived()
	}
}

// big makes metadata that leaves no room for ours.
func big(t *wire.Transfer) {
	t.Object.Metadata = map[string]string{"big": strings.Repeat("b", 2000)}
}

func TestOverflowingOrderLivesInTheJournal(t *testing.T) {
	for _, size := range []int{10, 3500} {
		f := newFerry(t, size)
		f.put(f.transfer(big), false, wire.Copied)
		f.arrived()
		log := f.dst.requests()
		record := slices.Index(log, "journalPut")
		if size > partSize {
			record += 1 + slices.Index(log[record+1:], "journalPut") // the first is the upload entry
		}
		if object := max(slices.Index(log, "Put"), slices.Index(log, "Complete")); record < 0 || record > object {
			t.Errorf("size %d: the record was not written before the object: %v", size, log)
		}
		if got := f.dst.get(bucket + "/" + testKey).header.Get("X-Amz-Meta-S3ferry-Sequencer"); got != "" {
			t.Errorf("size %d: sequencer %q in the object", size, got)
		}
		sent := f.src.bytesSent()
		f.put(f.transfer(big), true, wire.Skipped)
		f.put(f.transfer(big, withSequencer("0F")), true, wire.Superseded)
		f.put(f.transfer(withSequencer("0F")), true, wire.Superseded) // fits, but is older
		if got := f.src.bytesSent(); got != sent {
			t.Errorf("size %d: %d bytes pulled for nothing", size, got-sent)
		}
		f.put(f.transfer(withSequencer("11"), withVersion("v2")), true, wire.Copied) // fits, and is newer
		f.put(f.transfer(big, withSequencer("12"), withVersion("v3")), true, wire.Copied)
		f.put(f.transfer(withSequencer("11"), withVersion("v2")), true, wire.Superseded)
		f.arrived()
	}
}

func TestRecordWithoutItsObjectIsRepaired(t *testing.T) {
	f := newFerry(t, 10)
	f.dst.put(bucket+"/"+testKey, []byte("before"), nil)
	crash := true
	f.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
		if op == "Put" && crash {
			refuse(w, 403, "AccessDenied")
			return true
		}
		return false
	})
	f.fail(f.transfer(big), "destination-denied", true)
	crash = false
	f.put(f.transfer(big, withSequencer("0F")), true, wire.Superseded)
	f.put(f.transfer(big), true, wire.Copied)
	f.arrived()
}

func TestUserMetadataOverTheLimitIsPermanent(t *testing.T) {
	f := newFerry(t, 10)
	f.fail(f.transfer(func(t *wire.Transfer) {
		t.Object.Metadata = map[string]string{"big": strings.Repeat("年", 682)}
	}), "metadata-too-large", true)
	f.asked()
}

func TestStorageClassThatCannotBeIsPermanent(t *testing.T) {
	for _, class := range []string{"OUTPOSTS", "SNOW", "EXPRESS_ONEZONE"} {
		f := newFerry(t, 10)
		f.fail(f.transfer(func(t *wire.Transfer) { t.Object.StorageClass = class }), "storage-class", true)
		f.asked()
	}
}

func TestPartsGrowAndAreThenPulledInRanges(t *testing.T) {
	const unit = 10
	f := newFerry(t, 10_000*unit+1, func(o *transfer.Options) {
		o.PartSize, o.RangeSize, o.Memory, o.Connections = unit, unit, 100*unit, 8
	})
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
	log := f.dst.requests()
	if got := count(log, "Part"); got != 5001 {
		t.Errorf("%d parts of 20 bytes, want 5001", got)
	}
	if got := len(f.src.asks()); got != 10_001 {
		t.Errorf("%d ranges of 10 bytes, want 10001", got)
	}
}

func TestAnObjectThatS3CannotHoldIsPermanent(t *testing.T) {
	f := newFerry(t, 2000)
	f.fail(f.transfer(func(t *wire.Transfer) { t.Source.Size = 10_000*5<<30 + 1 }), "object-too-large", true)
	f.clean()
}

func TestSourceAnswers(t *testing.T) {
	answer := func(status int, body string) func(*ferry) {
		return func(f *ferry) {
			f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
				return true
			}
		}
	}
	code := func(status int, code, message string) func(*ferry) {
		return answer(status, fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message></Error>", code, message))
	}
	header := func(change func(http.Header, *int)) func(*ferry) {
		return func(f *ferry) {
			f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				from, to, _ := f.src.asked(r)
				w.Header().Set("ETag", `"`+f.src.etag+`"`)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(f.src.body)))
				status := 206
				change(w.Header(), &status)
				f.src.write(w, status, f.src.body[from:to+1])
				return true
			}
		}
	}
	for name, tc := range map[string]struct {
		misbehave func(*ferry)
		outcome   wire.Outcome
		class     string
		permanent bool
		gets      int // at most; 0 is 1 of a small object
	}{
		"403 expired":         {misbehave: code(403, "AccessDenied", "Request has expired"), outcome: wire.Expired},
		"403 expired token":   {misbehave: code(403, "ExpiredToken", "x"), outcome: wire.Expired},
		"400 expired token":   {misbehave: code(400, "ExpiredToken", "x"), outcome: wire.Expired},
		"403 denied":          {misbehave: code(403, "AccessDenied", "Access Denied"), class: "source-denied", permanent: true},
		"403 signature":       {misbehave: code(403, "SignatureDoesNotMatch", "x"), class: "source-denied", permanent: true},
		"403 no body":         {misbehave: answer(403, ""), class: "source-denied", permanent: true},
		"403 archived":        {misbehave: code(403, "InvalidObjectState", "x"), class: "source-archived", permanent: true},
		"400":                 {misbehave: code(400, "InvalidArgument", "x"), class: "source-refused", permanent: true},
		"404":                 {misbehave: code(404, "NoSuchKey", "x"), outcome: wire.Gone},
		"404 version":         {misbehave: code(404, "NoSuchVersion", "x"), outcome: wire.Gone},
		"412":                 {misbehave: code(412, "PreconditionFailed", "x"), outcome: wire.Superseded},
		"416":                 {misbehave: code(416, "InvalidRange", "x"), class: "source-mismatch", permanent: true},
		"307":                 {misbehave: answer(307, ""), class: "source-redirect", permanent: true},
		"204":                 {misbehave: answer(204, ""), class: "source-refused", permanent: true},
		"429":                 {misbehave: code(429, "TooManyRequests", "x"), class: "border", gets: 4},
		"500":                 {misbehave: code(500, "InternalError", "x"), class: "border", gets: 4},
		"503":                 {misbehave: code(503, "SlowDown", "x"), class: "border", gets: 4},
		"503 page of a proxy": {misbehave: answer(503, strings.Repeat("<html>", 1<<16)), class: "border", gets: 4},
		"206 other ETag":      {misbehave: header(func(h http.Header, _ *int) { h.Set("ETag", `"other"`) }), class: "source-mismatch", permanent: true},
		"206 no ETag":         {misbehave: header(func(h http.Header, _ *int) { h.Del("ETag") }), class: "source-mismatch", permanent: true},
		"206 wrong range":     {misbehave: header(func(h http.Header, _ *int) { h.Set("Content-Range", "bytes 1-10/3500") }), class: "source-mismatch", permanent: true},
		"206 other size":      {misbehave: header(func(h http.Header, _ *int) { h.Set("Content-Range", "bytes 0-999/9999") }), class: "source-mismatch", permanent: true},
		"206 no range":        {misbehave: header(func(h http.Header, _ *int) { h.Del("Content-Range") }), class: "source-mismatch", permanent: true},
		"200 instead of 206": {misbehave: func(f *ferry) {
			f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("ETag", `"`+f.src.etag+`"`)
				f.src.write(w, 200, append(f.src.body, 1))
				return true
			}
		}, class: "source-mismatch", permanent: true},
		"206 without a length": {misbehave: header(func(h http.Header, _ *int) { h.Set("Transfer-Encoding", "chunked") }), class: "source-mismatch", permanent: true},
		"nothing but a reset": {misbehave: func(f *ferry) {
			f.src.misbehave = func(int, http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
		}, class: "border", gets: 4},
	} {
		for _, size := range []int{500, 3500} {
			t.Run(fmt.Sprintf("%s of %d", name, size), func(t *testing.T) {
				f := newFerry(t, size)
				tc.misbehave(f)
				if tc.outcome != "" {
					f.put(f.transfer(), false, tc.outcome)
				} else {
					f.fail(f.transfer(), tc.class, tc.permanent)
				}
				if want := max(tc.gets, 1); size == 500 && len(f.src.asks()) != want {
					t.Errorf("%d GETs, want %d", len(f.src.asks()), want)
				}
				if f.dst.get(bucket+"/"+testKey) != nil {
					t.Error("something was written")
				}
				if tc.permanent || tc.outcome == wire.Gone || tc.outcome == wire.Superseded {
					f.clean()
				} else if size == 3500 && f.dst.pendings() != 1 {
					t.Error("the upload was not kept for the next delivery")
				}
			})
		}
	}
}

func TestWhole200IsTakenForTheWholeObject(t *testing.T) {
	f := newFerry(t, 500)
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	}
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
}

func TestAddressThatTheGuardRefusesIsPermanent(t *testing.T) {
	door, err := guard.New(guard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := newFerry(t, 500, func(o *transfer.Options) { o.HTTP = door.Client() })
	f.fail(f.transfer(), guard.Class, true)
	if got := f.src.asks(); len(got) != 0 {
		t.Errorf("asked %v", got)
	}
}

func TestExpiredBeforeTheFirstGet(t *testing.T) {
	f := newFerry(t, 500)
	f.put(f.transfer(func(t *wire.Transfer) { t.NotAfter = time.Now().Add(-time.Second) }), false, wire.Expired)
	if got := f.src.asks(); len(got) != 0 {
		t.Errorf("asked %v", got)
	}
	// A plain 403 once the time is over is the same news.
	f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	var calls atomic.Int64
	now := time.Now()
	f.engine = f.newEngine(func(o *transfer.Options) {
		o.Now = func() time.Time { return now.Add(time.Duration(calls.Add(1)-1) * time.Hour) }
	})
	f.put(f.transfer(func(t *wire.Transfer) { t.NotAfter = now.Add(time.Minute) }), false, wire.Expired)
}

func TestRetryAfter(t *testing.T) {
	f := newFerry(t, 500)
	var first, second time.Time
	f.src.misbehave = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n > 1 {
			second = time.Now()
			return false
		}
		first = time.Now()
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	f.put(f.transfer(), false, wire.Copied)
	if waited := second.Sub(first); waited < time.Second {
		t.Errorf("waited %s, want at least 1 s", waited)
	}
	// One that is too long is for the queue to wait.
	f = newFerry(t, 500)
	f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if got := fault.RetryAfter(f.fail(f.transfer(), "border", false)); got != 10*time.Minute {
		t.Errorf("the fault asks for %s, want 10m", got)
	}
}

func TestBrokenRangeGoesOnWhereItStopped(t *testing.T) {
	for name, end := range map[string]func(*ferry, *http.Request){
		"short body": func(*ferry, *http.Request) {},
		"reset":      func(*ferry, *http.Request) { panic(http.ErrAbortHandler) },
		"stall":      func(f *ferry, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 3500, func(o *transfer.Options) {
				if name == "stall" {
					o.StallWindow, o.StallFloor = time.Second, 500
				}
			})
			f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				from, to, _ := f.src.asked(r)
				if to-from < 300 {
					return false
				}
				f.src.cut(w, r, 300)
				end(f, r)
				return true
			}
			f.put(f.transfer(), false, wire.Copied)
			f.arrived()
			// A machine that is slow for a moment looks like a stall too.
			if got := f.src.bytesSent(); got != 3500 && name != "stall" {
				t.Errorf("%d bytes sent, want each of 3500 once", got)
			}
			asks := f.src.asks()
			slices.Sort(asks)
			for _, want := range []string{"0-999", "300-999", "600-999", "3300-3499"} {
				if !slices.Contains(asks, want) {
					t.Errorf("no range %s among %v", want, asks)
				}
			}
		})
	}
}

func TestSourceThatWantsFewerConnectionsGetsFewer(t *testing.T) {
	const parts, most = 300, 8
	f := newFerry(t, parts*partSize, func(o *transfer.Options) {
		o.Connections, o.Memory, o.Attempts, o.Backoff = 64, 64*partSize, 20, 20*time.Millisecond
	})
	var refused atomic.Int64
	f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		time.Sleep(time.Millisecond) // or none would meet another
		f.src.mu.Lock()
		tooMany := f.src.open > most
		f.src.mu.Unlock()
		if tooMany {
			refused.Add(1)
			refuse(w, http.StatusServiceUnavailable, "SlowDown")
		}
		return tooMany
	}
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
	if refused.Load() == 0 {
		t.Error("the source never had to refuse: the test shows nothing")
	}
	if got := f.src.bytesSent(); got != parts*partSize {
		t.Errorf("%d bytes sent, want each of %d once", got, parts*partSize)
	}
}

func TestLastRangesAreHedged(t *testing.T) {
	f := newFerry(t, 3500, func(o *transfer.Options) { o.StallWindow, o.HedgeAfter = time.Hour, transfer.DefaultHedgeAfter })
	var hung atomic.Int64
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		from, to, _ := f.src.asked(r)
		if from < 2000 || hung.Add(1) > 2 {
			return false
		}
		f.src.cut(w, r, (to-from)/2)
		<-r.Context().Done() // which only the second connection can end
		return true
	}
	f.put(f.transfer(withChecksum(f, "CRC64NVME")), false, wire.Copied)
	f.arrived()
	asks := f.src.asks()
	slices.Sort(asks)
	want := []string{"0-999", "1000-1999", "2000-2999", "2499-2999", "3000-3499", "3249-3499"}
	if diff := cmp.Diff(want, asks); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if got := f.src.bytesSent(); got != 3500 {
		t.Errorf("%d bytes sent, want each of 3500 once", got)
	}
}

func TestProgressResetsTheCountOfAttempts(t *testing.T) {
	f := newFerry(t, 900)
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		from, to, _ := f.src.asked(r)
		if to-from < 100 {
			return false
		}
		f.src.cut(w, r, 120) // at least an eighth: 7 attempts though 4 is the limit
		panic(http.ErrAbortHandler)
	}
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
	// A trickle is no progress.
	f = newFerry(t, 900)
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		f.src.cut(w, r, 2)
		panic(http.ErrAbortHandler)
	}
	f.fail(f.transfer(), "border", false)
	if got := len(f.src.asks()); got != 4 {
		t.Errorf("%d GETs, want 4", got)
	}
}

func TestBentBytesArePulledAgain(t *testing.T) {
	for _, size := range []int{500, 3500} {
		f := newFerry(t, size)
		bend := true
		f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			from, _, _ := f.src.asked(r)
			if from != 0 || !bend {
				return false
			}
			bend = false
			good := f.src.body
			f.src.body = bytes.Clone(good)
			f.src.body[7] ^= 1
			f.src.serve(w, r)
			f.src.body = good
			return true
		}
		f.engine = f.newEngine(func(o *transfer.Options) { o.Connections = 1 })
		f.put(f.transfer(withChecksum(f, "CRC64NVME")), false, wire.Copied)
		f.arrived()
	}
}

func TestBytesThatStayBentAreNeverWritten(t *testing.T) {
	for _, size := range []int{500, 3500} {
		f := newFerry(t, size)
		change := withChecksum(f, "CRC32")
		good := f.src.body
		f.src.body = bytes.Clone(good)
		f.src.body[7] ^= 1
		f.fail(f.transfer(change), "checksum-mismatch", false)
		if f.dst.get(bucket+"/"+testKey) != nil {
			t.Error("bent bytes were written")
		}
		f.src.body = good
		f.put(f.transfer(change), true, wire.Copied) // the next delivery begins anew
		f.arrived()
	}
}

func TestDestinationAnswers(t *testing.T) {
	for _, tc := range []struct {
		op, code  string
		status    int
		class     string
		permanent bool
	}{
		{"Put", "AccessDenied", 403, "destination-denied", true},
		{"Put", "KeyTooLongError", 400, "destination-refused", true},
		{"Put", "InvalidRequest", 400, "destination-refused", true},
		{"Put", "ObjectParentIsFile", 409, "destination-refused", true},
		{"Put", "NoSuchBucket", 404, "destination-refused", true},
		{"Put", "SlowDown", 503, "destination-busy", false},
		{"Put", "InternalError", 500, "destination-busy", false},
		{"Put", "ExpiredToken", 400, "destination-busy", false},
		{"Create", "AccessDenied", 403, "destination-denied", true},
		{"Create", "KeyTooLongError", 400, "destination-refused", true},
		{"Part", "AccessDenied", 403, "destination-denied", true},
		{"Part", "SlowDown", 503, "destination-busy", false},
		{"Part", "BadDigest", 400, "checksum-mismatch", false},
		{"Complete", "EntityTooSmall", 400, "destination-refused", true},
		{"Complete", "InternalError", 500, "destination-busy", false},
		{"Head", "Forbidden", 403, "destination-denied", true},
		{"List", "AccessDenied", 403, "destination-denied", true},
		{"journalGet", "AccessDenied", 403, "journal-denied", true},
		{"journalPut", "InternalError", 500, "journal-busy", false},
	} {
		t.Run(tc.op+" "+tc.code, func(t *testing.T) {
			size := 3500
			if tc.op == "Put" {
				size = 500
			}
			f := newFerry(t, size)
			f.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
				if op == tc.op {
					refuse(w, tc.status, tc.code)
				}
				return op == tc.op
			})
			err := f.fail(f.transfer(), tc.class, tc.permanent)
			if tc.op != "Head" && !strings.Contains(err.Error(), "fake says "+tc.code) {
				t.Errorf("the destination's message is lost: %v", err)
			}
			if tc.permanent {
				f.clean()
			}
			f.dst.hook(nil)
			f.put(f.transfer(), true, wire.Copied)
			f.arrived()
		})
	}
}

func TestBusyDestinationIsServedFromTheBuffer(t *testing.T) {
	for _, size := range []int{500, 3500} {
		f := newFerry(t, size)
		var busy atomic.Int64
		f.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
			if (op == "Put" || op == "Part") && busy.Add(1) <= 5 {
				refuse(w, 503, "SlowDown")
				return true
			}
			return false
		})
		f.put(f.transfer(), false, wire.Copied)
		f.arrived()
		if got := f.src.bytesSent(); got != size {
			t.Errorf("%d bytes pulled, want %d", got, size)
		}
	}
}

func TestResumePullsOnlyWhatIsMissing(t *testing.T) {
	f := newFerry(t, 9500)
	f.dst.page = 3
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if from, _, _ := f.src.asked(r); from >= 5000 {
			refuse(w, 503, "SlowDown")
			return true
		}
		return false
	}
	f.fail(f.transfer(withChecksum(f, "CRC64NVME")), "border", false)
	done := f.src.bytesSent()
	if done < 4000 {
		t.Fatalf("only %d bytes came before the fault", done)
	}
	f.src.behave()
	f.engine = f.newEngine(func(o *transfer.Options) { o.PartSize = 777 }) // the upload keeps its own
	f.dst.requests()
	f.put(f.transfer(withChecksum(f, "CRC64NVME")), true, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got != 9500 {
		t.Errorf("%d bytes sent in all, want each of 9500 once", got)
	}
	if log := f.dst.requests(); count(log, "Create") != 0 || count(log, "List") < 2 {
		t.Errorf("requests of the second delivery: %v", log)
	}
}

func TestPartsOfAnotherSizeAreBroughtAgain(t *testing.T) {
	f := newFerry(t, 2500)
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if from, _, _ := f.src.asked(r); from >= 2000 {
			refuse(w, 503, "SlowDown")
			return true
		}
		return false
	}
	f.fail(f.transfer(), "border", false)
	f.dst.mu.Lock()
	for _, u := range f.dst.uploads {
		u.parts[1] = object{body: []byte("short"), etag: md5ETag([]byte("short"))}
	}
	f.dst.mu.Unlock()
	f.src.behave()
	f.put(f.transfer(), true, wire.Copied)
	f.arrived()
}

// Time is up by a deadline, or because somebody says so.
func TestWhatWasPulledIsStoredWhenTimeIsUp(t *testing.T) {
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		testTimeIsUp(ctx, t, func() {}, context.DeadlineExceeded)
	})
	t.Run("stop", func(t *testing.T) {
		stopped, stop := context.WithCancel(t.Context())
		testTimeIsUp(transfer.Until(t.Context(), stopped), t, stop, context.Canceled)
	})
}

// testTimeIsUp calls stop once three parts were pulled and both connections wait
// for another: a request still on its way to the source would be counted later.
func testTimeIsUp(ctx context.Context, t *testing.T, stop func(), why error) {
	t.Helper()
	const connections, served = 2, 3
	f := newFerry(t, 5500, func(o *transfer.Options) { o.Connections = connections })
	var hanging, pulls sync.WaitGroup
	hanging.Add(connections)
	pulls.Add(connections)
	f.src.misbehave = func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n > served {
			hanging.Done()
			<-r.Context().Done() // until the time for pulls is over
			pulls.Done()
		}
		return n > served
	}
	var parts atomic.Int64
	f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
		if op == "Part" && parts.Add(1) == served {
			hanging.Wait()
			stop()
			pulls.Wait()
		}
		return false
	})
	_, err := f.engine.Put(ctx, f.transfer(), false)
	u, ok := errors.AsType[*transfer.Unfinished](err)
	if !ok || u.Parts != 3 || u.Remaining != 3 || !errors.Is(err, why) {
		t.Fatalf("got %v, want 3 parts finished and 3 to do", err)
	}
	if ctx.Err() != nil {
		t.Error("nothing was left of the deadline")
	}
	f.src.behave()
	f.dst.hook(nil)
	f.put(f.transfer(), true, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got != 5500 {
		t.Errorf("%d bytes sent in all, want 5500", got)
	}
}

func TestCancelledSmallIsUnfinished(t *testing.T) {
	f := newFerry(t, 500)
	ctx, cancel := context.WithCancel(t.Context())
	f.src.misbehave = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	_, err := f.engine.Put(ctx, f.transfer(), false)
	if u, ok := errors.AsType[*transfer.Unfinished](err); !ok || u.Parts != 0 || u.Remaining != 1 {
		t.Errorf("got %v, want *Unfinished", err)
	}
}

func TestExpiredKeepsTheUploadForTheNextURL(t *testing.T) {
	f := newFerry(t, 5500, func(o *transfer.Options) { o.Connections = 1 })
	f.src.misbehave = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n > 3 {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"))
			return true
		}
		return false
	}
	f.put(f.transfer(), false, wire.Expired)
	f.src.behave()
	f.put(f.transfer(func(t *wire.Transfer) { t.URL = secret.New(f.src.url + "&again") }), true, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got != 5500 {
		t.Errorf("%d bytes sent in all, want 5500", got)
	}
}

func TestSupersededOnRedeliveryAbortsTheUpload(t *testing.T) {
	f := newFerry(t, 2500)
	f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool { refuse(w, 503, "SlowDown"); return true }
	f.fail(f.transfer(), "border", false)
	f.dst.put(bucket+"/"+testKey, nil, map[string]string{transfer.MetaSequencer: "11"})
	f.put(f.transfer(), true, wire.Superseded)
	f.clean()
}

func TestAPartThatIsStoredAgainCostsNoPull(t *testing.T) {
	f := newFerry(t, 4500)
	var once sync.Once
	f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
		if op == "Complete" {
			once.Do(func() {
				f.dst.mu.Lock()
				defer f.dst.mu.Unlock()
				for _, u := range f.dst.uploads {
					u.parts[2] = object{body: u.parts[2].body, etag: `"another"`}
				}
			})
		}
		return false
	})
	f.fail(f.transfer(), "destination-busy", false)
	f.put(f.transfer(), true, wire.Copied)
	f.arrived()
	if got := f.src.bytesSent(); got != 4500 {
		t.Errorf("%d bytes sent in all, want 4500", got)
	}
}

func TestTwoWorkersOnOneTransfer(t *testing.T) {
	f := newFerry(t, 20_500)
	other := f.newEngine()
	var wg sync.WaitGroup
	var copied atomic.Int64
	for _, e := range []*transfer.Engine{f.engine, other} {
		wg.Go(func() {
			r, err := redelivered(func() (transfer.Result, error) {
				return e.Put(t.Context(), f.transfer(withChecksum(f, "CRC64NVME")), false)
			})
			f.told(r)
			if err != nil || (r.Outcome != wire.Copied && r.Outcome != wire.Skipped) {
				t.Errorf("got %q, %v", r.Outcome, err)
			}
			if r.Outcome == wire.Copied {
				copied.Add(1)
			}
		})
	}
	wg.Wait()
	f.arrived()
	if got := copied.Load(); got != 1 {
		t.Errorf("%d workers say that they copied it, want 1", got)
	}
}

func TestJournalRaceLeavesOneUpload(t *testing.T) {
	f := newFerry(t, 2500)
	// Another worker enters its upload between our look and our write.
	var once sync.Once
	f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
		if op == "journalPut" {
			once.Do(func() {
				f.dst.mu.Lock()
				f.dst.uploads["upload-theirs"] = &pending{name: bucket + "/" + testKey, header: http.Header{"X-Amz-Checksum-Algorithm": {"CRC64NVME"}}, parts: map[int]object{}}
				f.dst.mu.Unlock()
				id := f.transfer().ID
				f.dst.put(journalBucket+"/"+entryName(testKey, id), fmt.Appendf(nil,
					`{"v":1,"transfer":"%s","bucket":"dest","key":"%s","uploadId":"upload-theirs","partSize":1000,"algorithm":"CRC64NVME"}`, id, testKey), nil)
			})
		}
		return false
	})
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
	log := f.dst.requests()
	if count(log, "Abort") != 1 {
		t.Errorf("our own upload was not aborted: %v", log)
	}
}

// entryName is what the journal calls the upload of a transfer.
func entryName(key, id string) string {
	return fmt.Sprintf("uploads/%x/%s.json", sha256.Sum256([]byte(bucket+"/"+key)), id)
}

func TestEntryOfAnotherIsNoResume(t *testing.T) {
	f := newFerry(t, 2500)
	id := f.transfer().ID
	for name, entry := range map[string]string{
		"other key":      `{"v":1,"transfer":"` + id + `","bucket":"dest","key":"dir//年报 +%.bin2","uploadId":"u","partSize":1000,"algorithm":"CRC64NVME"}`,
		"other bucket":   `{"v":1,"transfer":"` + id + `","bucket":"dest2","key":"` + testKey + `","uploadId":"u","partSize":1000,"algorithm":"CRC64NVME"}`,
		"other transfer": `{"v":1,"transfer":"x","bucket":"dest","key":"` + testKey + `","uploadId":"u","partSize":1000,"algorithm":"CRC64NVME"}`,
		"no CRC":         `{"v":1,"transfer":"` + id + `","bucket":"dest","key":"` + testKey + `","uploadId":"u","partSize":1000,"algorithm":"SHA256"}`,
		"unknown member": `{"v":1,"transfer":"` + id + `","bucket":"dest","key":"` + testKey + `","uploadId":"u","partSize":1000,"algorithm":"CRC64NVME","x":1}`,
		"garbage":        `hello`,
	} {
		f.dst.put(journalBucket+"/"+entryName(testKey, id), []byte(entry), nil)
		if _, err := f.engine.Put(t.Context(), f.transfer(), true); fault.Class(err) != "journal-corrupt" || !fault.IsPermanent(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := f.src.asks(); len(got) != 0 {
		t.Errorf("asked %v", got)
	}
}

func TestLostUpload(t *testing.T) {
	lose := func(f *ferry) {
		f.dst.mu.Lock()
		defer f.dst.mu.Unlock()
		clear(f.dst.uploads)
	}
	for _, at := range []string{"List", "Part", "Complete"} {
		t.Run("at "+at, func(t *testing.T) {
			f := newFerry(t, 2500)
			var once sync.Once
			f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
				if op == at {
					once.Do(func() { lose(f) })
				}
				return false
			})
			f.put(f.transfer(), false, wire.Copied)
			f.arrived()
		})
	}
	t.Run("because another completed it", func(t *testing.T) {
		f := newFerry(t, 2500)
		f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
			if op == "Complete" {
				lose(f)
				f.dst.put(bucket+"/"+testKey, f.src.body, map[string]string{transfer.MetaSequencer: "10"})
			}
			return false
		})
		f.put(f.transfer(), false, wire.Skipped)
		f.arrived()
	})
	t.Run("again and again", func(t *testing.T) {
		f := newFerry(t, 2500)
		f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
			if op == "Complete" {
				lose(f)
			}
			return false
		})
		f.fail(f.transfer(), "destination-busy", false)
		if got := f.src.bytesSent(); got != 5000 {
			t.Errorf("%d bytes pulled, want twice 2500", got)
		}
	})
}

func TestBudgetsAreSharedByAllTransfers(t *testing.T) {
	f := newFerry(t, 20_000, func(o *transfer.Options) { o.Connections, o.Memory = 3, 5*partSize })
	var inFlight, most atomic.Int64
	f.dst.hook(func(op string, _ http.ResponseWriter, _ *http.Request) bool {
		if op == "Part" {
			n := inFlight.Add(1)
			defer inFlight.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
		}
		return false
	})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			transfer := f.transfer(func(t *wire.Transfer) { t.Source.Key = fmt.Sprintf("key-%d", i) })
			r, err := f.engine.Put(t.Context(), transfer, false)
			if err != nil || r.Outcome != wire.Copied {
				t.Errorf("got %q, %v", r.Outcome, err)
			}
			f.told(r)
		})
	}
	wg.Wait()
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	if f.src.most > 3 {
		t.Errorf("%d GETs at once, want at most 3", f.src.most)
	}
	if got := most.Load(); got > 5 {
		t.Errorf("%d parts at once, want at most 5, the memory budget", got)
	}
	f.clean()
}
