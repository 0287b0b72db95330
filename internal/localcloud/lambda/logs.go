package lambda

import (
	"bytes"
	"encoding/json"
	"io"
)

// maxLine is where a line without an end is cut, so that a function that prints
// garbage does not fill the memory.
const maxLine = 256 << 10

// lineWriter turns what a process prints into JSON lines with the function's
// name. One goroutine writes.
type lineWriter struct {
	function string
	to       io.Writer
	rest     []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		end := bytes.IndexByte(w.rest, '\n')
		if end < 0 && len(w.rest) < maxLine {
			return len(p), nil
		}
		if end < 0 {
			end = len(w.rest) - 1
		}
		w.line(w.rest[:end+1])
		w.rest = w.rest[end+1:]
	}
}

// flush writes a last line that has no end.
func (w *lineWriter) flush() {
	w.line(w.rest)
	w.rest = nil
}

func (w *lineWriter) line(text []byte) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return
	}
	name, _ := json.Marshal(w.function) // a string always encodes
	out := append([]byte(`{"function":`), name...)
	if members, ok := bytes.CutPrefix(text, []byte("{")); ok && json.Valid(text) {
		if members[0] != '}' {
			out = append(out, ',')
		}
		out = append(out, members...)
	} else {
		message, _ := json.Marshal(string(text))
		out = append(out, `,"msg":`...)
		out = append(append(out, message...), '}')
	}
	_, _ = w.to.Write(append(out, '\n')) // logging must not fail the function
}
