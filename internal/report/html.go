package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/s3ferry/s3ferry/internal/page"
)

//go:embed report.html
var document string

//go:embed report.js
var script string

var layout = template.Must(template.New("report").Parse(document))

// Page is what is drawn. It has receipts or metrics, or both.
type Page struct {
	Receipts *Figures
	Metrics  *Metrics
	Source   string // in a few words, where all this is from
	Missing  string // in words, what is not on it that was looked for
}

// WriteHTML writes the page: one file that needs no other.
func WriteHTML(w io.Writer, p Page) error {
	var from, to int64
	if p.Receipts != nil {
		from, to = p.Receipts.From, p.Receipts.To
	} else {
		from, to = p.Metrics.From, p.Metrics.To
	}
	err := layout.Execute(w, map[string]any{
		"Style": page.Style(), "Script": page.Script() + template.JS(script), //nolint:gosec // embedded
		"Page": p, "Figures": map[string]any{"receipts": p.Receipts, "metrics": p.Metrics},
		"From": moment(from), "To": moment(to), "Made": moment(time.Now().Unix()),
	})
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func moment(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05") }
