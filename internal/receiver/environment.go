package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/guard"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/transfer"
)

// How long the trust document is believed: a removed key is refused after
// trustLife, and a new one is known at once, but garbage cannot make the
// receiver read more often than every trustPause.
const (
	trustLife  = time.Minute
	trustPause = 5 * time.Second
)

const (
	// uploads is how many connections to the destination are kept: about as many
	// as there are part buffers.
	uploads = 64
	// answerTime is how long a service may take to answer a request that it has in
	// full, so that one that is lost without a word takes minutes, not all there are.
	// S3 answers a long Complete at once and goes on sending spaces.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
	answerTime = 2 * time.Minute
	// overhead is what connections and the rest take beside the buffers.
	overhead = 192 << 20
)

// FromEnvironment returns a Receiver as envcfg.Receiver and the AWS SDK's own
// variables describe it. It makes no call.
func FromEnvironment(ctx context.Context) (*Receiver, error) {
	var env envcfg.Receiver
	if err := envcfg.Decode(&env, os.LookupEnv); err != nil {
		return nil, err
	}
	return New(ctx, env, obs.Logger())
}

// New is FromEnvironment with the settings and the log given.
func New(ctx context.Context, env envcfg.Receiver, log *slog.Logger) (*Receiver, error) {
	if err := checkSizes(env); err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(httpClient(answerTime)))
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	door, err := guard.New(guard.Options{Networks: env.SourceNetworks, TestSourceEndpoint: env.TestSourceEndpoint})
	if err != nil {
		return nil, err
	}
	// The collector would otherwise let garbage grow to the size of the buffers.
	debug.SetMemoryLimit(env.MemoryMiB<<20 + overhead)
	var (
		objects = s3.NewFromConfig(cfg)
		queues  = sqs.NewFromConfig(cfg)
		params  = ssm.NewFromConfig(cfg)
	)
	entries := journal.New(objects, env.JournalBucket)
	entries.Unconditional = env.Unconditional
	return &Receiver{
		Engine: transfer.New(transfer.Options{
			S3: objects, Bucket: env.DestinationBucket,
			Journal: entries,
			HTTP:    door.Client(),
			Deletes: env.Deletes, TagChanges: env.TagChanges, HeadThenWrite: env.Unconditional,
			Mapping:     transfer.Mapping{StripPrefix: env.StripPrefix, AddPrefix: env.AddPrefix, StorageClasses: env.StorageClasses},
			Connections: env.Connections, PartSize: env.PartSize, SegmentSize: env.SegmentSize, Memory: env.MemoryMiB << 20,
		}),
		Guard: door,
		Trust: &link.Cache[link.Trust]{
			Life: trustLife, Pause: trustPause,
			Fetch: func(ctx context.Context) (link.Trust, error) { return readTrust(ctx, params, env.TrustParameter) },
		},
		Inbox:       &settle.Queue{SQS: queues, URL: env.InboxURL, DeadLetterURL: env.InboxDLQURL, Log: log},
		SQS:         queues,
		ReceiptsURL: env.ReceiptsURL,
		Deletes:     env.Deletes,
		TagChanges:  env.TagChanges,
		MaxReceives: env.InboxReceives,
		Log:         log,
		Name:        env.Name,
	}, nil
}

// Sizes of a part of a multipart upload, but for the last.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const (
	minPart = 5 << 20
	maxPart = 5 << 30
)

func checkSizes(env envcfg.Receiver) error {
	var problems []error
	if env.PartSize < minPart || env.PartSize > maxPart {
		problems = append(problems, fmt.Errorf("part size: got %d bytes, expected %d to %d, which S3 takes", env.PartSize, minPart, maxPart))
	}
	if env.MemoryMiB<<20 < minPart {
		problems = append(problems, fmt.Errorf("memory budget: got %d MiB, expected at least %d, the smallest part", env.MemoryMiB, minPart>>20))
	}
	return errors.Join(problems...)
}

// httpClient returns what carries the calls of AWS.
func httpClient(answerTime time.Duration) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = uploads
		t.ResponseHeaderTimeout = answerTime
	})
}

func readTrust(ctx context.Context, params *ssm.Client, name string) (link.Trust, error) {
	out, err := params.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(name)})
	if err != nil {
		return link.Trust{}, fmt.Errorf("get parameter %s: %w", name, err)
	}
	return link.DecodeTrust([]byte(aws.ToString(out.Parameter.Value)), time.Now())
}
