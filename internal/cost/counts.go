package cost

import (
	_ "embed"
	"encoding/json"
	"strings"
)

// counts.json was measured on the laptop cloud, whose gates count every request
// that the functions make:
//
//	go test ./internal/cost -run Measured -update
//
//go:embed counts.json
var measured []byte

// Run is what carrying some objects took.
type Run struct {
	Objects     int                `json:"objects"`
	Size        int64              `json:"size"` // bytes of each
	Invocations map[string]float64 `json:"invocations"`
	Operations  map[string]float64 `json:"operations"` // by "gate operation"
	LogBytes    map[string]float64 `json:"logBytes"`   // by function
}

// Counts are the runs that estimates are made from.
type Counts struct {
	Burst  Run `json:"burst"`  // many objects at once, so that messages fill their batches
	Single Run `json:"single"` // one object after another: a batch, a request and an invocation for each
	Large  Run `json:"large"`  // one object of 8 parts
	Larger Run `json:"larger"` // one object of 32 parts
	Idle   Run `json:"idle"`   // "objects" are rounds of the courier that find nothing

	Metrics map[string]int `json:"metrics"` // by side, that got values from Burst; without objects none does
}

// counts returns what was measured.
func counts() Counts {
	var c Counts
	if err := json.Unmarshal(measured, &c); err != nil {
		panic(err) // it is part of the program
	}
	return c
}

// per returns the sum of the operations whose names begin with prefix, for one
// object.
func (r Run) per(prefix string) float64 {
	var n float64
	for operation, count := range r.Operations {
		if strings.HasPrefix(operation, prefix) {
			n += count
		}
	}
	return n / float64(r.Objects)
}

// s3 returns the requests for one object at a gate, by what S3 takes for them.
// It takes nothing for deletions.
func (r Run) s3(gate string) (puts, gets float64) {
	for operation, count := range r.Operations {
		name, ok := strings.CutPrefix(operation, gate+" ")
		switch {
		case !ok, strings.HasPrefix(name, "Delete"), strings.HasPrefix(name, "Abort"):
		case strings.HasPrefix(name, "Get"), strings.HasPrefix(name, "Head"):
			gets += count
		default:
			puts += count
		}
	}
	return puts / float64(r.Objects), gets / float64(r.Objects)
}

// The parts of the large objects that were measured.
const (
	partsOfLarge  = 8
	partsOfLarger = 32
)

// maxParts is how many parts an object has at most: they grow from there on.
const maxParts = 10_000

// large returns the S3 requests for an object of so many parts: of the
// destination by what S3 takes for them, and over the signed URL. What two
// objects differ in is what their parts take.
func (c Counts) large(parts float64) (puts, looks, gets float64) {
	parts = min(parts, maxParts)
	at := func(large, larger float64) float64 {
		return large + (larger-large)/(partsOfLarger-partsOfLarge)*(parts-partsOfLarge)
	}
	puts8, looks8 := c.Large.s3("destination")
	puts32, looks32 := c.Larger.s3("destination")
	_, gets8 := c.Large.s3("border")
	_, gets32 := c.Larger.s3("border")
	return at(puts8, puts32), at(looks8, looks32), at(gets8, gets32)
}
