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

// WriteHTML writes the page: one file that needs no other. source says in a few
// words where the receipts are from.
func WriteHTML(w io.Writer, f Figures, source string) error {
	err := layout.Execute(w, map[string]any{
		"Style": page.Style(), "Script": page.Script() + template.JS(script), //nolint:gosec // embedded
		"Figures": f, "Source": source,
		"From": moment(f.From), "To": moment(f.To), "Made": moment(time.Now().Unix()),
	})
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func moment(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05") }
