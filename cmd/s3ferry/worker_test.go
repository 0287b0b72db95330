package main

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

// Whatever the constructs tell a receiver, a flag can tell a worker.
func TestAWorkerHasAFlagForEverySetting(t *testing.T) {
	var got []string
	for _, s := range workerSettings {
		got = append(got, s.variable)
	}
	slices.Sort(got)
	want := slices.Sorted(maps.Keys(envcfg.Encode(&envcfg.Receiver{
		Deletes: true, TagChanges: true, Unconditional: true, StripPrefix: "a", AddPrefix: "a", StorageClasses: map[string]string{"*": "STANDARD"}, SourceNetworks: []netip.Prefix{{}},
	})))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags of worker (+), settings of a receiver (-):\n%s", diff)
	}
}
