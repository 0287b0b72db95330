package status

import (
	"context"
	"fmt"
	"time"

	"github.com/s3ferry/s3ferry/internal/report"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// lately is how far back receipts are looked at, and maxReceipts how many of
// them at most, so that a busy courier's log takes no longer than a look.
const (
	lately      = 10 * time.Minute
	maxReceipts = 5_000
)

// Receipts is what became of the transfers of the last ten minutes.
type Receipts struct {
	Transfers int         `json:"transfers"`
	More      bool        `json:"more,omitempty"` // than could be looked at
	Copied    int         `json:"copied"`
	Trouble   int         `json:"trouble"` // refused and failed
	Bytes     int64       `json:"bytes"`
	Lag       *report.Lag `json:"lagSeconds,omitempty"` // of what was copied
	Latest    *Latest     `json:"latest,omitempty"`
}

// Latest is the receipt that was written last.
type Latest struct {
	At      time.Time    `json:"at"`
	Key     string       `json:"key"`
	Outcome wire.Outcome `json:"outcome"`
	Lag     float64      `json:"lagSeconds"`
}

// ReadReceipts hands the receipts since then to keep. It returns false if
// nobody keeps any here.
type ReadReceipts func(ctx context.Context, since time.Time, keep func(report.Receipt)) (bool, error)

// readReceipts sums up what read has to tell.
func readReceipts(ctx context.Context, read ReadReceipts) (*Receipts, error) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	all := &report.Collection{Since: time.Now().Add(-lately)}
	var latest report.Receipt
	kept, err := read(ctx, all.Since, func(r report.Receipt) {
		if all.Len() >= maxReceipts {
			enough()
			return
		}
		before := all.Len()
		if all.Add(r); all.Len() > before && r.At.After(latest.At) {
			latest = r
		}
	})
	more := all.Len() >= maxReceipts
	switch {
	case err != nil && !more:
		return nil, fmt.Errorf("read the receipts of the last %s: %w", lately, err)
	case !kept:
		return nil, nil
	case all.Len() == 0:
		return &Receipts{}, nil
	}
	f := all.Figures()
	out := &Receipts{
		Transfers: f.Transfers, More: more, Copied: f.Copied, Trouble: f.Trouble, Bytes: f.Bytes,
		Latest: &Latest{latest.At.UTC(), latest.Key, latest.Outcome, latest.Lag.Seconds()},
	}
	if f.Copied > 0 {
		out.Lag = &f.Lag
	}
	return out, nil
}
