package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/redrive"
)

// Keys, and reasons that quote them, are others' words.
func TestNothingSteersTheTerminal(t *testing.T) {
	for given, want := range map[string]string{
		"a/b 报告.txt":                       "a/b 报告.txt",
		"\x01\x1b[31mred":                  "��[31mred",
		"\u202egpj.exe":                    "�gpj.exe",
		"two\r\nlines\tand \u2028 more":    "two lines and more",
		"\u009b2J":                         "�2J",
		"no UTF-8: \xff":                   "no UTF-8: �",
		strings.Repeat("\x1b", 70) + "end": strings.Repeat("�", 59) + "…",
	} {
		if got := cell(given); got != want {
			t.Errorf("%q: got %q, expected %q", given, got, want)
		}
	}
	root := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
		return errors.Join(errors.New("\x1b[2J"), errors.New("more"))
	}}
	var stderr bytes.Buffer
	root.SetErr(&stderr)
	if code := run(context.Background(), root, nil); code != exitFailed || stderr.String() != "s3ferry: �[2J\nmore\n" {
		t.Errorf("got %d and %q", code, stderr.String())
	}
}

// A table has reasons whole: their end is where the cause is.
func TestLettersAreShownWhole(t *testing.T) {
	why := "sent 401 times, the last ended as failed (destination-denied: put " + strings.Repeat("k", 90) + ": AccessDenied: no): mend that, then redrive"
	letters := newLetterTable(time.Now())
	err := letters.add(redrive.Letter{
		Queue: "outbox", Class: "rounds-\x1bexhausted", Reason: why, Keys: []string{"\x01\x1b[31mred"}, Fate: redrive.Kept, Problem: "\u202eno",
	})
	if err != nil {
		t.Fatal(err)
	}
	shown := letters.Render()
	for line := range strings.Lines(shown) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("got %q", line)
		}
	}
	var reason strings.Builder
	for line := range strings.Lines(shown) {
		if cells := strings.Split(line, "│"); len(cells) > 6 {
			reason.WriteString(strings.TrimSpace(cells[6]))
		}
	}
	if got, want := strings.TrimPrefix(reason.String(), "reason"), strings.ReplaceAll(why, " ", ""); strings.ReplaceAll(got, " ", "") != want {
		t.Errorf("got %q in\n%s", got, shown)
	}
}
