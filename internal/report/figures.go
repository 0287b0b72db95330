package report

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/s3ferry/s3ferry/internal/wire"
)

const (
	maxPoints  = 120 // of a chart over time
	maxSlowest = 10
	maxFaults  = 12
)

// Figures is what the page shows of receipts. Times are Unix seconds, durations seconds.
type Figures struct {
	From      int64   `json:"from"`
	To        int64   `json:"to"`
	Interval  int64   `json:"interval"`
	Transfers int     `json:"transfers"` // receipts, of one transfer each
	Copied    int     `json:"copied"`
	Bytes     int64   `json:"bytes"`
	Trouble   int     `json:"trouble"` // refused and failed for good
	Peak      float64 `json:"peak"`    // of BytesPerSecond
	Lag       Lag     `json:"lag"`

	Times          []int64    `json:"times"` // of the charts over time: where each interval begins
	BytesPerSecond []float64  `json:"bytesPerSecond"`
	P50            []*float64 `json:"p50"` // nil where nothing was copied
	P90            []*float64 `json:"p90"`
	P99            []*float64 `json:"p99"`
	Outcomes       []Outcome  `json:"outcomes"`
	Sizes          []Size     `json:"sizes"`
	Slowest        []Slow     `json:"slowest"`
	Faults         []Fault    `json:"faults"`
	Proofs         []Proof    `json:"proofs"`
}

// Lag is a distribution of times from event to arrival, of what was copied.
type Lag struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Outcome is how often there was one, in all and in each interval.
type Outcome struct {
	Name  wire.Outcome `json:"name"`
	Count int          `json:"count"`
	Each  []int        `json:"each"`
}

