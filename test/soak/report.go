package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	prettytable "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/verify"
)

// report is what a soak did and found.
type report struct {
	Seed    uint64  `json:"seed"`
	Minutes float64 `json:"minutes"` // of writes and faults
	Seconds float64 `json:"seconds"` // in all

	Events       int64             `json:"events"` // writes to the source
	WrittenBytes int64             `json:"writtenBytes"`
	Faults       int               `json:"faults"` // that met something
	Kinds        map[string]struck `json:"faultsByKind"`

	Totals         localcloud.Totals `json:"totals"`
	SkippedSeconds float64           `json:"skippedSeconds"` // of the queues' time, in the quiet

	Objects  int64          `json:"objects"` // at the end
	Bytes    int64          `json:"bytes"`
	Verified verify.Summary `json:"verified"`
	LogLines int            `json:"logLines"`

	Invocations map[string]int64 `json:"invocations"`
	Requests    map[string]int64 `json:"requests"` // by whom, to what; those that a fault met too

	Wrong []string `json:"wrong"` // every one, in words
}

// struck is what faults of a kind met.
type struck struct {
	Planned int `json:"planned"`
	Faults  int `json:"faults"` // that met something
	Met     int `json:"met"`    // requests, messages or processes
}

// newReport fills in what was done.
func (s *soak) newReport() *report {
	r := &report{
		Seed: s.seed, Minutes: s.minutes + s.outage.Minutes(), Seconds: time.Since(s.started).Seconds(),
		Events: s.operations.Load(), WrittenBytes: s.written.bytes, Kinds: map[string]struck{},
		Totals: s.cloud.Totals(), SkippedSeconds: s.skipped.Seconds(),
		Invocations: map[string]int64{}, Requests: map[string]int64{}, Wrong: []string{},
	}
	for kind, all := range s.struck {
		k := struck{Planned: len(all)}
		for _, met := range all {
			if n := met(); n > 0 {
				k.Faults++
				k.Met += n
			}
		}
		r.Kinds[kind] = k
		r.Faults += k.Faults
	}
	for _, name := range []string{localcloud.Sender, localcloud.Receiver, localcloud.Courier} {
		r.Invocations[name] = s.cloud.Function(name).Invocations()
	}
	g := s.cloud.Gates
	for whom, counts := range map[string]map[string]int64{
		"mailbox API": g.API.Counts(), "source, signed": g.Border.Counts(), "source": g.Source.Counts(),
		"destination": g.Destination.Counts(), "services": g.Services.Counts(),
	} {
		for operation, n := range counts {
			r.Requests[whom+": "+operation] = n
		}
	}
	return r
}

// shown is how many of the things that are wrong are printed.
const shown = 40

// String is the report for people.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %.1f minutes of writes and faults, %.1f in all\n", r.Seed, r.Minutes, r.Seconds/60)
	fmt.Fprintf(&b, "%d events (%d MiB written), %d faults\n", r.Events, r.WrittenBytes/mib, r.Faults)
	fmt.Fprintf(&b, "%s\n", r.Totals)
	fmt.Fprintf(&b, "most rounds of a transfer: %d; time skipped while all waited: %.0f s\n\n", r.Totals.Rounds, r.SkippedSeconds)

	faults := newTable("fault", "planned", "met something", "requests, messages or processes met")
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		k := r.Kinds[kind]
		faults.AppendRow(prettytable.Row{kind, k.Planned, k.Faults, k.Met})
	}
	fmt.Fprintf(&b, "%s\n\n", faults.Render())

	requests := newTable("requests of the functions", "all", "for each event")
	for _, operation := range slices.Sorted(maps.Keys(r.Requests)) {
		requests.AppendRow(prettytable.Row{operation, r.Requests[operation], perEvent(r.Requests[operation], r.Events)})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Invocations)) {
		requests.AppendRow(prettytable.Row{"invocations: " + name, r.Invocations[name], perEvent(r.Invocations[name], r.Events)})
	}
	fmt.Fprintf(&b, "%s\n\n", requests.Render())

	v := r.Verified
	fmt.Fprintf(&b, "%d objects, %d MiB compared byte for byte; verify: %d equal, %d missing, %d stale, %d extra, %d unknown\n",
		r.Objects, r.Bytes/mib, v.Equal, v.Missing, v.Stale, v.Extra, v.Unknown)
	fmt.Fprintf(&b, "%d lines of logs, searched for secrets\n", r.LogLines)
	if len(r.Wrong) == 0 {
		b.WriteString("nothing is wrong")
		return b.String()
	}
	fmt.Fprintf(&b, "%d things are wrong:", len(r.Wrong))
	for _, w := range r.Wrong[:min(shown, len(r.Wrong))] {
		fmt.Fprintf(&b, "\n  %s", w)
	}
	return b.String()
}

func perEvent(n, events int64) string { return fmt.Sprintf("%.3f", float64(n)/float64(max(events, 1))) }

func newTable(header ...any) prettytable.Writer {
	t := prettytable.NewWriter()
	t.SetStyle(prettytable.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(header)
	return t
}

// showProgress draws a line on a terminal until what it returns is called.
func (s *soak) showProgress() (done func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for begun := time.Now(); ; {
			select {
			case <-tick.C:
				fmt.Fprintf(os.Stderr, "\r\033[K%s  %d written  %s", time.Since(begun).Round(time.Second), s.operations.Load(), s.cloud.Totals())
			case <-stop:
				fmt.Fprint(os.Stderr, "\r\033[K")
				return
			}
		}
	}()
	return func() { close(stop); <-ended }
}
