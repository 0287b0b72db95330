// Package metric is what s3ferry measures of itself. The functions log it in
// CloudWatch's embedded metric format, from which CloudWatch Logs makes metrics
// in every partition; the constructs draw it and raise alarms on it:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
package metric

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Namespace holds every metric.
const Namespace = "s3ferry"

// Ferry is the one dimension: the name of the sender or the receiver. Whatever
// has many values (keys, buckets, reasons) is in the logs instead, since each
// value would be a metric to pay for.
const Ferry = "Ferry"

// Metric names what is measured and in which unit of CloudWatch's.
type Metric struct{ Name, Unit string }

// Units, as CloudWatch spells them.
const (
	count        = "Count"
	bytes        = "Bytes"
	milliseconds = "Milliseconds"
)

// What the sender measures.
var (
	Sent      = Metric{"Sent", count} // transfers put into the inbox
	SentBytes = Metric{"SentBytes", bytes}
	Held      = Metric{"Held", count}     // events held back by backpressure
	Unsent    = Metric{"Unsent", count}   // events that failed, for now or for good
	Unneeded  = Metric{"Unneeded", count} // events with nothing to carry any more
)

// What the courier learns from receipts, and the receiver measures itself. Lag and
// the inbox are the courier's alone.
var (
	Bytes      = Metric{"Bytes", bytes}           // of each object copied
	Duration   = Metric{"Duration", milliseconds} // of the invocation that ended a transfer
	Attempts   = Metric{"Attempts", count}        // receives of the message that ended it
	Lag        = Metric{"Lag", milliseconds}      // from the event to the copy
	Rounds     = Metric{"Rounds", count}          // times that a transfer was sent again
	Requeued   = Metric{"Requeued", count}        // transfers put back into the outbox
	GivenUp    = Metric{"GivenUp", count}         // failed for good, refused, or sent often enough
	Unreadable = Metric{"Unreadable", count}      // receipts
	Inbox      = Metric{"Inbox", count}           // messages in the inbox
)

// Memory is what the sender or the receiver holds at the end of an invocation, and
// the courier after each batch.
var Memory = Metric{"Memory", bytes}

// Outcomes are what may become of a transfer, each of which is a metric.
func Outcomes() []string {
	return []string{"copied", "skipped", "superseded", "gone", "deleted", "tagged", "expired", "refused", "failed"}
}

// Outcome counts the transfers with that outcome.
func Outcome(outcome string) Metric {
	return Metric{strings.ToUpper(outcome[:1]) + outcome[1:], count}
}

// maxValues is the most values of a metric in one line.
const maxValues = 100

// Set collects what one invocation measures. It is safe for concurrent use, and
// the zero Set is ready.
type Set struct {
	mu     sync.Mutex
	counts map[Metric]float64
	values map[Metric][]float64
}

// Count adds n to a metric of which only the sum is of interest. Nothing is
// logged for zero: a metric costs only in the hours in which it has values.
func (s *Set) Count(m Metric, n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[Metric]float64{}
	}
	s.counts[m] += float64(n)
}

// Observe adds one value of a distribution, negative ones as zero.
func (s *Set) Observe(m Metric, value float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[Metric][]float64{}
	}
	s.values[m] = append(s.values[m], max(0, value))
}

// Log writes everything to log, whose lines must be JSON objects with the
// attributes at their root, in as many lines as it takes. The Set is empty then.
func (s *Set) Log(ctx context.Context, log *slog.Logger, ferry string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.counts)+len(s.values) > 0 {
		line := map[Metric]any{}
		for m, n := range s.counts {
			line[m] = n
		}
		s.counts = nil
		for m, all := range s.values {
			n := min(len(all), maxValues)
			line[m] = all[:n]
			if s.values[m] = all[n:]; n == len(all) {
				delete(s.values, m)
			}
		}
		log.LogAttrs(ctx, slog.LevelInfo, "metrics", attributes(line, ferry, time.Now())...)
	}
}

// attributes are the root members of a line.
func attributes(line map[Metric]any, ferry string, at time.Time) []slog.Attr {
	type definition struct{ Name, Unit string }
	type directive struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []definition
	}
	metrics := slices.SortedFunc(maps.Keys(line), func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
	told := directive{Namespace: Namespace, Dimensions: [][]string{{Ferry}}}
	attrs := []slog.Attr{slog.String(Ferry, ferry)}
	for _, m := range metrics {
		told.Metrics = append(told.Metrics, definition(m))
		attrs = append(attrs, slog.Any(m.Name, line[m]))
	}
	return append(attrs, slog.Any("_aws", map[string]any{
		"Timestamp": at.UnixMilli(), "CloudWatchMetrics": []directive{told},
	}))
}
