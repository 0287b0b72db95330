package verify_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/listing/listingtest"
	"github.com/s3ferry/s3ferry/internal/outbox"
	"github.com/s3ferry/s3ferry/internal/verify"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// stored is an object of one side.
type stored struct {
	size                             int64
	etag, version                    string
	crc                              string
	composite                        bool
	sourceETag, sourceVersion, place string
	from                             string // source bucket
}

// side is a bucket of these objects, by key.
func side(objects map[string]stored) *listingtest.Bucket {
	var keys []string
	for key := range objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	modified := time.Unix(0x65000000, 0).UTC()
	return &listingtest.Bucket{
		Len: len(keys),
		Object: func(i int) listing.Object {
			o := objects[keys[i]]
			return listing.Object{Key: keys[i], Size: o.size, ETag: o.etag, Modified: modified}
		},
		Head: func(i int, _ listing.Object) *s3.HeadObjectOutput {
			o := objects[keys[i]]
			out := &s3.HeadObjectOutput{
				ContentLength: &o.size, ETag: aws.String(`"` + o.etag + `"`), LastModified: &modified, Metadata: map[string]string{},
				ChecksumType: types.ChecksumTypeFullObject,
			}
			if o.composite {
				out.ChecksumType = types.ChecksumTypeComposite
			}
			for name, value := range map[string]string{
				"s3ferry-source-etag": o.sourceETag, "s3ferry-source-version": o.sourceVersion, "s3ferry-sequencer": o.place,
				"s3ferry-source-bucket": o.from,
			} {
				if value != "" {
					out.Metadata[name] = value
				}
			}
			if o.crc != "" {
				out.ChecksumCRC64NVME = &o.crc
			}
			if o.version != "" {
				out.VersionId = &o.version
			}
			return out
		},
	}
}

// records are the order records by key.
type records map[string]*journal.Order

func (r records) Newest(_ context.Context, _, key string) (*journal.Newest, error) {
	if o := r["newest "+key]; o != nil {
		return &journal.Newest{Op: wire.OpDelete, Source: wire.Source{Sequencer: o.Sequencer}}, nil
	}
	return nil, nil
}

func (r records) Order(_ context.Context, _, key string) (*journal.Order, error) { return r[key], nil }

// sink takes repairs.
type sink struct {
	err     error
	sources []wire.Source
	ops     []wire.Op
}

func (s *sink) Put(_ context.Context, messages []outbox.Message) ([]error, error) {
	errs := make([]error, len(messages))
	for i, m := range messages {
		errs[i] = s.err
		if told, err := event.Parse(m.Body); err != nil {
			errs[i] = err
		} else if s.err == nil {
			for _, e := range told.Events {
				s.sources, s.ops = append(s.sources, e.Source), append(s.ops, e.Op)
			}
		}
	}
	return errs, errors.Join(errs...)
}

func options(source, destination *listingtest.Bucket) verify.Options {
	return verify.Options{
		Source: verify.Bucket{S3: source, Name: "s"}, Destination: verify.Bucket{S3: destination, Name: "d"},
		Region: "us-east-1", Journal: records{},
	}
}

func TestTagsAreComparedWhereThatIsAskedFor(t *testing.T) {
	of := func(tags map[string]map[string]string) *listingtest.Bucket {
		objects := map[string]stored{}
		for key := range tags {
			objects[key] = stored{size: 3, etag: "e", version: "v", sourceETag: "e", sourceVersion: "v", place: "0055"}
		}
		b := side(objects)
		b.Tags = func(key string) map[string]string { return tags[key] }
		return b
	}
	from := map[string]map[string]string{"none": nil, "same": {"a": "1", "b": "2"}, "other": {"a": "1"}, "more": {"a": "1", "b": "2"}, "lost": {"a": "1"}, "new": nil}
	to := map[string]map[string]string{"none": nil, "same": {"b": "2", "a": "1"}, "other": {"a": "2"}, "more": {"a": "1"}, "lost": nil, "new": {"a": "1"}}
	for _, asked := range []bool{false, true} {
		o := options(of(from), of(to))
		queue := &sink{}
		var found []string
		o.Tags, o.Outbox = asked, queue
		o.Found = func(d verify.Difference) error {
			found = append(found, fmt.Sprintf("%s %s %s", d.Kind, d.Reason, d.Key))
			return nil
		}
		summary, err := verify.Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(found)
		var want []string
		if asked {
			want = []string{"stale tags lost", "stale tags more", "stale tags new", "stale tags other"}
		}
		if diff := cmp.Diff(want, found); diff != "" || summary.Stale != int64(len(want)) || summary.Equal != 6-summary.Stale || summary.Queued != summary.Stale {
			t.Errorf("tags %v: got %+v, differences (-want +got):\n%s", asked, summary, diff)
		}
		for i, source := range queue.sources {
			if queue.ops[i] != wire.OpTag || source.VersionID != "v" || source.ETag != "e" || source.Sequencer != "" {
				t.Errorf("repaired by %s of %+v, want the tags of the version", queue.ops[i], source)
			}
		}
	}
}

