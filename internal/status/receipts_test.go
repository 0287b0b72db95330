package status

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/s3ferry/s3ferry/internal/report"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// busy is a log with so many receipts a second of the last ten minutes, up to
// some time ago, and refused ones. It is read in pages, as CloudWatch's: who has
// enough is asked for no further one.
func busy(rate int, until time.Duration, refused ...time.Duration) ReadReceipts {
	return func(ctx context.Context, since time.Time, keep func(report.Receipt), only ...wire.Outcome) (bool, error) {
		now := time.Now()
		for ago := 600 * time.Second; ago >= until; ago -= time.Second {
			at := now.Add(-ago)
			if at.Before(since) {
				continue
			}
			if slices.Contains(refused, ago) {
				keep(report.Receipt{ID: "refused", At: at, Outcome: wire.Refused})
			}
			for i := 0; i < rate && len(only) == 0; i++ {
				keep(report.Receipt{ID: fmt.Sprint(ago, i), Key: ago.String(), At: at, Outcome: wire.Copied, Lag: ago})
			}
			if ctx.Err() != nil {
				return true, ctx.Err()
			}
		}
		return true, nil
	}
}

// The receipts of a busy ferry are those of its last minute or seconds, and not
// one that was refused is missed.
func TestReceiptsOfABusyFerry(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		receipts  ReadReceipts
		of        time.Duration
		more      bool
		transfers int
		trouble   int
	}{
		"one a second":                  {busy(1, 1*time.Second), 10 * time.Minute, false, 600, 0},
		"twenty a second":               {busy(20, 1*time.Second), time.Minute, false, 60 * 20, 0},
		"two hundred":                   {busy(200, 1*time.Second), 10 * time.Second, false, 10 * 200, 0},
		"a thousand":                    {busy(1000, 1*time.Second), 10 * time.Second, true, 5000, 0},
		"between two rounds":            {busy(200, 20*time.Second), time.Minute, true, 5000, 0},
		"the courier stands":            {busy(200, 2*time.Minute), 10 * time.Minute, true, 5000, 0},
		"refused two minutes ago":       {busy(20, 1*time.Second, 2*time.Minute), time.Minute, false, 60 * 20, 1},
		"refused while it is very busy": {busy(1000, 1*time.Second, 9*time.Minute), 10 * time.Second, true, 5000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := readReceipts(t.Context(), tc.receipts)
				if err != nil || got.Of != tc.of.Seconds() || got.More != tc.more || got.Transfers != tc.transfers || got.Trouble != tc.trouble {
					t.Fatalf("got %+v, %v", got, err)
				}
				if latest := got.Latest; tc.more && latest != nil || !tc.more && (latest == nil || latest.Key != "1s") {
					t.Errorf("the latest is %+v", latest)
				}
				if got.Lag.P50 > got.Of {
					t.Errorf("the lag is of %g s ago", got.Lag.P50)
				}
				r := Report{Receipts: got}
				r.judge(nil, nil)
				if noted := len(r.Notes) == 1 && strings.Contains(r.Notes[0], "those of the last "+tc.of.String()); noted != (tc.of < lately) {
					t.Errorf("noted %q", r.Notes)
				}
				if attention := r.Health == Attention; attention != (tc.trouble > 0) {
					t.Errorf("got %s, %q", r.Health, r.Why)
				}
			})
		})
	}
}
