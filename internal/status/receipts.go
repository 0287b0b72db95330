package status

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/s3ferry/s3ferry/internal/report"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// lately is how far back receipts are looked at, and maxReceipts about how many
// of them at most, so that a busy courier's log takes no longer than a look.
const (
	lately      = 10 * time.Minute
	maxReceipts = 5_000
)

// shorter are the ends of the log that are read where there are more.
var shorter = []time.Duration{time.Minute, 10 * time.Second}

// Receipts is what became of the transfers of the last ten minutes, or of as
// many of the latest as a look takes.
type Receipts struct {
	Transfers int         `json:"transfers"`
	Of        float64     `json:"ofSeconds"`      // of the courier's log that these are from, up to now
	More      bool        `json:"more,omitempty"` // than could be looked at even so: these are the oldest
	Copied    int         `json:"copied"`
	Trouble   int         `json:"trouble"` // refused and failed, always of ten minutes
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

// ReadReceipts hands the receipts logged since then to keep, from the oldest on,
// and may leave out others than only, if there are any. It returns false if
// nobody keeps receipts here.
type ReadReceipts func(ctx context.Context, since time.Time, keep func(report.Receipt), only ...wire.Outcome) (bool, error)

// readReceipts sums up what read has to tell.
func readReceipts(ctx context.Context, read ReadReceipts) (*Receipts, error) {
	all, err := readEnd(ctx, read, lately)
	if err != nil || !all.kept {
		return nil, err
	}
	trouble := all
	if all.more {
		var troubleErr error
		var wg sync.WaitGroup
		wg.Go(func() { trouble, troubleErr = readEnd(ctx, read, lately, wire.Refused, wire.Failed) })
		all, err = readShorter(ctx, read, all)
		wg.Wait()
		if err := cmp.Or(err, troubleErr); err != nil {
			return nil, err
		}
	}
	out := &Receipts{Of: all.of.Seconds(), More: all.more}
	if trouble.Len() > 0 {
		out.Trouble = trouble.Figures().Trouble
	}
	if all.Len() == 0 {
		return out, nil
	}
	f := all.Figures()
	out.Transfers, out.Copied, out.Bytes = f.Transfers, f.Copied, f.Bytes
	if f.Copied > 0 {
		out.Lag = &f.Lag
	}
	if !all.more {
		out.Latest = &Latest{all.latest.At.UTC(), all.latest.Key, all.latest.Outcome, all.latest.Lag.Seconds()}
	}
	return out, nil
}

// readShorter reads the longest end of the log that a look can take, for one
// that it could not. Where the courier has logged nothing in so short a time,
// between two of its rounds, the longer one stands.
func readShorter(ctx context.Context, read ReadReceipts, all *end) (*end, error) {
	for _, of := range shorter {
		next, err := readEnd(ctx, read, of)
		if err != nil || next.Len() == 0 {
			return all, err
		}
		if all = next; !all.more {
			break
		}
	}
	return all, nil
}

// end is the end of the courier's log.
type end struct {
	report.Collection

	of     time.Duration
	kept   bool // false: nobody keeps receipts
	more   bool // than are here, which are the oldest
	latest report.Receipt
}

func readEnd(ctx context.Context, read ReadReceipts, of time.Duration, only ...wire.Outcome) (*end, error) {
	reading, enough := context.WithCancel(ctx)
	defer enough()
	now := time.Now()
	e := &end{of: of}
	e.Since = now.Add(-lately) // what was logged of late may have ended before
	var err error
	e.kept, err = read(reading, now.Add(-of), func(r report.Receipt) {
		before := e.Len()
		if e.Add(r); e.Len() > before && r.At.After(e.latest.At) {
			e.latest = r
		}
		if e.Len() >= maxReceipts {
			enough()
		}
	}, only...)
	// Who was told that it is enough stops at its next page, if there is one.
	if e.more = err != nil && e.Len() >= maxReceipts && ctx.Err() == nil; err != nil && !e.more {
		return nil, fmt.Errorf("read the receipts of the last %s: %w", of, err)
	}
	return e, nil
}