func TestARepairComesAfterTheNewestEvent(t *testing.T) {
	o := options(side(map[string]stored{"k": {size: 3, etag: "e2"}}), side(map[string]stored{}))
	o.Journal = records{"k": {Sequencer: "0055"}, "newest k": {Sequencer: "0066"}}
	to := &sink{}
	o.Outbox = to
	if _, err := verify.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(to.sources) != 1 || to.sources[0].Sequencer != "0066"+"0000000065000000" {
		t.Errorf("got %+v, want a place after 0066", to.sources)
	}
}

func TestWhatIsExtraIsDeletedWhereThatIsAskedFor(t *testing.T) {
	there := map[string]stored{
		"ferried":        {size: 3, etag: "e2", sourceETag: "e2", place: "0055", from: "s"},
		"foreign":        {size: 3, etag: "e2"},
		"from who knows": {size: 3, etag: "e2", sourceETag: "e2", place: "0055"},
	}
	for _, asked := range []bool{false, true} {
		o := options(side(map[string]stored{}), side(there))
		to := &sink{}
		o.Outbox, o.DeleteExtra = to, asked
		summary, err := verify.Run(t.Context(), o)
		if err != nil || summary.Extra != 3 || (summary.Queued == 1) != asked {
			t.Errorf("asked %v: got %+v, %v", asked, summary, err)
		}
		if asked && (len(to.ops) != 1 || to.ops[0] != wire.OpDelete || to.sources[0].Key != "ferried" || to.sources[0].Sequencer[:12] != "005500000000") {
			t.Errorf("got %v of %+v", to.ops, to.sources)
		}
	}
}

