package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/receiver"
	"github.com/s3ferry/s3ferry/internal/worker"
)

// workerSettings are the flags of a worker and the variables of a receiver that
// they stand for.
var workerSettings = []struct{ flag, variable, initial, usage string }{
	{"name", "S3FERRY_NAME", "worker", "`NAME` in metrics: the receiver's, to be counted with it"},
	{"queue-url", "S3FERRY_INBOX_URL", "", "`URL` of the inbox: output InboxUrl of the receiver's stack"},
	{"dead-letter-url", "S3FERRY_INBOX_DLQ_URL", "", "`URL` of its dead-letter queue: output InboxDeadLetterQueueUrl"},
	{"receipts-url", "S3FERRY_RECEIPTS_URL", "", "`URL` of the receipts queue: output ReceiptsUrl"},
	{"trust-parameter", "S3FERRY_TRUST_PARAMETER", "", "`NAME` of the trust parameter: output TrustParameterName"},
	{"destination-bucket", "S3FERRY_DESTINATION_BUCKET", "", "`BUCKET` that objects go into: output DestinationBucketName"},
	{"journal-bucket", "S3FERRY_JOURNAL_BUCKET", "", "`BUCKET` of the journal: output JournalBucketName"},
	{"strip-prefix", "S3FERRY_STRIP_PREFIX", "", "`PREFIX` to take off keys: as the receiver's"},
	{"add-prefix", "S3FERRY_ADD_PREFIX", "", "`PREFIX` to put before keys: as the receiver's"},
	{"storage-classes", "S3FERRY_STORAGE_CLASSES", "", "storage classes by the source's, `A=B,*=C`: as the receiver's"},
	{"source-networks", "S3FERRY_SOURCE_NETWORKS", "", "private `NETWORKS` in which S3 of the sources may be"},
	{"deletes", "S3FERRY_DELETES", "", "`true` carries deletions, too: as the receiver's"},
	{"tag-changes", "S3FERRY_TAG_CHANGES", "", "`true` carries changes of tags, too: as the receiver's"},
	{"unconditional-writes", "S3FERRY_UNCONDITIONAL_WRITES", "", "`true` if S3 has no conditional writes there: as the receiver's"},
	{"inbox-receives", "S3FERRY_INBOX_RECEIVES", "20", "receives after which SQS gives a message up"},
	{"connections", "S3FERRY_CONNECTIONS", strconv.Itoa(envcfg.DefaultConnections), "ranges pulled at once, at most"},
	{"part-size", "S3FERRY_PART_SIZE", strconv.Itoa(envcfg.DefaultPartSize), "`BYTES` of a part"},
	{"segment-size", "S3FERRY_SEGMENT_SIZE", strconv.Itoa(envcfg.DefaultSegmentSize), "`BYTES` above which an object is shared out over several messages"},
	{"memory", "S3FERRY_MEMORY_BUDGET", strconv.Itoa(envcfg.DefaultMemoryBudgetMiB), "`MiB` for parts of objects"},
}

// workerFlags are what a worker is told, and what that comes to.
type workerFlags struct {
	values      map[string]*string // by variable
	concurrency int
	grace       time.Duration

	env envcfg.Receiver
	aws aws.Config
}

func newWorker() *cobra.Command {
	f := workerFlags{values: map[string]*string{}}
	command := &cobra.Command{
		Use:   "worker",
		Short: "Receive on this machine what else a function would",
		Long: `Worker takes transfers from the inbox and pulls their objects, as the receiver
function does and beside it: with the same messages, journal and receipts, but
without the 15 minutes that a function has. It runs wherever credentials with
the receiver's permissions are; they and the region are found as the AWS CLI
finds them (AWS_REGION, AWS_PROFILE, the role of the instance or task).

Each flag has the variable that the constructs give a receiver, and wins over
it. Logs are JSON, on standard output, as the functions'.

SIGTERM or an interrupt ends it in order: it takes no further message, stores
what was pulled, and hands what is not finished back to the inbox, where another
worker or a function goes on from there.`,
		Example: `  s3ferry worker --queue-url URL --dead-letter-url URL --receipts-url URL \
    --trust-parameter NAME --destination-bucket BUCKET --journal-bucket BUCKET`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(cobra.NoArgs(cmd, args), f.check(cmd))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := command.Flags()
	for _, s := range workerSettings {
		f.values[s.variable] = flags.String(s.flag, s.initial, s.usage+" ("+s.variable+")")
	}
	for _, name := range []string{"deletes", "tag-changes", "unconditional-writes"} {
		flags.Lookup(name).NoOptDefVal = "true"
	}
	flags.IntVar(&f.concurrency, "concurrency", worker.DefaultConcurrency, "messages at once")
	flags.DurationVar(&f.grace, "grace", worker.DefaultGrace, "`TIME` to hand over after SIGTERM")
	return command
}

// check reads flags, variables and the AWS configuration, and says all that is
// wrong with them.
func (f *workerFlags) check(cmd *cobra.Command) error {
	var problems []error
	err := envcfg.Decode(&f.env, func(variable string) (string, bool) {
		for _, s := range workerSettings {
			if given, set := f.values[variable], os.Getenv(variable) != ""; s.variable == variable && (cmd.Flags().Changed(s.flag) || !set) {
				return *given, true
			}
		}
		return os.LookupEnv(variable)
	})
	if err != nil {
		var names []string
		for _, s := range workerSettings {
			names = append(names, s.variable+":", "--"+s.flag+" ("+s.variable+"):")
		}
		_, told, _ := strings.Cut(err.Error(), ": ") // what Decode was about
		problems = append(problems, errors.New(strings.NewReplacer(names...).Replace(told)))
	}
	if f.concurrency < 1 {
		problems = append(problems, fmt.Errorf("--concurrency: got %d, expected 1 or more", f.concurrency))
	}
	if f.grace <= 0 {
		problems = append(problems, fmt.Errorf("--grace: got %s, expected more than 0", f.grace))
	}
	if f.aws, err = config.LoadDefaultConfig(cmd.Context()); err != nil {
		problems = append(problems, fmt.Errorf("load AWS configuration: %w", err))
	} else if f.aws.Region == "" {
		problems = append(problems, errors.New("AWS region: got none, expected the receiver's: set AWS_REGION, or AWS_PROFILE to a profile that has it"))
	}
	return errors.Join(problems...)
}

func (f *workerFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	log := slog.New(obs.Scrub(slog.NewJSONHandler(cmd.OutOrStdout(), &slog.HandlerOptions{ReplaceAttr: lambdacontext.ReplaceAttr})))
	r, err := receiver.New(ctx, f.env, log)
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "worker starts", "queue", f.env.InboxURL, "concurrency", f.concurrency)
	w := worker.Worker{
		SQS: sqs.NewFromConfig(f.aws), QueueURL: f.env.InboxURL, Handle: r.Handle,
		Concurrency: f.concurrency, Grace: f.grace, Log: log,
	}
	return w.Run(ctx)
}
