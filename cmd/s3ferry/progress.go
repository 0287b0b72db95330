package main

import (
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"golang.org/x/term"
)

// counter shows a count that grows to nobody knows where. Its zero value shows
// nothing.
type counter struct {
	bars    progress.Writer
	tracker *progress.Tracker
}

// newCounter draws on out, if that is a terminal.
func newCounter(out io.Writer, message string) counter {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return counter{}
	}
	c := counter{progress.NewWriter(), &progress.Tracker{Message: message}}
	c.bars.SetOutputWriter(out)
	c.bars.SetAutoStop(false)
	c.bars.SetUpdateFrequency(100 * time.Millisecond)
	c.bars.SetTrackerPosition(progress.PositionRight)
	c.bars.Style().Visibility.Percentage = false
	c.bars.Style().Visibility.Speed = true
	c.bars.AppendTracker(c.tracker)
	go c.bars.Render()
	return c
}

func (c counter) set(n int64) {
	if c.tracker != nil {
		c.tracker.SetValue(n)
	}
}

// done ends the drawing, so that something else may be written.
func (c counter) done() {
	if c.bars == nil {
		return
	}
	c.bars.Stop()
	for c.bars.IsRenderInProgress() {
		time.Sleep(10 * time.Millisecond)
	}
}
