package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/backfill"
	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/listing/listingtest"
	"github.com/s3ferry/s3ferry/internal/outbox"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// sink takes events; after fails, if it is not 0, is how many it takes first.
type sink struct {
	fails int

	mu      sync.Mutex
	sources []wire.Source
}

var errFull = errors.New("full")

func (s *sink) Put(_ context.Context, messages []outbox.Message) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(messages))
	for i, m := range messages {
		if s.fails > 0 && len(s.sources) >= s.fails {
			errs[i] = errFull
			continue
		}
		told, err := event.Parse(m.Body)
		if err != nil || len(told.Events) != 1 {
			return nil, fmt.Errorf("an event that nobody can read: %w", err)
		}
		s.sources = append(s.sources, told.Events[0].Source)
	}
	return errs, errors.Join(errs...)
}

func (s *sink) keys() []string {
	var keys []string
	for _, source := range s.sources {
		keys = append(keys, source.Key)
	}
	slices.Sort(keys)
	return keys
}

func openState(t *testing.T, path string) *backfill.State {
	t.Helper()
	state, err := backfill.OpenState(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	return state
}

var object = listing.Object{ETag: "etag", Size: 3, Modified: time.Unix(0x65000000, 0)}

func manyKeys() (keys []string) {
	for dir := range 20 {
		for n := range 25 {
			keys = append(keys, fmt.Sprintf("%02d/%d 报告", dir, n))
		}
	}
	slices.Sort(keys)
	return keys
}

func from(keys []string, page int) *backfill.Listing {
	fake := listingtest.Of(object, keys...)
	fake.Page = page
	return &backfill.Listing{Bucket: listing.Bucket{S3: fake, Name: "b"}}
}

func TestEveryObjectBecomesAnEvent(t *testing.T) {
	to := &sink{}
	keys := manyKeys()
	totals, err := backfill.Run(t.Context(), from(keys, 0), backfill.Options{Region: "us-east-1", Bucket: "b", Outbox: to, State: openState(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	if want := (backfill.Totals{Queued: 500, Bytes: 1500}); totals != want {
		t.Errorf("got %+v, want %+v", totals, want)
	}
	if diff := cmp.Diff(keys, to.keys()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := to.sources[0]
	want := wire.Source{
		Region: "us-east-1", Bucket: "b", Key: got.Key, ETag: "etag", Size: 3, Sequencer: "0000000065000000", EventTime: got.EventTime,
	}
	if diff := cmp.Diff(want, got); diff != "" || time.Since(got.EventTime) > time.Minute {
		t.Errorf("of %v (-want +got):\n%s", got.EventTime, diff)
	}
}

func TestADryRunOnlyCounts(t *testing.T) {
	totals, err := backfill.Run(t.Context(), from(manyKeys(), 0), backfill.Options{Region: "r", Bucket: "b", State: openState(t, "")})
	if err != nil || totals.Queued != 500 {
		t.Errorf("got %+v and %v", totals, err)
	}
}

func TestSuffix(t *testing.T) {
	to := &sink{}
	totals, err := backfill.Run(t.Context(), from([]string{"a.csv", "b.txt"}, 0),
		backfill.Options{Region: "r", Bucket: "b", Suffix: ".csv", Outbox: to, State: openState(t, "")})
	if err != nil || totals.Queued != 1 || !slices.Equal(to.keys(), []string{"a.csv"}) {
		t.Errorf("got %+v, %q and %v", totals, to.keys(), err)
	}
}

// They are told again by a run that goes on, or has nothing left to do.
func TestUnfitObjectsAreTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil { // as a job not begun
		t.Fatal(err)
	}
	for run := range 2 {
		totals, err := backfill.Run(t.Context(), from([]string{"a", strings.Repeat("x", 1025)}, 0),
			backfill.Options{Region: "r", Bucket: "b", Outbox: &sink{}, State: openState(t, path)})
		if err != nil || totals.Queued != 1 || totals.Unfit != 1 || !strings.Contains(totals.Example, "expected at most 1024 bytes") {
			t.Errorf("run %d: got %+v and %v", run, totals, err)
		}
	}
}

// A run that fails leaves a state from which the next one goes on: every object
// is queued, and few of them twice.
func TestARunGoesOnFromItsState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	keys := manyKeys()
	seen := map[string]int{}
	for run := 1; ; run++ {
		to := &sink{fails: 120}
		_, err := backfill.Run(t.Context(), from(keys, 10), backfill.Options{Region: "r", Bucket: "b", Outbox: to, State: openState(t, path)})
		for _, key := range to.keys() {
			seen[key]++
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errFull) || run > 10 {
			t.Fatalf("run %d: %v", run, err)
		}
	}
	total := 0
	for _, key := range keys {
		if seen[key] == 0 {
			t.Errorf("%q was never queued", key)
		}
		total += seen[key]
	}
	if total > 2*len(keys) {
		t.Errorf("%d events for %d objects", total, len(keys))
	}
	to := &sink{}
	totals, err := backfill.Run(t.Context(), from(keys, 10), backfill.Options{Region: "r", Bucket: "b", Outbox: to, State: openState(t, path)})
	if err != nil || len(to.sources) > 0 || totals.Queued != 500 {
		t.Errorf("once more: %d events, %+v and %v", len(to.sources), totals, err)
	}
}

func TestAStateOfAnotherJobIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, content := range []string{`{"v":1,"job":"other","shards":[]}`, `{"v":2,"job":"job","shards":[]}`, `{"v":1,"job":"job","more":1}`, "x"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := backfill.OpenState(path, "job"); err == nil {
			t.Errorf("%q was taken", content)
		}
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * 365 * 24 * time.Hour) // the bubble's clock begins before S3
		start := time.Now()
		totals, err := backfill.Run(t.Context(), from(manyKeys(), 0), backfill.Options{
			Region: "r", Bucket: "b", Outbox: &sink{}, State: openState(t, ""), Rate: 50,
		})
		if took := time.Since(start); err != nil || totals.Queued != 500 || took < 8*time.Second || took > 11*time.Second {
			t.Errorf("%d objects at 50 a second took %v (%v)", totals.Queued, took, err)
		}
	})
}

func TestProgressOnlyGrows(t *testing.T) {
	var last int64
	_, err := backfill.Run(t.Context(), from(manyKeys(), 7), backfill.Options{
		Region: "r", Bucket: "b", Outbox: &sink{}, State: openState(t, ""),
		Progress: func(totals backfill.Totals) {
			if totals.Queued < last {
				t.Errorf("%d after %d", totals.Queued, last)
			}
			last = totals.Queued
		},
	})
	if err != nil || last != 500 {
		t.Errorf("got %d and %v", last, err)
	}
}
