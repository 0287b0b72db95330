package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/status"
)

// errAttention and errUnreachable tell the exit codes of status apart.
var (
	errAttention   = errors.New("something calls for attention")
	errUnreachable = errors.New("a side could not be asked")
)

type statusFlags struct {
	sides    sidesFlags
	watch    bool
	interval time.Duration
	json     bool
}

func newStatus() *cobra.Command {
	var f statusFlags
	command := &cobra.Command{
		Use:   "status",
		Short: "Show both sides at a glance",
		Long: `Status tells of both sides: the link and the age of its keys, what waits in the
queues and for how long, dead letters, alarms that ring, and when each stack was
deployed, with which version. It changes nothing.

What became of the transfers of the last ten minutes is from the courier's log,
which takes logs:FilterLogEvents. Where there are more than 5,000, those of the
last minute or 10 seconds of the log are summed up, and a note says so; refused
and failed ones are always of ten minutes. Counts of SQS are approximate, and
ages are CloudWatch's, which is a minute or two late. A laptop cloud has no
alarms. The version of a stack is (devel) if it was deployed from no commit.

It exits with 0 if all is well, with 1 if something calls for attention (not
linked, dead letters, refused or failed transfers, an alarm, a message that has
waited for an hour, a sender newer than its receiver), and with 2 if a side
cannot be asked.`,
		Example: `  s3ferry status --global-profile global --china-profile china
  s3ferry status --global-profile global --china-profile china --watch
  s3ferry status --local cloud.json --json`,
		Args: func(cmd *cobra.Command, args []string) error { return errors.Join(cobra.NoArgs(cmd, args), f.check()) },
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.sides.register(command)
	flags := command.Flags()
	flags.BoolVar(&f.watch, "watch", false, "look again and again, until interrupted")
	flags.DurationVar(&f.interval, "interval", 5*time.Second, "`TIME` between two looks of --watch")
	flags.BoolVar(&f.json, "json", false, "print JSON, one object a look")
	return command
}

// check says which flags do not belong together.
func (f *statusFlags) check() error {
	err := f.sides.check(true)
	if f.interval < time.Second {
		err = errors.Join(err, fmt.Errorf("--interval: got %s, expected at least 1s", f.interval))
	}
	if f.watch && f.sides.local == "-" {
		err = errors.Join(err, errors.New("--watch reads the file of --local again, so it cannot be standard input"))
	}
	return err
}

func (f *statusFlags) run(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	for {
		report, err := f.look(ctx, cmd.InOrStdin())
		if err != nil {
			return fmt.Errorf("%w: %w", errUnreachable, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.json {
			err = json.NewEncoder(out).Encode(report)
		} else {
			if f.watch && isTerminal(out) {
				fmt.Fprint(out, "\x1b[H\x1b[2J")
			}
			printReportOfStatus(out, report)
		}
		if err != nil || !f.watch {
			return errors.Join(err, verdict(report))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(f.interval):
		}
	}
}

// verdict is the error for the exit code.
func verdict(r status.Report) error {
	switch r.Health {
	case status.Healthy:
		return nil
	case status.Attention:
		return errAttention
	}
	return errUnreachable
}

// look asks both sides. The error is of what was asked for, not of a side.
func (f *statusFlags) look(ctx context.Context, stdin io.Reader) (status.Report, error) {
	global, china, err := f.sides.locate(ctx, stdin)
	if err != nil {
		return status.Report{}, err
	}
	return status.Look(ctx,
		func(ctx context.Context) (*linking.Status, error) {
			return new(linking.Linker).Status(ctx, linking.NewGlobal(global.config, global.Side), linking.NewChina(china.config, china.Side))
		},
		global.receipts,
		status.NewSending(global.Side, global.config),
		status.NewReceiving(china.Side, china.config),
	), nil
}

func printReportOfStatus(out io.Writer, r status.Report) {
	fmt.Fprintf(out, "%s at %s\n", r.Health, r.At.Format(time.RFC3339))
	for _, why := range r.Why {
		fmt.Fprintln(out, "  *", why)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(out, "  note:", note)
	}
	if r.Link != nil {
		printStatus(out, r.Link)
	}
	printReceipts(out, r.Receipts)
	queues := newTable(out)
	queues.AppendHeader(table.Row{"side", "queue", "waiting", "in flight", "delayed", "oldest"})
	for _, side := range r.Sides {
		for _, q := range side.Queues {
			name, oldest := q.Name, ""
			if q.DeadLetters {
				name += ", dead letters"
			}
			if q.Oldest != nil {
				oldest = (time.Duration(*q.Oldest) * time.Second).String()
			}
			queues.AppendRow(table.Row{side.Name, name, q.Waiting, q.InFlight, q.Delayed, oldest})
		}
	}
	queues.Render()
	sides := newTable(out)
	sides.AppendHeader(table.Row{"side", "stack", "region", "state", "deployed", "version", "alarms"})
	for _, side := range r.Sides {
		deployed := ""
		if !side.Deployed.IsZero() {
			deployed = side.Deployed.Format(time.RFC3339)
		}
		sides.AppendRow(table.Row{side.Name, side.Stack, side.Region, side.Status, deployed, cmp.Or(side.Version, "not told"), fmt.Sprintf("%d of %d ring", len(side.Alarms), side.Watching)})
	}
	sides.Render()
	fmt.Fprintln(out, "this s3ferry is of", r.Version)
}

func printReceipts(out io.Writer, r *status.Receipts) {
	if r == nil {
		return
	}
	oldest := ""
	if r.More {
		oldest = "the oldest "
	}
	fmt.Fprintf(out, "of the last %s: %s%d receipts, %d copied (%d bytes)\n", time.Duration(r.Of)*time.Second, oldest, r.Transfers, r.Copied, r.Bytes)
	fmt.Fprintf(out, "refused or failed in 10m0s: %d\n", r.Trouble)
	if r.Lag != nil {
		fmt.Fprintf(out, "from event to arrival: half within %.1f s, 99 of 100 within %.1f s\n", r.Lag.P50, r.Lag.P99)
	}
	if r.Latest != nil {
		fmt.Fprintf(out, "latest: %s %s at %s\n", r.Latest.Outcome, cell(r.Latest.Key), r.Latest.At.Format(time.RFC3339))
	}
}

func newTable(out io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	return t
}
