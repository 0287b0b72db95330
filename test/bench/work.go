package main

import (
	"fmt"
	"time"

	"github.com/s3ferry/s3ferry/test/bench/relay"
)

const (
	kiB = 1 << 10
	miB = 1 << 20
	giB = 1 << 30
)

// profiles are the links, by name.
var profiles = map[string]relay.Link{
	"fair": {RTT: 200 * time.Millisecond, ConnectionRate: 1e6, Rate: 100e6, ResetEvery: 50e6},
	"bad":  {RTT: 230 * time.Millisecond, ConnectionRate: 128e3, Rate: 100e6, ResetEvery: 10e6},
	// open is bad without a limit of the whole: what more connections could give.
	"open": {RTT: 230 * time.Millisecond, ConnectionRate: 128e3, ResetEvery: 10e6},
}

// works makes the work of a name on a profile: the sizes of its objects.
var works = map[string]func(profile string) []int64{
	"large": func(profile string) []int64 {
		if profile == "bad" {
			return []int64{256 * miB}
		}
		return []int64{giB}
	},
	"small": func(string) []int64 { return repeat(1000, 16*kiB) },
	"tiny":  func(string) []int64 { return repeat(10_000, 4*kiB) },
	"mix": func(string) []int64 {
		return append(append(repeat(2, 64*miB), repeat(20, 4*miB)...), repeat(400, 16*kiB)...)
	},
}

func repeat(n int, size int64) []int64 {
	sizes := make([]int64, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

// scaled takes a part of the work: fewer objects where there are many, smaller
// ones otherwise.
func scaled(sizes []int64, scale float64) []int64 {
	const many = 10
	if len(sizes) >= many {
		return sizes[:max(1, int(float64(len(sizes))*scale))]
	}
	for i := range sizes {
		sizes[i] = max(1, int64(float64(sizes[i])*scale))
	}
	return sizes
}

// job is what a column has to carry, and between what.
type job struct {
	Link        store // the source, behind the link
	Destination store
	Objects     []object
	Parallel    int // objects at once, or streams; as the column takes it
}

// store is a bucket, addressed by path.
type store struct {
	Endpoint, Region, Bucket, AccessKeyID, SecretAccessKey string
}

type object struct {
	Key      string
	Size     int64
	ETag     string
	CRC64    string // base64
	Uploaded time.Time
}

func key(work string, i int) string { return fmt.Sprintf("%s/%03d/%06d", work, i/1000, i) }
