package main

import (
	"fmt"

	prettytable "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/s3ferry/s3ferry/test/bench/relay"
)

// row is one line of the table.
type row struct {
	Profile string `json:"profile"`
	Work    string `json:"work"`
	Column  string `json:"column"`

	Seconds     float64 `json:"seconds"`
	MBps        float64 `json:"mbPerSecond"`
	BusySeconds float64 `json:"linkBusySeconds"` // from the first connection to the last byte
	LinkShare   float64 `json:"shareOfLink"`     // of its limit in that time
	ObjectsPerS float64 `json:"objectsPerSecond"`
	PeakMiB     float64 `json:"peakRssMiB"`
	CPUPerGB    float64 `json:"cpuSecondsPerGB"`
	Requests    float64 `json:"requestsPerObject"`
	Pulled      float64 `json:"bytesPulledPerByte"`
	Connections int64   `json:"connections"`
	Resets      int64   `json:"resets"`
	Note        string  `json:"note,omitempty"` // why it is not the whole work
}

func (r *row) fill(link relay.Link, u usage, s relay.Stats, objects int, bytes int64) {
	r.Seconds = u.took.Seconds()
	r.MBps = float64(bytes) / 1e6 / r.Seconds
	r.BusySeconds = s.Busy.Seconds()
	if s.Busy > 0 && link.Rate > 0 {
		r.LinkShare = float64(bytes) / r.BusySeconds / float64(link.Rate)
	}
	r.ObjectsPerS = float64(objects) / r.Seconds
	r.PeakMiB = float64(u.peak) / miB
	r.Connections, r.Resets = s.Connections, s.Resets
	if objects > 0 {
		r.CPUPerGB = u.cpu.Seconds() / (float64(bytes) / 1e9)
		r.Requests = float64(s.Requests) / float64(objects)
		r.Pulled = float64(s.Bytes) / float64(bytes)
	}
}

// String is one line for who waits.
func (r row) String() string {
	return fmt.Sprintf("%s %s %s: %.1f s, %.1f MB/s, link busy for %.1f s, %d connections, %.3f pulled, %.0f MiB %s",
		r.Profile, r.Work, r.Column, r.Seconds, r.MBps, r.BusySeconds, r.Connections, r.Pulled, r.PeakMiB, r.Note)
}

func table(rows []row) string {
	t := prettytable.NewWriter()
	t.SetStyle(prettytable.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(prettytable.Row{
		"link", "work", "column", "s", "MB/s", "link busy s", "% of link", "objects/s", "peak MiB", "CPU s/GB",
		"requests/object", "pulled/byte", "connections", "resets", "",
	})
	const note = 15 // the column that may need more than one line
	t.SetColumnConfigs([]prettytable.ColumnConfig{{Number: note, WidthMax: 40}})
	for _, r := range rows {
		t.AppendRow(prettytable.Row{
			r.Profile, r.Work, r.Column, fmt.Sprintf("%.1f", r.Seconds), fmt.Sprintf("%.1f", r.MBps),
			fmt.Sprintf("%.1f", r.BusySeconds), fmt.Sprintf("%.0f", r.LinkShare*100), fmt.Sprintf("%.1f", r.ObjectsPerS), fmt.Sprintf("%.0f", r.PeakMiB),
			fmt.Sprintf("%.1f", r.CPUPerGB), fmt.Sprintf("%.2f", r.Requests), fmt.Sprintf("%.3f", r.Pulled),
			r.Connections, r.Resets, r.Note,
		})
	}
	return t.Render()
}
