// Package report draws one page of what became of the transfers of some hours or
// days, from the receipts that the courier has logged and from metrics.
package report

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/s3ferry/s3ferry/internal/wire"
)

// Receipt is what the courier logs of one.
type Receipt struct {
	At       time.Time     // when the transfer ended
	Lag      time.Duration // from the event to At
	Took     time.Duration // the invocation that ended it
	ID       string
	Outcome  wire.Outcome
	Bucket   string
	Key      string
	Version  string
	Bytes    int64
	Attempts int
	Verified wire.Verified
	Class    string
	Reason   string
	Retry    bool // of failed: it was sent again
}

// givenUp reports whether the transfer ended without its object, and nothing
// comes after it.
func (r Receipt) givenUp() bool {
	return r.Outcome == wire.Refused || r.Outcome == wire.Failed && !r.Retry
}

// line is a line of the courier's log. One that was written before "at" was
// logged tells only when the courier had the receipt.
type line struct {
	Message   string        `json:"message"`
	Timestamp time.Time     `json:"timestamp"`
	At        time.Time     `json:"at"`
	ID        string        `json:"id"`
	Outcome   wire.Outcome  `json:"outcome"`
	Bucket    string        `json:"bucket"`
	Key       string        `json:"key"`
	Version   string        `json:"version"`
	Bytes     int64         `json:"bytes"`
	Millis    int64         `json:"millis"`
	LagMillis int64         `json:"lagMillis"`
	Attempts  int           `json:"attempts"`
	Verified  wire.Verified `json:"verified"`
	Class     string        `json:"class"`
	Reason    string        `json:"reason"`
	Retry     bool          `json:"retry"`
}

// maxLine is the longest line of a log that is read: an event of CloudWatch Logs
// has at most 1 MiB.
//
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
const maxLine = 1 << 20

// Decode returns the receipt of a line of a log, whatever stands before its
// JSON, and false for every other line.
func Decode(text []byte) (Receipt, bool) {
	start := bytes.IndexByte(text, '{')
	if start < 0 || !bytes.Contains(text, []byte(`"receipt"`)) {
		return Receipt{}, false
	}
	var l line
	if json.Unmarshal(text[start:], &l) != nil || l.Message != "receipt" || l.Outcome == "" {
		return Receipt{}, false
	}
	r := Receipt{
		At: l.At, ID: l.ID, Outcome: l.Outcome, Bucket: l.Bucket, Key: l.Key, Version: l.Version,
		Lag: time.Duration(l.LagMillis) * time.Millisecond, Took: time.Duration(l.Millis) * time.Millisecond,
		Bytes: l.Bytes, Attempts: l.Attempts, Verified: l.Verified, Class: l.Class, Reason: l.Reason, Retry: l.Retry,
	}
	if r.At.IsZero() {
		r.At = l.Timestamp
	}
	return r, !r.At.IsZero()
}

// Read hands every receipt of a log to keep.
func Read(log io.Reader, keep func(Receipt)) error {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		if r, ok := Decode(lines.Bytes()); ok {
			keep(r)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("read log: line %d has more than %d bytes, expected JSON lines of the functions", n+1, maxLine)
	} else if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}

// Collection gathers the receipts of a period, each once: the courier may log
// one twice. The zero value takes all.
type Collection struct {
	Since    time.Time
	receipts []Receipt
	seen     map[identity]struct{}
}

type identity struct {
	id      string
	outcome wire.Outcome
	at      time.Time
}

// Add takes r, unless it is too old or has been taken. What proved a link is no
// transfer.
func (c *Collection) Add(r Receipt) {
	if r.At.Before(c.Since) || r.Outcome == wire.Linked {
		return
	}
	key := identity{r.ID, r.Outcome, r.At.UTC()}
	if _, ok := c.seen[key]; ok {
		return
	}
	if c.seen == nil {
		c.seen = map[identity]struct{}{}
	}
	c.seen[key] = struct{}{}
	c.receipts = append(c.receipts, r)
}

// Len is how many receipts there are.
func (c *Collection) Len() int { return len(c.receipts) }

// compare orders receipts by the time they were written.
func compare(a, b Receipt) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) }
