// Command s3ferry is the operator's tool.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/internal/version"
)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitNotCompared = exitUsage // verify has no answer, whatever the reason
	exitUnreachable = exitUsage // of status
	exitInterrupted = 130       // as a shell reports SIGINT
)

func main() {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end, the second one does not ask.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, newRoot(), os.Args[1:]))
}

// run runs the command line and returns the exit code.
func run(ctx context.Context, root *cobra.Command, args []string) int {
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitInterrupted
	}
	fmt.Fprintln(root.ErrOrStderr(), "s3ferry:", printable(err.Error()))
	if !started {
		fmt.Fprintln(root.ErrOrStderr(), "Run with --help to see the usage.")
		return exitUsage
	}
	switch {
	case errors.Is(err, errNotCompared):
		return exitNotCompared
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "s3ferry",
		Short: "Carry S3 objects between AWS partitions that share no credentials",
		Example: `  # The whole path on this machine, no account needed:
  s3ferry local

  # The same around a workload, compared byte for byte:
  s3ferry demo`,
		Version:       version.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newLocal(), newDemo(), newLink(), newBackfill(), newVerify(), newRedrive(), newReport(), newCost(), newStatus(), newWorker())
	return root
}
