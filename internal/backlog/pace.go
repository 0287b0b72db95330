// Package backlog keeps the inbox no fuller than the receiver can empty before
// the URLs in it die: what is signed too early has to be signed again.
//
// The courier learns from the receipts how fast the receiver is and writes that
// Pace down; every environment of the sender reads it and holds it against the
// depth of the inbox, at its Gate.
package backlog

import (
	"time"
)

// memory is how long a Pace looks back: long enough for a few large objects,
// short enough to see a border close.
const memory = 5 * time.Minute

// Pace is how fast the receiver ends transfers. The zero Pace knows nothing.
type Pace struct {
	// PerSecond is how many transfers it ends a second. While Over is zero that
	// is the most seen so far, and it might have ended more had there been more.
	PerSecond float64 `json:"perSecond"`
	// Over is the time, in seconds, that PerSecond is the mean of: only time in
	// which transfers waited, so the receiver could not have been faster.
	Over float64 `json:"over"`
	// Waiting says that transfers waited in the inbox at Until.
	Waiting bool `json:"waiting"`
	// Until is up to when the receipts were counted.
	Until time.Time `json:"until"`
}

// Next is the pace after done more transfers ended between p.Until and until,
// and whether others wait then.
func (p Pace) Next(done int, until time.Time, waiting bool) Pace {
	elapsed := until.Sub(p.Until).Seconds()
	next := Pace{PerSecond: p.PerSecond, Over: p.Over, Waiting: waiting, Until: until}
	switch {
	case p.Until.IsZero():
	case elapsed <= 0:
		return p
	case p.Waiting && waiting:
		next.PerSecond = (p.PerSecond*p.Over + float64(done)) / (p.Over + elapsed)
		next.Over = min(p.Over+elapsed, memory.Seconds())
	default: // there was not always something to do
		next.PerSecond = max(p.PerSecond, float64(done)/elapsed)
	}
	return next
}
