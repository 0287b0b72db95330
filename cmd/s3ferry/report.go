package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/report"
)

type reportFlags struct {
	global linking.Side
	local  string // file, or - for standard input
	logs   string // file, or - for standard input
	since  time.Duration
	html   string // file, or - for standard output
}

func newReport() *cobra.Command {
	var f reportFlags
	command := &cobra.Command{
		Use:   "report",
		Short: "Draw what crossed: throughput, lag, outcomes, sizes, what was slow and what failed",
		Long: `Report writes one page of HTML with what became of the transfers of some hours:
throughput, lag, outcomes over time, sizes, the slowest objects and what failed.
The page holds all that it needs and asks no other host for anything.

It is drawn from the receipts that the courier logs: from its log group, which
needs logs:FilterLogEvents, from the laptop cloud, or from a file of its log.`,
		Example: `  s3ferry report --global-profile global --since 24h --html report.html
  s3ferry report --local cloud.json --html report.html
  s3ferry report --logs functions.log --html report.html`,
		Args: func(cmd *cobra.Command, args []string) error { return errors.Join(cobra.NoArgs(cmd, args), f.check()) },
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := command.Flags()
	flags.StringVar(&f.global.Profile, "global-profile", "", "AWS `PROFILE` of the sender")
	flags.StringVar(&f.global.Region, "global-region", "", "region of the sender's stack (default: the profile's)")
	flags.StringVar(&f.global.Stack, "global-stack", linking.GlobalStack, "the sender's stack")
	flags.StringVar(&f.local, "local", "", "the laptop cloud that printed this `FILE`, or - for standard input")
	flags.StringVar(&f.logs, "logs", "", "`FILE` of the courier's log, one JSON object a line, or - for standard input")
	flags.DurationVar(&f.since, "since", 24*time.Hour, "how far to look back")
	flags.StringVar(&f.html, "html", "", "`FILE` for the page, or - for standard output")
	return command
}

// check says which flags are missing or do not belong together.
func (f *reportFlags) check() error {
	var problems []error
	sources := 0
	for _, flag := range []string{f.global.Profile, f.local, f.logs} {
		if flag != "" {
			sources++
		}
	}
	if sources != 1 {
		problems = append(problems, fmt.Errorf("got %d of --global-profile, --local and --logs, expected one: the receipts are there", sources))
	}
	if f.html == "" {
		problems = append(problems, errors.New("--html: got nothing, expected a file, or - for standard output"))
	}
	if f.since <= 0 {
		problems = append(problems, fmt.Errorf("--since: got %s, expected more than 0, such as 24h", f.since))
	}
	return errors.Join(problems...)
}

func (f *reportFlags) run(cmd *cobra.Command) error {
	receipts := &report.Collection{Since: time.Now().Add(-f.since)}
	shown := newCounter(cmd.ErrOrStderr(), "receipts")
	source, err := f.read(cmd.Context(), cmd.InOrStdin(), receipts.Since, func(r report.Receipt) {
		receipts.Add(r)
		shown.set(int64(receipts.Len()))
	})
	shown.done()
	if err != nil {
		return err
	}
	if receipts.Len() == 0 {
		return fmt.Errorf("no receipts of the last %s in %s: look further back by --since", f.since, source)
	}
	figures := receipts.Figures()
	if f.html == "-" {
		return report.WriteHTML(cmd.OutOrStdout(), figures, source)
	}
	file, err := os.Create(f.html)
	if err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	if err := errors.Join(report.WriteHTML(file, figures, source), file.Close()); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d receipts, %d copied, %d given up: %s\n", figures.Transfers, figures.Copied, figures.Trouble, f.html)
	return nil
}

// read hands the receipts to keep and says in a few words where they are from.
func (f *reportFlags) read(ctx context.Context, stdin io.Reader, since time.Time, keep func(report.Receipt)) (string, error) {
	file := f.logs
	switch {
	case f.global.Profile != "":
		cfg, outputs, err := linking.ReachGlobal(ctx, f.global, "CourierLogGroupName")
		if err != nil {
			return "", err
		}
		cfg.RetryMaxAttempts = attempts
		group := outputs["CourierLogGroupName"]
		return "log group " + group, report.Fetch(ctx, cloudwatchlogs.NewFromConfig(cfg), group, since, keep)
	case f.local != "":
		cloud, err := describeLocal(f.local, stdin)
		if err != nil {
			return "", err
		}
		if file = cloud.Logs; file == "" {
			return "", errors.New("--local: this laptop cloud printed its logs (--verbose): give the file they went to by --logs")
		}
	case f.logs == "-":
		return "standard input", report.Read(stdin, keep)
	}
	log, err := os.Open(file) //nolint:gosec // the operator names it
	if err != nil {
		return "", fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	return filepath.Base(file), report.Read(log, keep)
}
