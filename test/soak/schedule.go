package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// schedule is everything that is done to a cloud. It follows from its seed and
// its rates alone; what comes of it does not.
type schedule struct {
	Operations   []operation
	Disturbances []disturbance
}

type action string

const (
	create    action = "create"
	overwrite action = "overwrite"
	remove    action = "remove"
	retag     action = "retag" // or overwrite, where there is no object
)

// Shares of the operations on known keys. The one after a deletion brings the key
// back.
const (
	removed  = 0.15
	retagged = 0.1
)

// operation is one write to the source, one deletion or one change of tags.
type operation struct {
	At     time.Duration // from the start
	Action action
	Key    string
	Size   int64
	Seed   int64 // of the body
	Parts  bool  // uploaded in parts
	Forget bool  // the version that it replaces is deleted soon after
}

// disturbance is one fault.
type disturbance struct {
	At   time.Duration
	Kind string
	Seed uint64
	N    int           // requests or messages, at most
	For  time.Duration // of an outage, a wait or a delay
	Cut  int64         // bytes
}

// rates say how much happens, and for how long.
type rates struct {
	Span      time.Duration
	PerMinute float64 // operations
	Faults    float64 // a minute
}

// class is a range of object sizes. Few keys have large objects, so that what is
// on disk stays bounded.
type class struct {
	name      string
	share     float64 // of the operations, until the shares add up to 1
	low, high int64   // bytes
	keys      int     // at most; 0: any number
}

const (
	kib = 1 << 10
	mib = 1 << 20

	// forgetFrom is the size of versions that are deleted once they are replaced.
	forgetFrom = 64 * kib
	// inParts is the size from which every other object is uploaded in parts.
	inParts = 10 * mib
)

var classes = []class{
	{"empty", 0.02, 0, 0, 40},
	{"small", 0.90, 1, 64 * kib, 0},
	{"medium", 0.06, 64 * kib, mib, 400},
	{"part", 0.016, mib, 9 * mib, 40},
	{"large", 0.008, 9 * mib, 30 * mib, 8},
	{"huge", 0.0005, 40 * mib, 200 * mib, 2},
}

// names are what keys are made of: what breaks tools that build URLs, JSON or
// paths by hand.
var names = []string{"plain", "报告-年度", "with space", "a+b", "50%25", `quote"d`, "it's", "🚢 ferry", "a&b=c", "hash#what?", "back\\slash", "{json}"}

// hot is how many keys of a class get a share of its overwrites that keeps
// several versions of each under way at once.
const hot = 10

// plan draws a schedule.
func plan(seed uint64, r rates) schedule {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated, not to be secret
	var s schedule
	known := make([][]string, len(classes))
	if r.Span >= time.Minute { // the largest, however few the operations
		s.Operations = append(s.Operations, operation{Action: create, Key: "huge/the largest", Size: 200 * mib, Seed: -1, Parts: true})
	}
	for i, at := range moments(random, r.Span, r.PerMinute) {
		s.Operations = append(s.Operations, operate(random, known, at, int64(i)))
	}
	random = rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // as above
	for _, at := range moments(random, r.Span, r.Faults) {
		s.Disturbances = append(s.Disturbances, disturb(random, at))
	}
	return s
}

// moments returns random moments of span, in order, so many a minute.
func moments(random *rand.Rand, span time.Duration, perMinute float64) []time.Duration {
	all := make([]time.Duration, int(span.Minutes()*perMinute))
	for i := range all {
		all[i] = time.Duration(random.Int64N(int64(span)))
	}
	slices.Sort(all)
	return all
}

func operate(random *rand.Rand, known [][]string, at time.Duration, i int64) operation {
	n := pick(random, classes, func(c class) float64 { return c.share })
	c, keys := classes[n], known[n]
	o := operation{
		At: at, Action: create, Size: c.low + random.Int64N(c.high-c.low+1), Seed: i,
		Parts: random.IntN(2) == 0, Forget: random.IntN(4) > 0,
	}
	o.Parts = o.Parts && o.Size >= inParts
	full := c.keys > 0 && len(keys) >= c.keys
	fresh := random.Float64() < 0.35
	if len(keys) == 0 || !full && fresh {
		o.Key = fmt.Sprintf("%s/%02d/%s %d.bin", c.name, i%50, names[random.IntN(len(names))], i)
		known[n] = append(keys, o.Key)
		return o
	}
	o.Action = overwrite
	o.Key = keys[random.IntN(len(keys))]
	if random.IntN(3) == 0 {
		o.Key = keys[random.IntN(min(hot, len(keys)))]
	}
	switch share := random.Float64(); {
	case share < removed:
		o.Action = remove
	case share < removed+retagged:
		o.Action = retag
	}
	return o
}

// disturb draws a fault of one of the kinds.
func disturb(random *rand.Rand, at time.Duration) disturbance {
	k := kinds[pick(random, kinds, func(k kind) float64 { return k.share })]
	d := disturbance{At: at, Kind: k.name, Seed: random.Uint64(), N: 1 + random.IntN(max(k.most, 1)), Cut: 1 + random.Int64N(2*mib)}
	if k.longest > 0 {
		d.For = k.longest/8 + time.Duration(random.Int64N(int64(k.longest*7/8)))
	}
	return d
}

// pick returns the index of one of all, by their shares.
func pick[T any](random *rand.Rand, all []T, share func(T) float64) int {
	var sum float64
	for _, v := range all {
		sum += share(v)
	}
	at := random.Float64() * sum
	for i, v := range all {
		if at -= share(v); at < 0 {
			return i
		}
	}
	return len(all) - 1
}

// byKey splits operations over n writers, those of one key to one, in order.
func byKey(operations []operation, n int) [][]operation {
	split := make([][]operation, n)
	for _, o := range operations {
		i := int(hash(o.Key) % uint64(n)) //nolint:gosec // n is small
		split[i] = append(split[i], o)
	}
	for _, own := range split {
		slices.SortStableFunc(own, func(a, b operation) int { return cmp.Compare(a.At, b.At) })
	}
	return split
}
