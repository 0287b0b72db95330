package transfer_test

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// strangers opens uploads beside the ferry's: one that no entry names, one that
// another transfer of the key is working on, and one of a longer key.
func (f *ferry) strangers() {
	f.Helper()
	f.dst.mu.Lock()
	for id, key := range map[string]string{"lost": testKey, "another's": testKey, "longer key's": testKey + "2"} {
		f.dst.uploads[id] = &pending{name: bucket + "/" + key, header: http.Header{"X-Amz-Checksum-Algorithm": {"CRC64NVME"}}, parts: map[int]object{}}
	}
	f.dst.mu.Unlock()
	_, err := journal.New(f.dst.client, journalBucket).Claim(f.Context(), journal.Upload{
		Transfer: "another", Bucket: bucket, Key: testKey, ID: "another's", PartSize: partSize, Algorithm: "CRC64NVME",
	}, nil)
	if err != nil {
		f.Fatal(err)
	}
}

// uploads returns the IDs of what is under way at the destination.
func (f *ferry) uploads() []string {
	f.dst.mu.Lock()
	defer f.dst.mu.Unlock()
	return slices.Sorted(maps.Keys(f.dst.uploads))
}

// Uploads that no entry names are aborted where an earlier delivery may have begun
// one, and only those.
func TestUploadsThatNobodyKnowsAreAborted(t *testing.T) {
	all, kept := []string{"another's", "longer key's", "lost"}, []string{"another's", "longer key's"}
	nextRound := func(t *wire.Transfer) { t.Round = 1 }
	for name, tc := range map[string]struct {
		change      func(*wire.Transfer)
		redelivered bool
		there       string // sequencer of the destination's object
		outcome     wire.Outcome
		want        []string
	}{
		"first delivery":           {outcome: wire.Copied, want: all},
		"delivered again":          {redelivered: true, outcome: wire.Copied, want: kept},
		"sent again":               {change: nextRound, outcome: wire.Copied, want: kept},
		"superseded in between":    {redelivered: true, there: "11", outcome: wire.Superseded, want: kept},
		"sent again, and too late": {change: nextRound, there: "11", outcome: wire.Superseded, want: kept},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 3500)
			if tc.there != "" {
				f.dst.put(bucket+"/"+testKey, nil, map[string]string{transfer.MetaSequencer: tc.there})
			}
			f.strangers()
			change := tc.change
			if change == nil {
				change = func(*wire.Transfer) {}
			}
			f.put(f.transfer(change), tc.redelivered, tc.outcome)
			if diff := cmp.Diff(tc.want, f.uploads()); diff != "" {
				t.Errorf("uploads (-want +got):\n%s", diff)
			}
		})
	}
}

// A lost answer is noticed by the delivery that made the call again.
func TestALostAnswerToCreateLeavesNoUpload(t *testing.T) {
	f := newFerry(t, 3500)
	lost := false
	f.dst.losing(func(op string) bool {
		first := op == "Create" && !lost
		lost = lost || first
		return first
	})
	f.put(f.transfer(), false, wire.Copied)
	f.arrived()
	if got := count(f.dst.requests(), "Create"); got != 2 {
		t.Errorf("%d uploads were begun, want 2", got)
	}
}

// Who may not list uploads leaves them to the bucket's lifecycle rule, and says so.
func TestUploadsThatMayNotBeListedAreLeft(t *testing.T) {
	f := newFerry(t, 3500)
	f.strangers()
	f.dst.hook(func(op string, w http.ResponseWriter, r *http.Request) bool {
		denied := op == "Uploads" && r.URL.Query().Has("prefix")
		if denied {
			refuse(w, http.StatusForbidden, "AccessDenied")
		}
		return denied
	})
	r, err := f.engine.Put(t.Context(), f.transfer(), true)
	if err != nil || r.Outcome != wire.Copied || r.Residue == nil {
		t.Errorf("got %q, %v, residue %v", r.Outcome, err, r.Residue)
	}
}
