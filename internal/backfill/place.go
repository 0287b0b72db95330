package backfill

import (
	"fmt"
	"strings"
	"time"

	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Where an event has no sequencer of S3's, it gets a place: what it comes after,
// this gap, and when the object was modified, in seconds, as 8 hex digits.
const (
	gap       = "00000000"
	placeSize = len(gap) + 8
)

// Place returns a sequencer for an object that was modified at the given time
// and whose own event is lost. It is just after the sequencer after, which ""
// makes the first of all: later than after and every place that was given
// behind it to an object modified before, and earlier than any event that S3
// told of later than after.
//
// S3's sequencers of one key differ long before the gap ends, and none begins
// with as many zeros.
func Place(after string, modified time.Time) string {
	stamp := gap + fmt.Sprintf("%08X", uint32(max(0, modified.Unix()))) //nolint:gosec // seconds until 2106
	if place := eventOf(after) + stamp; wire.CompareSequencers(place, after) > 0 {
		return place
	}
	// What is there was modified no earlier: it was restored from an upload begun
	// before, say, or written twice in one second.
	return after + stamp
}

// eventOf takes a place off a sequencer: what is left is S3's own, or nothing.
func eventOf(sequencer string) string {
	if i := len(sequencer) - placeSize; i >= 0 && strings.HasPrefix(sequencer[i:], gap) {
		return sequencer[:i]
	}
	return sequencer
}

// Source returns the event of an object in bucket that comes just after the
// sequencer after. The event is of now: nothing has waited for it before.
//
// It names no version: the current one counts, as long as its ETag is this.
func Source(region, bucket string, o listing.Object, after string) wire.Source {
	return wire.Source{
		Region: region, Bucket: bucket, Key: o.Key, ETag: o.ETag, Size: o.Size,
		Sequencer: Place(after, o.Modified), EventTime: time.Now().UTC(),
	}
}
