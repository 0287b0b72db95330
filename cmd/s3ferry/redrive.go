package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/redrive"
)

const (
	inboxName  = "inbox"
	outboxName = "outbox"

	// widestCell is the most characters of a line in a table's cell.
	widestCell = 60
)

type redriveFlags struct {
	sides        sidesFlags
	queue        string
	key          string
	classes      []string
	list, dryRun bool
	json         bool
}

func newRedrive() *cobra.Command {
	var f redriveFlags
	command := &cobra.Command{
		Use:   "redrive",
		Short: "Send dead letters once more",
		Long: `Redrive takes the letters of both dead-letter queues and puts their events into
the outbox, from where everything starts anew: a transfer that died in the inbox
is signed again, since its URL is dead too. A letter is deleted only when its
event is in the outbox. One that cannot be read, or that nobody trusted has
signed, stays and is told.

--list shows the letters and leaves them. --key takes a pattern in which * stands
for any text and ? for one character.`,
		Example: `  s3ferry redrive --global-profile global --china-profile china --list
  s3ferry redrive --global-profile global --china-profile china
  s3ferry redrive --local cloud.json --class destination-denied --key 'reports/*'`,
		Args: func(cmd *cobra.Command, args []string) error { return errors.Join(cobra.NoArgs(cmd, args), f.check()) },
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.sides.register(command)
	flags := command.Flags()
	flags.StringVar(&f.queue, "queue", "", "only the dead letters of this `QUEUE`: inbox or outbox")
	flags.StringVar(&f.key, "key", "", "only letters with a key like this `PATTERN`")
	flags.StringSliceVar(&f.classes, "class", nil, "only letters of this `CLASS`; may be repeated")
	flags.BoolVar(&f.list, "list", false, "show the letters, and change nothing")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be sent, and change nothing")
	flags.BoolVar(&f.json, "json", false, "print one JSON object a letter")
	return command
}

// check says which flags do not belong together.
func (f *redriveFlags) check() error {
	err := f.sides.check(f.queue != outboxName)
	if f.queue != "" && f.queue != inboxName && f.queue != outboxName {
		err = errors.Join(err, fmt.Errorf("--queue: got %q, expected %s or %s", f.queue, inboxName, outboxName))
	}
	if !utf8.ValidString(f.key) {
		err = errors.Join(err, fmt.Errorf("--key: got %q, expected UTF-8, as keys are", f.key))
	}
	if f.list && f.dryRun {
		err = errors.Join(err, errors.New("--list and --dry-run: got both"))
	}
	return err
}

func (f *redriveFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	global, queues, err := f.queues(ctx, cmd.InOrStdin())
	if err != nil {
		return err
	}
	options := redrive.Options{Classes: f.classes}
	if f.key != "" {
		options.Match = redrive.Pattern(f.key)
	}
	if !f.list && !f.dryRun {
		options.Outbox = global.queue()
	}
	letters := newLetterTable(time.Now())
	options.Found = letters.add
	if f.json {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		options.Found = func(l redrive.Letter) error { return encoder.Encode(l) }
	}
	summary, err := redrive.Run(ctx, queues, options)
	if !f.json {
		letters.print(cmd, summary)
	}
	if n := summary[redrive.Kept]; n > 0 && !f.list {
		err = errors.Join(err, fmt.Errorf("%d dead letters cannot be sent again", n))
	}
	return err
}

// queues reaches the dead-letter queues that were asked for. The outbox's alone
// need no receiving side.
func (f *redriveFlags) queues(ctx context.Context, stdin io.Reader) (*sending, []redrive.Queue, error) {
	outbox := func(s *sending) redrive.Queue {
		return redrive.Queue{Name: outboxName, SQS: s.sqs, URL: s.deadLetters, Read: redrive.Events}
	}
	if f.queue == outboxName {
		global, err := f.sides.openSending(ctx, stdin)
		if err != nil {
			return nil, nil, err
		}
		return global, []redrive.Queue{outbox(global)}, nil
	}
	global, china, err := f.sides.open(ctx, stdin)
	if err != nil {
		return nil, nil, err
	}
	trust, err := china.trust(ctx)
	if err != nil {
		return nil, nil, err
	}
	queues := []redrive.Queue{{Name: inboxName, SQS: china.sqs, URL: china.deadLetters, Read: redrive.Transfers(trust)}}
	if f.queue == "" {
		queues = append(queues, outbox(global))
	}
	return global, queues, nil
}

// letterTable shows letters to people.
type letterTable struct {
	table.Writer
	now time.Time
}

func newLetterTable(now time.Time) *letterTable {
	t := &letterTable{table.NewWriter(), now}
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"queue", "age", "class", "key", "fate", "reason"})
	var wrapped []table.ColumnConfig
	for _, name := range []string{"key", "fate", "reason"} {
		wrapped = append(wrapped, table.ColumnConfig{Name: name, WidthMax: widestCell, WidthMaxEnforcer: text.WrapSoft})
	}
	t.SetColumnConfigs(wrapped)
	return t
}

func (t *letterTable) add(l redrive.Letter) error {
	key := "-"
	if len(l.Keys) > 0 {
		key = l.Keys[0]
	}
	if n := len(l.Keys); n > 1 {
		key += fmt.Sprintf(" and %d more", n-1)
	}
	fate := l.Fate
	if l.Problem != "" {
		fate += ": " + l.Problem
	}
	t.AppendRow(table.Row{l.Queue, t.now.Sub(l.Sent).Truncate(time.Second), line(l.Class), line(key), line(fate), line(l.Reason)})
	return nil
}

func (t *letterTable) print(cmd *cobra.Command, summary redrive.Summary) {
	out := cmd.OutOrStdout()
	if t.Length() > 0 {
		fmt.Fprintln(out, t.Render())
	}
	parts := []string{}
	for _, fate := range []string{redrive.Redriven, redrive.Listed, redrive.Kept, redrive.Passed} {
		if n := summary[fate]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, fate))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "no dead letters")
	}
	fmt.Fprintln(out, strings.Join(parts, ", "))
}

// cell is as much of s as fits on one line of a table.
func cell(s string) string { return text.Snip(line(s), widestCell, "…") }

// line is s on one line, fit for a terminal.
func line(s string) string { return printable(strings.Join(strings.Fields(s), " ")) }

// printable is s without what could steer a terminal: others choose keys, and what
// reasons quote.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return utf8.RuneError
	}, s)
}
