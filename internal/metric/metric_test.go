package metric_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/metric/metrictest"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	var set metric.Set
	set.Log(t.Context(), log, "stack-Sender")
	if out.Len() != 0 {
		t.Errorf("nothing was measured, but logged: %s", &out)
	}

	want := map[string][]float64{"Copied in Count": {250}, "Lag in Milliseconds": {0}, "Bytes in Bytes": nil}
	var wg sync.WaitGroup
	for range 250 {
		wg.Go(func() { set.Count(metric.Outcome("copied"), 1) })
	}
	wg.Wait()
	set.Count(metric.Held, 0)
	set.Observe(metric.Lag, -5) // of clocks that disagree
	for i := range 250 {
		size := float64(int64(1) << 40 * int64(i))
		set.Observe(metric.Bytes, size)
		want["Bytes in Bytes"] = append(want["Bytes in Bytes"], size)
	}
	set.Log(t.Context(), log, "stack-Sender")
	got, lines := metrictest.Read(t, out.String(), "stack-Sender")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if lines != 3 {
		t.Errorf("%d lines for 250 values, expected 3", lines)
	}
	set.Log(t.Context(), log, "stack-Sender")
	if _, again := metrictest.Read(t, out.String(), "stack-Sender"); again != lines {
		t.Error("what was logged is logged again")
	}
}

func TestNamesAreApart(t *testing.T) {
	seen := map[string]bool{}
	all := []metric.Metric{
		metric.Sent, metric.SentBytes, metric.Held, metric.Unsent, metric.Unneeded,
		metric.Bytes, metric.Duration, metric.Attempts, metric.Lag, metric.Rounds, metric.Requeued,
		metric.GivenUp, metric.Unreadable, metric.Inbox, metric.Memory, {Name: metric.Ferry}, {Name: "time"}, {Name: "level"}, {Name: "msg"},
	}
	for _, outcome := range metric.Outcomes() {
		all = append(all, metric.Outcome(outcome))
	}
	for _, m := range all {
		if seen[m.Name] {
			t.Errorf("%s is measured twice", m.Name)
		}
		seen[m.Name] = true
	}
}
