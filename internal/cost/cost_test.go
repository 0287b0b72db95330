package cost

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func estimate(t *testing.T, w Workload) Estimate {
	t.Helper()
	if w.Link == (Link{}) {
		w.Link = Fair
	}
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
	return New(w)
}

func TestEstimatesGrowWithTheWorkload(t *testing.T) {
	small := estimate(t, Workload{Objects: 1e6, Size: 10e3})
	twice := estimate(t, Workload{Objects: 2e6, Size: 10e3})
	if a, b := small.USD(Carrying, Egress), twice.USD(Carrying, Egress); math.Abs(b-2*a) > 1e-6 || a <= 0 {
		t.Errorf("a million objects cost %g and two million %g", a, b)
	}
	if small.USD(Standing) != 0 {
		t.Error("what is carried once has standing costs")
	}
	alone := estimate(t, Workload{Objects: 1e6, Size: 10e3, Alone: true})
	if a, b := small.USD(Carrying), alone.USD(Carrying); b < 2*a {
		t.Errorf("batches save little: %g in batches, %g alone", a, b)
	}
	bad := estimate(t, Workload{Objects: 1e3, Size: 1e9, Link: Bad})
	if good := estimate(t, Workload{Objects: 1e3, Size: 1e9}); bad.USD(Carrying) <= good.USD(Carrying) {
		t.Error("a bad link costs no more than a fair one")
	}
}

func TestEgress(t *testing.T) {
	e := estimate(t, Workload{Objects: 1024, Size: gib})
	if got := e.USD(Egress); got < 1024*0.09 || got > 1024*0.09+0.01 {
		t.Errorf("a TiB leaves for %g", got)
	}
}

// A million objects in 30 days are as many whether said by day or by month.
func TestPeriods(t *testing.T) {
	day := estimate(t, Workload{Objects: 1e6 / 30.0, Size: 1e3, Per: 24 * time.Hour})
	all := estimate(t, Workload{Objects: 1e6, Size: 1e3, Per: 30 * 24 * time.Hour})
	if a, b := day.USD(Carrying, Standing, Egress), all.USD(Carrying, Standing, Egress); math.Abs(a-b) > 1e-6 || all.USD(Standing) <= 0 {
		t.Errorf("by day %g, by month %g, standing %g", a, b, all.USD(Standing))
	}
}

// A part more costs its upload and the ranges that fill it.
func TestPartsCostTheirUpload(t *testing.T) {
	puts := func(size float64) float64 {
		for _, line := range estimate(t, Workload{Objects: 1, Size: size}).Lines {
			if line.Item == "S3 requests, writing" {
				return line.Quantity
			}
		}
		return 0
	}
	const part = 8 << 20
	if more := puts(100*part) - puts(99*part); math.Abs(more-1) > 1e-9 {
		t.Errorf("a part more takes %g requests", more)
	}
	if puts(part) != 1 {
		t.Errorf("an object of one part takes %g requests", puts(part))
	}
}

func TestWorkloadsThatAreNone(t *testing.T) {
	for _, w := range []Workload{
		{Objects: 0, Size: 1, Link: Fair}, {Objects: math.NaN(), Size: 1, Link: Fair}, {Objects: 1, Size: -1, Link: Fair},
		{Objects: 1, Size: 1e15, Link: Fair}, {Objects: 1, Size: 1},
	} {
		if w.Check() == nil {
			t.Errorf("nothing is wrong with %+v", w)
		}
	}
}

func TestPricesHaveTheirSource(t *testing.T) {
	for _, p := range Prices() {
		if _, err := time.Parse(time.DateOnly, p.Seen); err != nil || !strings.HasPrefix(p.Source, "https://") || p.USD <= 0 ||
			p.Quoted != "" && !strings.HasPrefix(p.Quoted, "https://") || p.Unit == "" {
			t.Errorf("%+v", p)
		}
	}
}

// The standing costs have every alarm and dashboard that is deployed, on its side.
func TestWhatStandsIsCounted(t *testing.T) {
	for kind, counted := range map[string]map[string]int{"Alarm": alarms, "Dashboard": dashboards} {
		for side, stack := range map[string]string{sending: "GlobalSender", receiving: "ChinaReceiver"} {
			template, err := os.ReadFile("../../infra/testdata/aws-to-aws-cn/" + stack + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(template), `"Type": "AWS::CloudWatch::`+kind+`"`); n != counted[side] {
				t.Errorf("%s: stack %s has %d, the estimate %d: change the figure", kind, stack, n, counted[side])
			}
		}
	}
	e := estimate(t, Workload{Objects: 1, Size: 1, Per: 24 * time.Hour})
	for _, side := range []string{sending, receiving} {
		for _, item := range []string{"alarms", "dashboard", "metrics, if objects come every hour"} {
			if !slices.ContainsFunc(e.Lines, func(l Line) bool { return l.Side == side && l.Item == item && l.Kind == Standing }) {
				t.Errorf("the %s side has no line of %s", side, item)
			}
		}
	}
}

// What is taken from docs/performance.md is what it says now.
func TestTheReceiverIsAsFastAsWasMeasured(t *testing.T) {
	const seconds, megabytes = 4, 6 // cells
	doc, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		row  string
		cell int
		what string
		got  float64
	}{
		{"| 1 x 1 GiB | fair | s3ferry receiver |", megabytes, "Fair.Rate / 1e6", Fair.Rate / 1e6},
		{"| 1 x 256 MiB | bad | s3ferry receiver |", megabytes, "Bad.Rate / 1e6", Bad.Rate / 1e6},
		// A hundred batches of ten, ten at a time.
		{"| 1,000 x 16 KiB | fair | s3ferry, 10 receivers |", seconds, "receiverBatch * 10", receiverBatch * 10},
	} {
		_, rest, found := strings.Cut(string(doc), "\n"+tc.row)
		line, _, _ := strings.Cut(rest, "\n")
		cells := strings.Split(tc.row+line, "|")
		if !found || len(cells) <= megabytes {
			t.Errorf("docs/performance.md has no row %q with seconds and MB/s", tc.row)
			continue
		}
		want, err := strconv.ParseFloat(strings.TrimSpace(cells[tc.cell]), 64)
		if err != nil || math.Abs(tc.got-want) > 1e-6 {
			t.Errorf("%s is %g, docs/performance.md has %q in %q: change the constant", tc.what, tc.got, cells[tc.cell], tc.row+line)
		}
	}
}
