package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/s3ferry/s3ferry/internal/demo"
	"github.com/s3ferry/s3ferry/internal/localcloud"
)

type demoFlags struct {
	from        string
	objects     int
	size, large int64
	iam         bool
	json        bool
}

func newDemo() *cobra.Command {
	var f demoFlags
	command := &cobra.Command{
		Use:   "demo",
		Short: "Carry a workload through the whole path on this machine and compare both sides",
		Long: `Demo runs what 'local' runs, puts objects into the source bucket, waits until
all have arrived, and then compares every object on both sides byte for byte,
with its headers, metadata and tags. It exits with 0 only if all agree.

The workload has small objects with awkward keys, an empty one, a large one, one
that is overwritten while it is on its way, and some that are deleted once they
have arrived; or it is a directory of yours.`,
		Example: `  s3ferry demo
  s3ferry demo --from ./photos
  s3ferry demo --objects 1000 --size 4096 --large 0 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd, f) },
	}
	flags := command.Flags()
	flags.StringVar(&f.from, "from", "", "carry the files of this `DIR` instead")
	flags.IntVar(&f.objects, "objects", 200, "number of small objects")
	flags.Int64Var(&f.size, "size", 16<<10, "`BYTES` of a small object")
	flags.Int64Var(&f.large, "large", 256<<20, "`BYTES` of the large object; 0 for none")
	flags.Var((*authorization)(&f.iam), "authorization", authorizationUsage)
	flags.BoolVar(&f.json, "json", false, "print the report as JSON")
	command.MarkFlagsMutuallyExclusive("from", "objects")
	command.MarkFlagsMutuallyExclusive("from", "size")
	command.MarkFlagsMutuallyExclusive("from", "large")
	return command
}

func (f demoFlags) workload() ([]demo.Object, error) {
	if f.from != "" {
		return demo.Directory(f.from)
	}
	var problems []error
	for _, flag := range []struct {
		name string
		got  int64
	}{{"objects", int64(f.objects)}, {"size", f.size}, {"large", f.large}} {
		if flag.got < 0 {
			problems = append(problems, fmt.Errorf("--%s: got %d, expected 0 or more", flag.name, flag.got))
		}
	}
	return demo.Workload(f.objects, f.size, f.large), errors.Join(problems...)
}

func runDemo(cmd *cobra.Command, f demoFlags) (err error) {
	objects, err := f.workload()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	tellPerson(cmd, "Building the functions and starting both sides; the first time takes a minute.")
	cloud, err := localcloud.Start(ctx, localcloud.Options{IAM: f.iam, Deletes: true})
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		_, stopErr := cloud.Stop(stopCtx)
		err = errors.Join(err, stopErr)
	}()

	arrived, done := showArrivals(cmd.ErrOrStderr(), objects)
	report, err := demo.Run(ctx, side(cloud.Source), side(cloud.Destination), objects, demo.Options{Arrived: arrived})
	done()
	if err != nil {
		return err
	}
	if f.json {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
	} else {
		printReport(cmd.OutOrStdout(), report)
	}
	return errors.Join(err, report.OK())
}

func side(b localcloud.Bucket) demo.Side {
	return demo.Side{Bucket: b.Bucket, S3: s3.New(s3.Options{
		Region: b.Region, BaseEndpoint: &b.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.AccessKeyID, b.SecretAccessKey, ""),
	})}
}

// isTerminal reports whether a person is looking at out.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// tellPerson says what takes long, to a person only.
func tellPerson(cmd *cobra.Command, what string) {
	if out := cmd.ErrOrStderr(); isTerminal(out) {
		fmt.Fprintln(out, what)
	}
}

// showArrivals draws a bar for what has arrived, if out is a terminal.
func showArrivals(out io.Writer, objects []demo.Object) (arrived func(int, int64), done func()) {
	if !isTerminal(out) {
		return nil, func() {}
	}
	var total int64
	for _, o := range objects {
		total += o.Size
	}
	bar := &progress.Tracker{Message: "crossing", Total: total, Units: progress.UnitsBytes}
	bars := progress.NewWriter()
	bars.SetOutputWriter(out)
	bars.SetAutoStop(false)
	bars.SetUpdateFrequency(100 * time.Millisecond)
	bars.Style().Visibility.Speed = true
	bars.AppendTracker(bar)
	go bars.Render()
	return func(n int, bytes int64) {
			bar.UpdateMessage(fmt.Sprintf("%d of %d objects", n, len(objects)))
			bar.SetValue(bytes)
		}, func() {
			bars.Stop()
			for bars.IsRenderInProgress() {
				time.Sleep(10 * time.Millisecond)
			}
		}
}

func printReport(out io.Writer, r demo.Report) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Format.Footer = text.FormatDefault
	t.AppendHeader(table.Row{"objects", "count", "bytes", "agree"})
	for _, row := range r.Rows {
		t.AppendRow(table.Row{row.Kind, row.Objects, row.Bytes, row.Agree})
	}
	t.AppendFooter(table.Row{"all", r.Objects, r.Bytes, r.Agree})
	t.Render()
	fmt.Fprintf(out, "%.1f s from the first put to the last arrival: %.1f objects/s, %.1f MB/s\n",
		r.TotalSeconds, float64(r.Objects)/r.TotalSeconds, float64(r.Bytes)/1e6/r.TotalSeconds)
	if r.Overwritten > 0 {
		fmt.Fprintf(out, "%d overwritten in flight; the newer edition is at the destination\n", r.Overwritten)
	}
	if r.Deleted > 0 {
		fmt.Fprintf(out, "%d deleted after they had arrived; the destination has none of them\n", r.Deleted)
	}
	for _, difference := range r.Differences {
		fmt.Fprintln(out, "DIFFERENT", difference)
	}
}
