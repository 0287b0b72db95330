package obs_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/metric/metrictest"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// What comes again is not given up, and the proof of a link is no transfer.
func TestMeasure(t *testing.T) {
	for name, tc := range map[string]struct {
		receipt wire.Receipt
		want    map[string][]float64
	}{
		"copied":            {wire.Receipt{Outcome: wire.Copied, Bytes: 9}, map[string][]float64{"Copied in Count": {1}, "Bytes in Bytes": {9}}},
		"expired":           {wire.Receipt{Outcome: wire.Expired}, map[string][]float64{"Expired in Count": {1}}},
		"refused":           {wire.Receipt{Outcome: wire.Refused}, map[string][]float64{"Refused in Count": {1}, "GivenUp in Count": {1}}},
		"failed":            {wire.Receipt{Outcome: wire.Failed}, map[string][]float64{"Failed in Count": {1}, "GivenUp in Count": {1}}},
		"failed, for a try": {wire.Receipt{Outcome: wire.Failed, Retry: true}, map[string][]float64{"Failed in Count": {1}}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.receipt.Op, tc.receipt.Attempts, tc.receipt.Millis = wire.OpPut, 2, 40
			tc.want["Attempts in Count"], tc.want["Duration in Milliseconds"] = []float64{2}, []float64{40}
			var out bytes.Buffer
			var set metric.Set
			obs.Measure(&set, tc.receipt)
			obs.Measure(&set, wire.Receipt{Op: wire.OpNoop, Outcome: wire.Linked})
			set.Log(t.Context(), slog.New(obs.Scrub(slog.NewJSONHandler(&out, nil))), "f")
			got, _ := metrictest.Read(t, out.String(), "f")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
		})
	}
}
