package backfill_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/s3ferry/s3ferry/internal/backfill"
	"github.com/s3ferry/s3ferry/internal/wire"
)

func at(seconds int64) time.Time { return time.Unix(seconds, 0) }

func TestPlace(t *testing.T) {
	const modified = 0x65000000
	for _, tc := range []struct{ after, want string }{
		{"", "0000000065000000"},
		{"0055AED6DCD90281E5", "0055AED6DCD90281E50000000065000000"},
		// A place gives way to a later one, so it does not grow.
		{"0000000064FFFFFF", "0000000065000000"},
		{"0055AED6DCD90281E50000000064FFFFFF", "0055AED6DCD90281E50000000065000000"},
		// Unless what is there was modified later, or in the same second.
		{"0000000065000000", "00000000650000000000000065000000"},
		{"0055AED6DCD90281E50000000065000001", "0055AED6DCD90281E500000000650000010000000065000000"},
	} {
		if got := backfill.Place(tc.after, at(modified)); got != tc.want {
			t.Errorf("after %q: got %s, want %s", tc.after, got, tc.want)
		}
	}
}

// sequencers draws two that S3 or the laptop cloud could give to one key, the
// first of the earlier event.
func sequencers(rt *rapid.T) (earlier, later string) {
	form := rapid.SampledFrom([]string{"00%08X%08X", "%08X%08X"}).Draw(rt, "form")
	draw := func(from uint64, name string) uint64 {
		return rapid.Uint64Range(from, 0xFFFFFFFF_FFFFFFFF).Draw(rt, name)
	}
	write := func(n uint64) string { return fmt.Sprintf(form, n>>32, n&0xFFFFFFFF) }
	a := draw(0x43000000_00000000, "earlier") // of 2005
	if a == 0xFFFFFFFF_FFFFFFFF {
		a--
	}
	return write(a), write(draw(a+1, "later"))
}

// The rule of a place: after what it comes after, in the order of modification
// among its like, and before every event that S3 tells of next.
func TestPlaceIsBetweenWhatIsThereAndWhatComesNext(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		earlier, later := sequencers(rt)
		after := rapid.SampledFrom([]string{"", earlier}).Draw(rt, "after")
		base := after
		for i := range rapid.IntRange(1, 6).Draw(rt, "repairs") {
			modified := at(rapid.Int64Range(1, 0xFFFFFFFF).Draw(rt, "modified"))
			place := backfill.Place(after, modified)
			if wire.CompareSequencers(place, after) <= 0 {
				rt.Fatalf("repair %d: %s is not after %s", i, place, after)
			}
			next := later
			if base == "" {
				next = earlier
			}
			if wire.CompareSequencers(place, next) >= 0 {
				rt.Fatalf("repair %d: %s is not before %s", i, place, next)
			}
			if again := backfill.Place(after, modified); again != place {
				rt.Fatalf("repair %d: %s, then %s", i, place, again)
			}
			if younger := backfill.Place(after, modified.Add(-time.Second)); base == after && wire.CompareSequencers(younger, place) >= 0 {
				rt.Fatalf("repair %d: %s is not before %s, of an object modified later", i, younger, place)
			}
			after = place
		}
	})
}

// Repairs night after night do not outgrow the metadata.
func TestPlacesDoNotGrow(t *testing.T) {
	place := ""
	for night := range int64(1000) {
		place = backfill.Place(place, at(1_700_000_000+night*86400))
	}
	if len(place) != 16 {
		t.Errorf("after 1000 repairs: %s", place)
	}
}
