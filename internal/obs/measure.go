package obs

import (
	"runtime/metrics"

	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Measure adds what a receipt says of its transfer. The proof of a link is no
// transfer.
func Measure(set *metric.Set, r wire.Receipt) {
	if r.Op == wire.OpNoop {
		return
	}
	set.Count(metric.Outcome(string(r.Outcome)), 1)
	set.Observe(metric.Duration, float64(r.Millis))
	set.Observe(metric.Attempts, float64(r.Attempts))
	if r.Outcome == wire.Copied {
		set.Observe(metric.Bytes, float64(r.Bytes))
	}
	if r.Outcome == wire.Refused || r.Outcome == wire.Failed && !r.Retry {
		set.Count(metric.GivenUp, 1)
	}
}

// Memory returns how many bytes the process holds.
func Memory() float64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
