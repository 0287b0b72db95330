package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

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

func newWorker() *cobra.Command {
	var concurrency int
	var grace time.Duration
	values := map[string]*string{} // by variable
	command := &cobra.Command{
		Use:   "worker",
		Short: "Receive on this machine what else a function would",
		Long: `Worker takes transfers from the inbox and pulls their objects, as the receiver
function does and beside it: with the same messages, journal and receipts, but
without the 15 minutes that a function has. It runs wherever credentials with
the receiver's permissions are.

Each flag has the variable that the constructs give a receiver, and wins over
it. Logs are JSON, on standard output.

SIGTERM or an interrupt ends it in order: it takes no further message, stores
what was pulled, and hands what is not finished back to the inbox, where another
worker or a function goes on from there.`,
		Example: `  s3ferry worker --queue-url URL --dead-letter-url URL --receipts-url URL \
    --trust-parameter NAME --destination-bucket BUCKET --journal-bucket BUCKET`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var env envcfg.Receiver
			err := envcfg.Decode(&env, func(variable string) (string, bool) {
				for _, s := range workerSettings {
					if given, set := values[variable], os.Getenv(variable) != ""; s.variable == variable && (cmd.Flags().Changed(s.flag) || !set) {
						return *given, true
					}
				}
				return os.LookupEnv(variable)
			})
			if err != nil {
				return fmt.Errorf("%w: each variable is a flag, too: see --help", err)
			}
			return runWorker(cmd, env, concurrency, grace)
		},
	}
	flags := command.Flags()
	for _, s := range workerSettings {
		values[s.variable] = flags.String(s.flag, s.initial, s.usage+" ("+s.variable+")")
	}
	flags.IntVar(&concurrency, "concurrency", worker.DefaultConcurrency, "messages at once")
	flags.DurationVar(&grace, "grace", worker.DefaultGrace, "`TIME` to hand over after SIGTERM")
	return command
}

func runWorker(cmd *cobra.Command, env envcfg.Receiver, concurrency int, grace time.Duration) error {
	if concurrency < 1 || grace <= 0 {
		return fmt.Errorf("--concurrency: got %d, --grace: got %s, expected both above 0", concurrency, grace)
	}
	ctx := cmd.Context()
	log := slog.New(obs.Scrub(slog.NewJSONHandler(cmd.OutOrStdout(), nil)))
	r, err := receiver.New(ctx, env, log)
	if err != nil {
		return err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("load AWS configuration: %w", err)
	}
	log.InfoContext(ctx, "worker starts", "queue", env.InboxURL, "concurrency", concurrency)
	w := worker.Worker{
		SQS: sqs.NewFromConfig(cfg), QueueURL: env.InboxURL, Handle: r.Handle,
		Concurrency: concurrency, Grace: grace, Log: log,
	}
	return w.Run(ctx)
}