// Two source buckets share a destination: neither is told that the other's objects
// are too many, and neither deletes them.
func TestWhatCameFromAnotherBucketIsNoDifference(t *testing.T) {
	there := map[string]stored{
		"another's": {size: 3, etag: "e2", sourceETag: "e2", place: "0055", from: "other"},
		"recorded":  {size: 3, etag: "w"},
		"ours":      {size: 3, etag: "e2", sourceETag: "e2", place: "0055", from: "s"},
	}
	for _, quick := range []bool{false, true} {
		o := options(side(map[string]stored{"ours": {size: 3, etag: "e2"}}), side(there))
		o.Journal = records{"recorded": {Sequencer: "0055", SourceBucket: "other", ETag: "e2", Written: `"w"`}}
		to := &sink{}
		o.Outbox, o.DeleteExtra, o.Quick = to, true, quick
		o.Found = func(d verify.Difference) error { t.Errorf("quick %v: got %+v", quick, d); return nil }
		summary, err := verify.Run(t.Context(), o)
		if want := (verify.Summary{Objects: 3, Bytes: 3, Equal: 1, Elsewhere: 2}); err != nil || summary != want || !summary.Same() || len(to.ops) > 0 {
			t.Errorf("quick %v: got %+v, %v and %d deletions, want %+v", quick, summary, err, len(to.ops), want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	const first = "0055AED6DCD90281E5"
	source := stored{size: 3, etag: "e2", version: "v2", crc: "c2"}
	same := stored{size: 3, etag: "other-2", crc: "c2", sourceETag: "e2", sourceVersion: "v2", place: first}
	with := func(s stored, change func(*stored)) *stored { change(&s); return &s }
	for name, tc := range map[string]struct {
		source, destination *stored
		record              *journal.Order
		kind                verify.Kind // "" is equal
		reason              string
		proved              bool
		after               string // what the repair comes after
	}{
		"the same":                      {source: &source, destination: &same, proved: true},
		"without checksums":             {source: with(source, func(s *stored) { s.crc = "" }), destination: &same},
		"with a composite checksum":     {source: with(source, func(s *stored) { s.crc, s.composite = "x-2", true }), destination: &same},
		"missing":                       {source: &source, kind: verify.Missing},
		"missing, with a tombstone":     {source: &source, record: &journal.Order{Sequencer: first}, kind: verify.Missing, after: first},
		"extra":                         {destination: &same, kind: verify.Extra},
		"of another size":               {source: &source, destination: with(same, func(s *stored) { s.size = 4 }), kind: verify.Stale, reason: "size", after: first},
		"of another ETag":               {source: &source, destination: with(same, func(s *stored) { s.sourceETag = "e1" }), kind: verify.Stale, reason: "version", after: first},
		"of another version":            {source: &source, destination: with(same, func(s *stored) { s.sourceVersion = "v1" }), kind: verify.Stale, reason: "version", after: first},
		"by backfill, without version":  {source: &source, destination: with(same, func(s *stored) { s.sourceVersion = "" }), proved: true},
		"unversioned since":             {source: with(source, func(s *stored) { s.version = "null" }), destination: with(same, func(s *stored) { s.sourceVersion = "" }), proved: true},
		"of other bytes":                {source: &source, destination: with(same, func(s *stored) { s.crc = "c1" }), kind: verify.Stale, reason: "checksum", after: first},
		"not by ferry, the same bytes":  {source: &source, destination: &stored{size: 3, etag: "x", crc: "c2"}, proved: true},
		"not by ferry, the same ETag":   {source: &source, destination: &stored{size: 3, etag: "e2"}},
		"not by ferry, who knows":       {source: &source, destination: &stored{size: 3, etag: "x"}, kind: verify.Stale, reason: "unrecorded"},
		"recorded in the journal":       {source: &source, destination: &stored{size: 3, etag: "w", crc: "c2"}, record: &journal.Order{Sequencer: first, ETag: "e2", VersionID: "v2", Written: `"w"`}, proved: true},
		"stale by the journal":          {source: &source, destination: &stored{size: 3, etag: "w"}, record: &journal.Order{Sequencer: first, ETag: "e1", Written: `"w"`}, kind: verify.Stale, reason: "version", after: first},
		"another than the journal says": {source: &source, destination: &stored{size: 3, etag: "x"}, record: &journal.Order{Sequencer: first, ETag: "e2", Written: `"w"`}, kind: verify.Stale, reason: "unrecorded", after: first},
	} {
		t.Run(name, func(t *testing.T) {
			sources, destinations := map[string]stored{}, map[string]stored{}
			if tc.source != nil {
				sources["k"] = *tc.source
			}
			if tc.destination != nil {
				destinations["k"] = *tc.destination
			}
			o := options(side(sources), side(destinations))
			if tc.record != nil {
				o.Journal = records{"k": tc.record}
			}
			var found []verify.Difference
			o.Found = func(d verify.Difference) error { found = append(found, d); return nil }
			to := &sink{}
			o.Outbox = to
			summary, err := verify.Run(t.Context(), o)
			if err != nil || summary.Objects != 1 {
				t.Fatalf("got %+v and %v", summary, err)
			}
			if tc.kind == "" {
				if len(found) > 0 || summary.Equal != 1 || (summary.Proved == 1) != tc.proved || len(to.sources) > 0 || !summary.Same() {
					t.Errorf("got %+v, %+v and %d repairs, want equal, proved %v", summary, found, len(to.sources), tc.proved)
				}
				return
			}
			if len(found) != 1 || found[0].Kind != tc.kind || found[0].Reason != tc.reason || summary.Same() {
				t.Fatalf("got %+v and %+v, want %s %s", summary, found, tc.kind, tc.reason)
			}
			if tc.kind == verify.Extra {
				if len(to.sources) > 0 {
					t.Errorf("an extra object was repaired: %+v", to.sources)
				}
				return
			}
			if len(to.sources) != 1 || summary.Queued != 1 {
				t.Fatalf("got repairs %+v, %d counted", to.sources, summary.Queued)
			}
			want := wire.Source{
				Region: "us-east-1", Bucket: "s", Key: "k", VersionID: "v2", ETag: "e2", Size: 3,
				Sequencer: tc.after + "0000000065000000", EventTime: to.sources[0].EventTime,
			}
			if tc.reason == "size" || tc.reason == "checksum" {
				want.VersionID = "" // by which the receiver would leave what is there
			}
			if diff := cmp.Diff(want, to.sources[0]); diff != "" {
				t.Errorf("repair (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBothListingsAreMerged(t *testing.T) {
	there := stored{size: 1, etag: "x", sourceETag: "e", place: "01"}
	sources, destinations := map[string]stored{}, map[string]stored{}
	want := map[string]verify.Kind{}
	for i := range 3000 {
		key := fmt.Sprintf("d%d/%d", i%7, i)
		switch {
		case i%5 == 0:
			sources[key], want[key] = stored{size: 1, etag: "e"}, verify.Missing
		case i%7 == 0:
			destinations["in/"+key], want[key] = there, verify.Extra
		case i%11 == 0:
			sources[key], destinations["in/"+key], want[key] = stored{size: 2, etag: "e"}, there, verify.Stale
		default:
			sources[key], destinations["in/"+key] = stored{size: 1, etag: "e"}, there
		}
	}
	destinations["elsewhere"] = there
	for _, quick := range []bool{false, true} {
		o := options(side(sources), side(destinations))
		o.AddPrefix, o.Quick = "in/", quick
		got := map[string]verify.Kind{}
		o.Found = func(d verify.Difference) error { got[d.Key] = d.Kind; return nil }
		summary, err := verify.Run(t.Context(), o)
		if err != nil || summary.Objects != 3000 {
			t.Errorf("quick %v: %+v and %v", quick, summary, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("quick %v (-want +got):\n%s", quick, diff)
		}
	}
}

func TestPrefixes(t *testing.T) {
	object := stored{size: 1, etag: "e", sourceETag: "e"}
	for name, tc := range map[string]struct {
		prefix, strip, add string
		equal              int64
		fails              bool
	}{
		"taken off":             {"", "out/", "", 2, false},
		"taken off, and more":   {"out/a", "out/", "", 1, false},
		"exchanged":             {"", "out/", "in/", 2, false},
		"outside of taken off":  {"other", "out/", "", 0, true},
		"nothing with a prefix": {"x", "", "", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(
				side(map[string]stored{"out/a": object, "out/b": object, "z": object}),
				side(map[string]stored{tc.add + "a": object, tc.add + "b": object}),
			)
			o.Prefix, o.StripPrefix, o.AddPrefix = tc.prefix, tc.strip, tc.add
			summary, err := verify.Run(t.Context(), o)
			if (err != nil) != tc.fails || summary.Equal != tc.equal || !summary.Same() {
				t.Errorf("got %+v and %v", summary, err)
			}
		})
	}
}

func TestSuffix(t *testing.T) {
	object := stored{size: 1, etag: "e", sourceETag: "e"}
	o := options(side(map[string]stored{"a.csv": object, "b.csv": object, "c.txt": object}), side(map[string]stored{"a.csv": object, "d.txt": object}))
	o.Suffix = ".csv"
	if summary, err := verify.Run(t.Context(), o); err != nil || summary.Objects != 2 || summary.Equal != 1 || summary.Missing != 1 {
		t.Errorf("got %+v and %v", summary, err)
	}
}

// What changes between the listing and the look is no difference.
func TestWhatIsGoneFromBothSidesIsEqual(t *testing.T) {
	source := side(map[string]stored{"k": {size: 1, etag: "e"}})
	source.Err = func(key string) error {
		if key == "k" {
			return listingtest.Status(404, &types.NotFound{})
		}
		return nil
	}
	summary, err := verify.Run(t.Context(), options(source, side(nil)))
	if err != nil || !summary.Same() || summary.Equal != 1 {
		t.Errorf("got %+v and %v", summary, err)
	}
}

// One object that S3 will not show does not hide the others.
func TestWhatS3WillNotShowIsUnknown(t *testing.T) {
	objects := map[string]stored{"a": {size: 1, etag: "e", sourceETag: "e"}, "b": {size: 1, etag: "e", sourceETag: "e"}}
	for _, status := range []int{400, 403} {
		source, to := side(objects), &sink{}
		source.Err = func(key string) error {
			if key == "a" {
				return listingtest.Status(status, errors.New("a key of the customer's"))
			}
			return nil
		}
		o := options(source, side(objects))
		o.Outbox = to
		var found []verify.Difference
		o.Found = func(d verify.Difference) error { found = append(found, d); return nil }
		summary, err := verify.Run(t.Context(), o)
		if want := (verify.Summary{Objects: 2, Bytes: 1, Equal: 1, Unknown: 1}); err != nil || summary != want || summary.Same() {
			t.Errorf("%d: got %+v and %v, want %+v", status, summary, err, want)
		}
		if len(found) != 1 || found[0].Key != "a" || !strings.Contains(found[0].Reason, "a key of the customer's") || len(to.sources) > 0 {
			t.Errorf("%d: got %+v and %d repairs", status, found, len(to.sources))
		}
	}
}

func TestWhatCannotBeComparedIsAnError(t *testing.T) {
	broken := errors.New("broken")
	object := map[string]stored{"a/1": {size: 1, etag: "e", sourceETag: "e"}, "b/1": {size: 1, etag: "e", sourceETag: "e"}}
	for name, breakIt := range map[string]func(o *verify.Options, source, destination *listingtest.Bucket){
		"listing the source": func(_ *verify.Options, s, _ *listingtest.Bucket) { s.Err = func(string) error { return broken } },
		"listing the destination": func(_ *verify.Options, _, d *listingtest.Bucket) {
			d.Err = func(after string) error {
				if after == "" {
					return broken
				}
				return nil
			}
		},
		"looking at an object": func(_ *verify.Options, _, d *listingtest.Bucket) {
			d.Err = func(key string) error {
				if key == "b/1" {
					return broken
				}
				return nil
			}
		},
		"telling": func(o *verify.Options, s, _ *listingtest.Bucket) {
			*s = *side(nil)
			o.Found = func(verify.Difference) error { return broken }
		},
		"repairing": func(o *verify.Options, _, d *listingtest.Bucket) {
			*d = *side(nil)
			o.Outbox = &sink{err: broken}
		},
	} {
		t.Run(name, func(t *testing.T) {
			source, destination := side(object), side(object)
			o := options(source, destination)
			breakIt(&o, source, destination)
			if _, err := verify.Run(t.Context(), o); !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A million objects fit into far less than 512 MiB.
func TestAMillionObjects(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const n = 1_000_000
	tail := strings.Repeat("k", 60)
	bucket := func(drop int) *listingtest.Bucket {
		sourceETag := map[string]string{"s3ferry-source-etag": "e", "s3ferry-sequencer": "01"}
		return &listingtest.Bucket{
			Len: n - drop,
			Object: func(i int) listing.Object {
				return listing.Object{Key: fmt.Sprintf("data/%03d/%09d-%s", i/2000, i, tail), Size: 1, ETag: "e"}
			},
			Find: func(key string) int { i, _ := strconv.Atoi(key[len("data/000/"):len("data/000/000000000")]); return i },
			Head: func(_ int, o listing.Object) *s3.HeadObjectOutput {
				return &s3.HeadObjectOutput{ContentLength: &o.Size, ETag: &o.ETag, Metadata: sourceETag}
			},
		}
	}
	var peak atomic.Uint64
	var watching sync.WaitGroup
	stop := make(chan struct{})
	runtime.GC()
	watching.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse+m.StackInuse))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	source, destination := bucket(0), bucket(5)
	start := time.Now()
	summary, err := verify.Run(t.Context(), options(source, destination))
	close(stop)
	watching.Wait()
	if err != nil || summary.Objects != n || summary.Equal != n-5 || summary.Missing != 5 {
		t.Errorf("%+v and %v", summary, err)
	}
	if got := peak.Load(); got > 128<<20 {
		t.Errorf("%d MiB, want at most 128", got>>20)
	}
	t.Logf("%v, %d MiB at most, %d lists and %d heads", time.Since(start).Round(time.Millisecond), peak.Load()>>20,
		source.Lists.Load()+destination.Lists.Load(), source.Heads.Load()+destination.Heads.Load())
}
