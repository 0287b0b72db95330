package backlog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/s3ferry/s3ferry/internal/backlog"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

func TestPace(t *testing.T) {
	type round struct {
		done    int
		at      time.Duration
		waiting bool
	}
	for name, tc := range map[string]struct {
		rounds []round
		want   backlog.Pace
	}{
		"the first look measures nothing": {
			[]round{{50, 0, true}},
			backlog.Pace{Waiting: true},
		},
		"busy for a minute": {
			[]round{{0, 0, true}, {120, time.Minute, true}},
			backlog.Pace{PerSecond: 2, Over: 60, Waiting: true},
		},
		"a mean of all minutes": {
			[]round{{0, 0, true}, {120, time.Minute, true}, {60, 2 * time.Minute, true}},
			backlog.Pace{PerSecond: 1.5, Over: 120, Waiting: true},
		},
		"it forgets": {
			[]round{{0, 0, true}, {3000, 5 * time.Minute, true}, {0, 10 * time.Minute, true}, {0, 15 * time.Minute, true}},
			backlog.Pace{PerSecond: 2.5, Over: 300, Waiting: true},
		},
		"what ran dry shows the least it can": {
			[]round{{0, 0, true}, {120, time.Minute, true}, {30, 2 * time.Minute, false}, {1, 3 * time.Minute, false}},
			backlog.Pace{PerSecond: 2, Over: 60},
		},
		"or more than was known": {
			[]round{{0, 0, false}, {600, time.Minute, false}},
			backlog.Pace{PerSecond: 10},
		},
		"a backlog says more than what was seen without one": {
			[]round{{0, 0, false}, {600, time.Minute, true}, {60, 2 * time.Minute, true}},
			backlog.Pace{PerSecond: 1, Over: 60, Waiting: true},
		},
		"a clock that goes back changes nothing": {
			[]round{{0, 0, true}, {120, time.Minute, true}, {7, 30 * time.Second, false}},
			backlog.Pace{PerSecond: 2, Over: 60, Waiting: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got backlog.Pace
			for _, r := range tc.rounds {
				got = got.Next(r.done, after(r.at), r.waiting)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(backlog.Pace{}, "Until"), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
				t.Errorf("pace (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		pace backlog.Pace
		want int
	}{
		"unknown":                {backlog.Pace{}, 1000},
		"seen without a backlog": {backlog.Pace{PerSecond: 0.001}, 1000},
		"fast without a backlog": {backlog.Pace{PerSecond: 10}, 18_000},
		"slow":                   {backlog.Pace{PerSecond: 0.1, Over: 60}, 180},
		"stuck":                  {backlog.Pace{Over: 300}, 20},
	} {
		if got := backlog.Limit(tc.pace, time.Hour); got != tc.want {
			t.Errorf("%s: got %d, expected %d", name, got, tc.want)
		}
	}
}
