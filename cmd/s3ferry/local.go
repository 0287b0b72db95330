package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/live"
	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// stopTime bounds the orderly end of a laptop cloud.
const stopTime = 30 * time.Second

func newLocal() *cobra.Command {
	var (
		options   localcloud.Options
		variables []string
		verbose   bool
		view      viewFlags
	)
	command := &cobra.Command{
		Use:   "local",
		Short: "Run both partitions on this machine until interrupted",
		Long: `Local runs both partitions on this machine: two S3 servers, the queues, the
mailbox API, and the real Lambda functions between them. When all is up it
prints one line of JSON with every address and key. Whatever any S3 client then
puts into the source bucket (path style) arrives in the destination bucket.

Everything listens on 127.0.0.1. An interrupt stops it and prints totals.`,
		Example: `  s3ferry local --dir ./state --source-port 9000
  aws --endpoint-url http://127.0.0.1:9000 s3 cp ./photos s3://source/ --recursive`,
		Args: func(cmd *cobra.Command, args []string) error {
			err := cobra.NoArgs(cmd, args)
			if view.port != 0 && !view.on {
				err = errors.Join(err, fmt.Errorf("--ui-port: got %d without --ui, expected both: add --ui", view.port))
			}
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verbose {
				options.Logs = cmd.ErrOrStderr()
			}
			options.Env = map[string]string{}
			for _, variable := range variables {
				name, value, ok := strings.Cut(variable, "=")
				if !ok || name == "" {
					return fmt.Errorf("read --env: got %q, expected NAME=VALUE", variable)
				}
				options.Env[name] = value
			}
			return runLocal(cmd, options, view)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.Dir, "dir", "", "directory for objects and logs (default: a temporary one, removed at the end)")
	flags.IntVar(&options.SourcePort, "source-port", 0, "port of the source S3 server (default: a free one)")
	flags.IntVar(&options.DestPort, "dest-port", 0, "port of the destination S3 server (default: a free one)")
	flags.IntVar(&options.APIPort, "api-port", 0, "port of the mailbox API (default: a free one)")
	flags.StringVar(&options.PresignEndpoint, "presign-endpoint", "", "`URL` that goes into signed URLs instead of the source's: scheme, IP address or localhost, port")
	flags.Var((*authorization)(&options.IAM), "authorization", authorizationUsage)
	flags.IntVar(&options.Quota, "quota", 0, "requests a day that the mailbox API takes, as china.quota (default: any number)")
	flags.BoolVar(&options.Deletes, "deletes", false, "carry deletions, too")
	flags.BoolVar(&options.TagChanges, "tag-changes", false, "carry changes of tags, too")
	flags.BoolVar(&options.NoReceiver, "no-receiver", false, "leave the inbox to a worker: see 's3ferry worker'")
	flags.IntVar(&options.ReceiverConcurrency, "receiver-concurrency", 4, "receivers at once")
	flags.DurationVar(&options.URLLife, "url-life", 15*time.Minute, "`LIFE` of signed URLs")
	flags.StringArrayVar(&variables, "env", nil, "variable `NAME=VALUE` of the functions, such as S3FERRY_ADD_PREFIX=in/; may be repeated")
	flags.BoolVar(&view.on, "ui", false, "show it live in a browser, with faults to switch on")
	flags.IntVar(&view.port, "ui-port", 0, "port of the live view (default: a free one)")
	flags.BoolVar(&verbose, "verbose", false, "print the functions' logs to standard error instead of DIR/"+localcloud.LogFile)
	return command
}

// authorization is the flag of what the mailbox API asks of a request beside its
// key: true is IAM.
type authorization bool

func (a *authorization) String() string {
	if *a {
		return "iam"
	}
	return "apiKey"
}

func (a *authorization) Set(text string) error {
	switch text {
	case "apiKey", "iam":
		*a = text == "iam"
		return nil
	}
	return errors.New("expected apiKey or iam")
}

func (*authorization) Type() string { return "MODE" }

const authorizationUsage = "of the mailbox API: apiKey, or iam, which asks for signed requests, too"

// viewFlags say whether and where the cloud is shown.
type viewFlags struct {
	on   bool
	port int
}

// announcement is the line that local prints.
type announcement struct {
	localcloud.Description
	UI string `json:"ui,omitempty"` // address of the live view
}

func runLocal(cmd *cobra.Command, options localcloud.Options, view viewFlags) error {
	ctx := cmd.Context()
	options.Gated = view.on
	tellPerson(cmd, "Building the functions and starting both sides; the first time takes a minute.")
	cloud, err := localcloud.Start(ctx, options)
	if err != nil {
		return err
	}
	err = present(cmd, cloud, view)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	totals, stopErr := cloud.Stop(stopCtx)
	fmt.Fprintln(cmd.ErrOrStderr(), totals)
	if err != nil {
		return err
	}
	return stopErr
}

// present announces a cloud, with its live view if there shall be one, and
// returns when it is interrupted or breaks.
func present(cmd *cobra.Command, cloud *localcloud.Cloud, flags viewFlags) error {
	line := announcement{Description: cloud.Description}
	if flags.on {
		view, err := live.Start(cloud, flags.port)
		if err != nil {
			return err
		}
		defer func() { _ = view.Close() }()
		line.UI = view.URL
		tellPerson(cmd, "Look at it: "+view.URL)
	}
	if err := json.NewEncoder(cmd.OutOrStdout()).Encode(line); err != nil {
		return err
	}
	select {
	case <-cmd.Context().Done():
		return nil
	case err := <-cloud.Failed():
		return err
	}
}
