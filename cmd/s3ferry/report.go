package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/report"
)

type reportFlags struct {
	global  linking.Side
	local   string // file, or - for standard input
	logs    string // file, or - for standard input
	metrics bool   // and no receipts
	since   time.Duration
	html    string // file, or - for standard output
}

func newReport() *cobra.Command {
	var f reportFlags
	command := &cobra.Command{
		Use:   "report",
		Short: "Draw what crossed: throughput, lag, outcomes, backlog, what was slow and what failed",
		Long: `Report writes one page of HTML with what became of the transfers of some hours:
throughput, lag, outcomes over time, sizes, the slowest objects and what failed.
The page holds all that it needs and asks no other host for anything.

It is drawn from the receipts that the courier logs: from its log group, which
needs logs:FilterLogEvents, from the laptop cloud, or from a file of its log.

With a profile, CloudWatch's metrics of the same time are on it, too, and the
backlog, which takes cloudwatch:GetMetricData. They stay for 15 months: where the
log has expired, or has more receipts than one wants to read, --metrics-only
draws from them alone.`,
		Example: `  s3ferry report --global-profile global --since 24h --html report.html
  s3ferry report --global-profile global --since 2160h --metrics-only --html report.html
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
	flags.BoolVar(&f.metrics, "metrics-only", false, "leave the log alone, and draw from CloudWatch's metrics")
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
	if f.metrics && f.global.Profile == "" {
		problems = append(problems, errors.New("--metrics-only: got no --global-profile, expected one: the metrics are there"))
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
	ctx, now := cmd.Context(), time.Now()
	receipts := &report.Collection{Since: now.Add(-f.since)}
	var page report.Page
	var sender *reportedSide
	if f.global.Profile != "" {
		var err error
		if sender, err = f.reach(ctx); err != nil {
			return err
		}
	}
	if !f.metrics {
		shown := newCounter(cmd.ErrOrStderr(), "receipts")
		var err error
		page.Source, err = f.read(ctx, cmd.InOrStdin(), sender, receipts.Since, func(r report.Receipt) {
			receipts.Add(r)
			shown.set(int64(receipts.Len()))
		})
		shown.done()
		if err != nil {
			return err
		}
	}
	if receipts.Len() > 0 {
		page.Receipts = new(receipts.Figures())
	}
	if sender != nil {
		if err := sender.draw(ctx, &page, receipts.Since, now); err != nil {
			if page.Receipts == nil {
				return err
			}
			page.Missing = "CloudWatch's metrics are missing: " + err.Error()
			fmt.Fprintln(cmd.ErrOrStderr(), "s3ferry:", page.Missing)
		}
	}
	if page.Receipts == nil && page.Metrics == nil {
		return fmt.Errorf("%s of the last %s in %s: look further back by --since", f.nothing(), f.since, page.Source)
	}
	if f.html == "-" {
		return report.WriteHTML(cmd.OutOrStdout(), page)
	}
	file, err := os.Create(f.html)
	if err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	if err := errors.Join(report.WriteHTML(file, page), file.Close()); err != nil {
		return err
	}
	if r := page.Receipts; r != nil {
		fmt.Fprintf(cmd.OutOrStdout(), "%d receipts, %d copied, %d given up: %s\n", r.Transfers, r.Copied, r.Trouble, f.html)
	} else {
		m := page.Metrics
		fmt.Fprintf(cmd.OutOrStdout(), "from metrics: %d copied, %d given up: %s\n", m.Copied, m.GivenUp, f.html)
	}
	return nil
}

// nothing is what was not found.
func (f *reportFlags) nothing() string {
	switch {
	case f.metrics:
		return "no metrics"
	case f.global.Profile != "":
		return "neither receipts nor metrics"
	}
	return "no receipts"
}

// reportedSide is the sending side as report reaches it.
type reportedSide struct {
	linking.Side

	config  aws.Config
	outputs map[string]string
}

func (f *reportFlags) reach(ctx context.Context) (*reportedSide, error) {
	s := &reportedSide{Side: f.global}
	var err error
	if s.config, err = s.Load(ctx, "global"); err != nil {
		return nil, err
	}
	stack, err := s.Inspect(ctx, s.config, "CourierLogGroupName", "OutboxUrl", "OutboxDeadLetterQueueUrl")
	s.config, s.outputs = patient(s.config), stack.Outputs
	return s, err
}

// draw adds the metrics of a period to the page, if there are any.
func (s *reportedSide) draw(ctx context.Context, page *report.Page, from, to time.Time) error {
	name := s.outputs["SenderName"]
	if name == "" {
		return fmt.Errorf("stack %s has no output SenderName: deploy it with this version of s3ferry", s.Stack)
	}
	m, err := report.FetchMetrics(ctx, cloudwatch.NewFromConfig(s.config), report.Measured{
		Sender: name, Outbox: path.Base(s.outputs["OutboxUrl"]), DeadLetters: path.Base(s.outputs["OutboxDeadLetterQueueUrl"]),
	}, from, to)
	if err != nil {
		return s.Explain("read CloudWatch's metrics", "cloudwatch:GetMetricData", err)
	}
	page.Metrics = m
	if m == nil {
		page.Missing = "CloudWatch has no metrics of this time."
	}
	if page.Source != "" {
		page.Source += " and "
	}
	page.Source += "metrics of " + name
	return nil
}

// read hands the receipts to keep and says in a few words where they are from.
func (f *reportFlags) read(ctx context.Context, stdin io.Reader, sender *reportedSide, since time.Time, keep func(report.Receipt)) (string, error) {
	file := f.logs
	switch {
	case sender != nil:
		group := sender.outputs["CourierLogGroupName"]
		err := report.Fetch(ctx, cloudwatchlogs.NewFromConfig(sender.config), group, since, keep)
		if err != nil {
			err = sender.Explain("read the log of the courier", "logs:FilterLogEvents", err)
		}
		return "log group " + group, err
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
