// Command diagram draws docs/images/architecture.svg: go run ./docs/diagram, in
// the root of the repository. The picture follows the reader's dark or light.
package main

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"text/template"
)

//go:embed architecture.svg.tmpl
var picture string

const file = "docs/images/architecture.svg"

// box is a thing on a side: a bucket, a queue or an API, or a function.
type box struct {
	X, Y     int // of the middle
	Title    string
	Note     string
	Function bool
}

const (
	width, height = 200, 62
	left, right   = 150, 680 // the middle of each side's first column
	far           = right + 260
	border        = (left + right) / 2
	step          = 120 // from row to row
	top           = 130 // the first row
)

func (b box) Left() int   { return b.X - width/2 }
func (b box) Top() int    { return b.Y - height/2 }
func (b box) TitleY() int { return b.Y - 4 }
func (b box) NoteY() int  { return b.Y + 16 }

// arrow is a line with a text at (X, Y), which is its middle or its beginning.
type arrow struct {
	Kind   string // class of the line: step, pull or back
	Path   string
	X, Y   int
	Text   string
	Middle bool
}

func row(n int) int { return top + n*step }

var boxes = []box{
	{left, row(0), "Source bucket", "new and changed objects", false},
	{left, row(1), "Outbox queue", "events, up to 14 days", false},
	{left, row(2), "Sender function", "HEAD, presign, sign", true},
	{left, row(3), "Courier function", "once a minute", true},
	{right, row(0), "Destination bucket", "never older over newer", false},
	{right, row(1), "Receiver function", "ranges, parts, checksum", true},
	{right, row(2), "Mailbox API, inbox", "API key, request model, queue", false},
	{right, row(3), "Receipts queue", "what became of it", false},
	{far, row(1), "Journal bucket", "resume state, order", false},
}

// across is an arrow over the border, in row n.
func across(kind string, n int, leftwards bool, text string) arrow {
	from, to := left+width/2, right-width/2
	if leftwards {
		from, to = to, from
	}
	return arrow{kind, fmt.Sprintf("M%d,%d H%d", from, row(n), to), border, row(n) - 10, text, true}
}

// along is an arrow from row to row of the column at x.
func along(kind string, x, from, to int, text string) arrow {
	y1, y2 := row(from)+height/2, row(to)-height/2
	if to < from {
		y1, y2 = row(from)-height/2, row(to)+height/2
	}
	return arrow{kind, fmt.Sprintf("M%d,%d V%d", x, y1, y2), x + 12, (y1+y2)/2 + 4, text, false}
}

var arrows = []arrow{
	along("step", left, 0, 1, "S3 event"),
	along("step", left, 1, 2, "batch of 10"),
	across("step", 2, false, "POST: signed message with a signed URL"),
	along("step", right, 2, 1, "batch of 10"),
	{
		"pull", fmt.Sprintf("M%d,%d C%d,%d %d,%d %d,%d", left+width/2, row(0), border, row(0), border, row(1), right-width/2, row(1)),
		border, (row(0)+row(1))/2 - 8, "the bytes: ranged GETs over that URL", true,
	},
	along("pull", right, 1, 0, "PUT or multipart upload"),
	{"step", fmt.Sprintf("M%d,%d H%d", right+width/2, row(1), far-width/2), 0, 0, "", false},
	{
		"back", fmt.Sprintf("M%d,%d H%d V%d H%d", right+width/2, row(1)+18, right+width/2+24, row(3), right+width/2),
		right + width/2 + 34, row(2) + 4, "receipt", false,
	},
	across("back", 3, true, "polls receipts"),
	{"back", fmt.Sprintf("M%d,%d H%d V%d H%d", left-width/2, row(3), left-width/2-24, row(1), left-width/2), left - width/2 - 14, row(3) - height/2 - 25, "expired: sign again", false},
}

// draw writes the picture.
func draw(w io.Writer) error {
	const margin, bottom = 14, top + 3*step + 60
	return template.Must(template.New("picture").Parse(picture)).Execute(w, map[string]any{
		"Boxes": boxes, "Arrows": arrows, "Kinds": []string{"step", "pull", "back"}, "Width": width, "Height": height,
		"Border": border, "BorderEnd": bottom - 12, "Right": far + width/2 + 38, "Bottom": bottom, "SideHeight": bottom - 16,
		"LeftWidth": border - margin - 8, "RightEdge": border + margin, "RightHead": border + margin + 22,
		"RightWidth": far + width/2 + 30 - border - margin,
	})
}

func run() error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := draw(out); err != nil {
		return err
	}
	return out.Close()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "diagram: run it in the root of the repository:", err)
		os.Exit(1)
	}
}
