package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/verify"
)

// examples is how many differences are shown to people.
const examples = 20

// errDifferent and errNotCompared tell the exit codes of verify apart.
var (
	errDifferent   = errors.New("the two sides differ")
	errNotCompared = errors.New("not compared to the end")
)

type verifyFlags struct {
	sides       sidesFlags
	prefix      string
	suffix      string
	strip, add  string
	quick, tags bool
	repair      bool
	deleteExtra bool
	report      string
	lookups     int
	json        bool
}

func newVerify() *cobra.Command {
	var f verifyFlags
	command := &cobra.Command{
		Use:   "verify",
		Short: "Compare both sides, and repair what is missing or stale",
		Long: `Verify lists both buckets and compares each object: presence, size, the version
of the source's object that the destination recorded, and the checksums that both
have; with --tags also tags. --quick leaves it at presence and size, without a
request for each object.

What is under way counts as missing or stale, so it says most while the queues
are empty. --repair puts an event for each of those into the outbox: it comes
after what is at the destination and before whatever S3 tells of next. What only
the destination has is told and left alone, unless --delete-extra is given, which
deletes what the destination recorded as brought from this source bucket. What came
from another source bucket is counted apart, and neither told nor touched.

It exits with 0 if both sides are equal, with 1 if they differ, also after a
repair, and with 2 if it could not compare them to the end; what it found until
then is told, and what it queued stays queued.`,
		Example: `  s3ferry verify --global-profile global --china-profile china --report differences.jsonl
  s3ferry verify --global-profile global --china-profile china --prefix reports/ --repair
  s3ferry verify --local cloud.json --quick --json`,
		Args: func(cmd *cobra.Command, args []string) error { return errors.Join(cobra.NoArgs(cmd, args), f.check()) },
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.sides.register(command)
	f.sides.registerSource(command)
	flags := command.Flags()
	flags.StringVar(&f.prefix, "prefix", "", "only keys of the source that begin with this `TEXT`")
	flags.StringVar(&f.suffix, "suffix", "", "only keys of the source that end in this `TEXT`")
	flags.StringVar(&f.strip, "strip-prefix", "", "`TEXT` that the receiver takes off keys, as it is configured")
	flags.StringVar(&f.add, "add-prefix", "", "`TEXT` that the receiver puts before keys, as it is configured")
	flags.BoolVar(&f.quick, "quick", false, "compare only presence and size")
	flags.BoolVar(&f.tags, "tags", false, "compare tags, too; with --repair both sides must carry changes of tags")
	flags.BoolVar(&f.repair, "repair", false, "queue what is missing or stale")
	flags.BoolVar(&f.deleteExtra, "delete-extra", false, "with --repair: queue a deletion for what came by ferry from this source bucket, and it no longer has; both sides must carry deletions")
	flags.StringVar(&f.report, "report", "", "write the differences as JSON Lines to this `FILE`, or - for standard output")
	flags.IntVar(&f.lookups, "lookups", verify.DefaultLookups, "objects examined at once")
	flags.BoolVar(&f.json, "json", false, "print the summary as JSON")
	return command
}

// check says which flags do not belong together.
func (f *verifyFlags) check() error {
	err := f.sides.check(true)
	if f.deleteExtra && !f.repair {
		err = errors.Join(err, errors.New("--delete-extra: got it without --repair, expected both"))
	}
	if f.quick && f.tags {
		err = errors.Join(err, errors.New("--tags: got it beside --quick, expected one of them"))
	}
	if f.lookups < 1 {
		err = errors.Join(err, fmt.Errorf("--lookups: got %d, expected at least 1", f.lookups))
	}
	return err
}

func (f *verifyFlags) run(cmd *cobra.Command) error {
	summary, shown, err := f.compare(cmd)
	// What was found and queued until an error is told, too.
	switch out := cmd.OutOrStdout(); {
	case err != nil && summary.Objects == 0:
	case f.json:
		err = errors.Join(err, json.NewEncoder(out).Encode(summary))
	default:
		printVerification(out, summary, shown)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotCompared, err)
	}
	switch {
	case summary.Unknown > 0:
		return fmt.Errorf("%w: %d objects that a side does not show", errNotCompared, summary.Unknown)
	case !summary.Same():
		return errDifferent
	}
	return nil
}

// compare returns what was found, and some of the differences.
func (f *verifyFlags) compare(cmd *cobra.Command) (summary verify.Summary, shown []verify.Difference, err error) {
	ctx := cmd.Context()
	global, china, err := f.sides.open(ctx, cmd.InOrStdin())
	if err != nil {
		return summary, nil, err
	}
	lines, closeReport, err := f.openReport(cmd.OutOrStdout())
	if err != nil {
		return summary, nil, err
	}
	count := newCounter(cmd.ErrOrStderr(), "objects compared")
	options := verify.Options{
		Source:      verify.Bucket{S3: global.s3, Name: global.bucket},
		Destination: verify.Bucket{S3: china.s3, Name: china.bucket},
		Region:      global.region, Journal: journal.New(china.s3, china.journal),
		Prefix: f.prefix, Suffix: f.suffix, StripPrefix: f.strip,
		AddPrefix: strings.NewReplacer("{bucket}", global.bucket, "{region}", global.region).Replace(f.add),
		Quick:     f.quick, Tags: f.tags, Lookups: f.lookups,
		Found: func(d verify.Difference) error {
			if len(shown) < examples {
				shown = append(shown, d)
			}
			return lines.Encode(d)
		},
		Progress: func(s verify.Summary) { count.set(s.Objects) },
	}
	if f.repair {
		options.Outbox, options.DeleteExtra = global.queue(), f.deleteExtra
	}
	summary, err = verify.Run(ctx, options)
	count.done()
	return summary, shown, errors.Join(err, closeReport())
}

// openReport returns where differences are written to.
func (f *verifyFlags) openReport(stdout io.Writer) (*json.Encoder, func() error, error) {
	to := io.Discard
	flush := func() error { return nil }
	switch f.report {
	case "":
	case "-":
		to = stdout
	default:
		file, err := os.Create(f.report)
		if err != nil {
			return nil, nil, fmt.Errorf("--report: %w", err)
		}
		buffer := bufio.NewWriter(file)
		to, flush = buffer, func() error { return errors.Join(buffer.Flush(), file.Close()) }
	}
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	return encoder, flush, nil
}

func printVerification(out io.Writer, s verify.Summary, shown []verify.Difference) {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	if len(shown) > 0 {
		t.AppendHeader(table.Row{"difference", "key", "reason"})
		for _, d := range shown {
			t.AppendRow(table.Row{d.Kind, cell(d.Key), cell(d.Reason)})
		}
		fmt.Fprintln(out, t.Render())
		if more := s.Missing + s.Stale + s.Extra + s.Unknown - int64(len(shown)); more > 0 {
			fmt.Fprintf(out, "and %d more\n", more)
		}
	}
	fmt.Fprintf(out, "%d objects of %d bytes: %d equal (%d by checksum), %d missing, %d stale, %d extra, %d unknown\n",
		s.Objects, s.Bytes, s.Equal, s.Proved, s.Missing, s.Stale, s.Extra, s.Unknown)
	if s.Elsewhere > 0 {
		fmt.Fprintf(out, "%d objects came from other source buckets\n", s.Elsewhere)
	}
	if s.Queued > 0 {
		fmt.Fprintf(out, "%d repairs queued\n", s.Queued)
	}
}