// Size is one bar of the distribution: objects of less than Under bytes, down to
// the bar before.
type Size struct {
	Under   int64 `json:"under"` // 0: no bound
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// Slow is an object that took long.
type Slow struct {
	Key      string  `json:"key"`
	Bytes    int64   `json:"bytes"`
	Lag      float64 `json:"lag"`
	Took     float64 `json:"took"`
	Attempts int     `json:"attempts"`
	At       int64   `json:"at"`
}

// Fault is a class of transfers that were given up, with the latest.
type Fault struct {
	Class   string       `json:"class"`
	Outcome wire.Outcome `json:"outcome"`
	Count   int          `json:"count"`
	Key     string       `json:"key"`
	Reason  string       `json:"reason"`
	At      int64        `json:"at"`
}

// Proof is how often objects were proved so.
type Proof struct {
	Name  wire.Verified `json:"name"`
	Count int           `json:"count"`
}

// sizes are the bounds of the bars, in bytes.
var sizes = []int64{1, 1 << 10, 16 << 10, 256 << 10, 4 << 20, 64 << 20, 1 << 30, 16 << 30, 0}

// intervals are what a chart over time may be divided into.
var intervals = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
	15 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// Figures counts what was collected; there must be something.
func (c *Collection) Figures() Figures {
	all := slices.SortedFunc(slices.Values(c.receipts), compare)
	from, to := all[0].At, all[len(all)-1].At
	for _, r := range all {
		if began := r.At.Add(-r.Took); began.Before(from) && !began.Before(c.Since) {
			from = began
		}
	}
	axis := newAxis(from, to, 0)
	f := Figures{
		From: from.Unix(), To: to.Unix(), Interval: int64(axis.interval.Seconds()), Transfers: len(all),
		Times: axis.times(), BytesPerSecond: make([]float64, axis.n),
		Slowest: []Slow{}, Faults: []Fault{}, Proofs: []Proof{},
	}
	lags := make([][]float64, axis.n)
	var everyLag []float64
	for _, r := range all {
		if r.Outcome != wire.Copied {
			continue
		}
		f.Copied++
		f.Bytes += r.Bytes
		axis.spread(f.BytesPerSecond, r)
		lag := max(0, r.Lag.Seconds())
		everyLag = append(everyLag, lag)
		lags[axis.of(r.At)] = append(lags[axis.of(r.At)], lag)
	}
	f.Peak = slices.Max(f.BytesPerSecond)
	slices.Sort(everyLag)
	f.Lag = Lag{percentile(everyLag, 50), percentile(everyLag, 90), percentile(everyLag, 99), percentile(everyLag, 100)}
	for _, each := range lags {
		slices.Sort(each)
		f.P50 = append(f.P50, point(each, 50))
		f.P90 = append(f.P90, point(each, 90))
		f.P99 = append(f.P99, point(each, 99))
	}
	f.outcomes(all, axis)
	f.distribution(all)
	f.slowest(all)
	f.faults(all)
	return f
}

func (f *Figures) outcomes(all []Receipt, axis axis) {
	for _, name := range wire.Outcomes() {
		o := Outcome{Name: name, Each: make([]int, axis.n)}
		for _, r := range all {
			if r.Outcome == name {
				if r.givenUp() {
					f.Trouble++
				}
				o.Count++
				o.Each[axis.of(r.At)]++
			}
		}
		if o.Count > 0 {
			f.Outcomes = append(f.Outcomes, o)
		}
	}
	for _, name := range []wire.Verified{wire.ByFullObject, wire.ByETag, wire.ByLength} {
		n := 0
		for _, r := range all {
			if r.Verified == name {
				n++
			}
		}
		if n > 0 {
			f.Proofs = append(f.Proofs, Proof{name, n})
		}
	}
}

func (f *Figures) distribution(all []Receipt) {
	f.Sizes = make([]Size, len(sizes))
	for i, under := range sizes {
		f.Sizes[i].Under = under
	}
	for _, r := range all {
		if r.Outcome != wire.Copied {
			continue
		}
		i := slices.IndexFunc(sizes, func(under int64) bool { return under == 0 || r.Bytes < under })
		f.Sizes[i].Objects++
		f.Sizes[i].Bytes += r.Bytes
	}
}

func (f *Figures) slowest(all []Receipt) {
	copied := slices.DeleteFunc(slices.Clone(all), func(r Receipt) bool { return r.Outcome != wire.Copied })
	slices.SortStableFunc(copied, func(a, b Receipt) int { return cmp.Compare(b.Lag, a.Lag) })
	for _, r := range copied[:min(maxSlowest, len(copied))] {
		f.Slowest = append(f.Slowest, Slow{
			Key: r.Key, Bytes: r.Bytes, Lag: r.Lag.Seconds(), Took: r.Took.Seconds(), Attempts: r.Attempts, At: r.At.Unix(),
		})
	}
}

func (f *Figures) faults(all []Receipt) {
	type kind struct {
		class   string
		outcome wire.Outcome
	}
	index := map[kind]int{}
	for _, r := range all {
		if !r.givenUp() {
			continue
		}
		i, ok := index[kind{r.Class, r.Outcome}]
		if !ok {
			i = len(f.Faults)
			index[kind{r.Class, r.Outcome}] = i
			f.Faults = append(f.Faults, Fault{Class: r.Class, Outcome: r.Outcome})
		}
		fault := &f.Faults[i] // the receipts are in order, so the last one stays
		fault.Count++
		fault.Key, fault.Reason, fault.At = r.Key, r.Reason, r.At.Unix()
	}
	slices.SortStableFunc(f.Faults, func(a, b Fault) int { return cmp.Compare(b.Count, a.Count) })
	f.Faults = f.Faults[:min(maxFaults, len(f.Faults))]
}

// axis divides a period into intervals.
type axis struct {
	begin    time.Time
	interval time.Duration
	n        int
}

// newAxis divides into at most maxPoints intervals, if that can be, each of them
// at least so long.
func newAxis(from, to time.Time, least time.Duration) axis {
	last := intervals[len(intervals)-1]
	for _, interval := range intervals {
		if interval < least {
			continue
		}
		begin := from.Truncate(interval)
		if n := int(to.Sub(begin)/interval) + 1; n <= maxPoints || interval == last {
			return axis{begin, interval, n}
		}
	}
	panic("unreachable")
}

func (a axis) times() []int64 {
	times := make([]int64, a.n)
	for i := range times {
		times[i] = a.begin.Add(time.Duration(i) * a.interval).Unix()
	}
	return times
}

// of is the interval that t falls into.
func (a axis) of(t time.Time) int { return min(max(0, int(t.Sub(a.begin)/a.interval)), a.n-1) }

// spread adds the bytes of r to rates, evenly over the time that it took.
func (a axis) spread(rates []float64, r Receipt) {
	began := r.At.Add(-r.Took)
	if began.Before(a.begin) {
		began = a.begin
	}
	whole := r.At.Sub(began).Seconds()
	if whole <= 0 {
		rates[a.of(r.At)] += float64(r.Bytes) / a.interval.Seconds()
		return
	}
	for i := a.of(began); i <= a.of(r.At); i++ {
		start := a.begin.Add(time.Duration(i) * a.interval)
		end := start.Add(a.interval)
		if start.Before(began) {
			start = began
		}
		if end.After(r.At) {
			end = r.At
		}
		rates[i] += float64(r.Bytes) * end.Sub(start).Seconds() / whole / a.interval.Seconds()
	}
}

// percentile returns the value that p percent of sorted do not exceed, 0 of none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}

func point(sorted []float64, p float64) *float64 {
	if len(sorted) == 0 {
		return nil
	}
	return new(percentile(sorted, p))
}
