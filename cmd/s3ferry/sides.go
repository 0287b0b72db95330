package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/outbox"
	"github.com/s3ferry/s3ferry/internal/report"
	"github.com/s3ferry/s3ferry/internal/wire"
)

const (
	// attempts is how often the SDK makes a call: with pauses of up to 20 s between
	// them, a repair outlasts a border that is closed for a minute.
	attempts = 16
	// answerTime is how long a service may take to answer a request that it has in
	// full: three times a long poll of SQS.
	answerTime = time.Minute
)

// patient returns cfg for clients that outlast a bad border. The SDK's own quota of
// retries is one for all calls of a client, so that those of a hundred lookups at
// once would use it up within seconds.
func patient(cfg aws.Config) aws.Config {
	cfg.RetryMaxAttempts = attempts
	cfg.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.RateLimiter = ratelimit.None })
	}
	if client, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = client.WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = answerTime })
	}
	return cfg
}

// sidesFlags say where the two sides are: two profiles, or what `s3ferry local`
// has printed.
type sidesFlags struct {
	local         string // file, or - for standard input
	global, china linking.Side
	source        string // bucket; "": the one that the sender's stack names
}

// registerSource adds the flag for a sender of several buckets.
func (f *sidesFlags) registerSource(command *cobra.Command) {
	command.Flags().StringVar(&f.source, "source-bucket", "", "source `BUCKET` (default: the one that the sender's stack names)")
}

func (f *sidesFlags) register(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.local, "local", "", "the laptop cloud that printed this `FILE`, or - for standard input")
	for _, side := range []struct {
		name, what, stack string
		to                *linking.Side
	}{
		{"global", "sender", linking.GlobalStack, &f.global}, {"china", "receiver", linking.ChinaStack, &f.china},
	} {
		flags.StringVar(&side.to.Profile, side.name+"-profile", "", "AWS `PROFILE` of the "+side.what)
		flags.StringVar(&side.to.Region, side.name+"-region", "", "region of the "+side.what+"'s stack (default: the profile's)")
		flags.StringVar(&side.to.Stack, side.name+"-stack", side.stack, "the "+side.what+"'s stack")
	}
}

// check says which flags are missing or do not belong together. The receiving
// side may be left out where it is not needed.
func (f *sidesFlags) check(needsChina bool) error {
	global, china := f.global.Profile != "", f.china.Profile != ""
	switch {
	case f.local != "" && (global || china):
		return errors.New("--local goes with neither --global-profile nor --china-profile")
	case f.local != "":
		return nil
	case !global && !china:
		return errors.New("got neither --local nor a profile: give the file that `s3ferry local` has printed, or profiles")
	case !global:
		return errors.New("--global-profile: got nothing, expected the profile of the sender")
	case !china && needsChina:
		return errors.New("--china-profile: got nothing, expected the profile of the receiver")
	}
	return nil
}

// sending is the sending side as the repair commands reach it.
type sending struct {
	s3             *s3.Client
	sqs            *sqs.Client
	bucket, region string // of the source
	outbox         string // URL
	deadLetters    string // URL
}

func (s *sending) queue() *outbox.Outbox { return &outbox.Outbox{SQS: s.sqs, URL: s.outbox} }

// receiving is the receiving side as the repair commands reach it.
type receiving struct {
	s3              *s3.Client
	sqs             *sqs.Client
	ssm             *ssm.Client
	bucket, journal string
	trustParameter  string
	deadLetters     string // URL
}

// trust reads the trust document.
func (r *receiving) trust(ctx context.Context) (link.Trust, error) {
	out, err := r.ssm.GetParameter(ctx, &ssm.GetParameterInput{Name: &r.trustParameter})
	if err != nil {
		return link.Trust{}, fmt.Errorf("read trust document %s: %w", r.trustParameter, err)
	}
	return link.DecodeTrust([]byte(aws.ToString(out.Parameter.Value)), time.Now())
}

// open reaches both sides.
func (f *sidesFlags) open(ctx context.Context, stdin io.Reader) (*sending, *receiving, error) {
	if f.local != "" {
		return f.openLocal(stdin)
	}
	s, sendErr := f.openSending(ctx, nil)
	r, receiveErr := f.openReceiving(ctx)
	if err := errors.Join(sendErr, receiveErr); err != nil {
		return nil, nil, err
	}
	return s, r, nil
}

// openSending reaches the sending side alone.
func (f *sidesFlags) openSending(ctx context.Context, stdin io.Reader) (*sending, error) {
	if f.local != "" {
		s, _, err := f.openLocal(stdin)
		return s, err
	}
	f.global.Other = f.china.Stack
	cfg, outputs, err := linking.ReachGlobal(ctx, f.global,
		"SourceBucketName", "SourceBucketRegion", "OutboxUrl", "OutboxDeadLetterQueueUrl")
	if err != nil {
		return nil, err
	}
	cfg = patient(cfg)
	return &sending{
		s3: s3.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg),
		bucket: cmp.Or(f.source, outputs["SourceBucketName"]), region: outputs["SourceBucketRegion"],
		outbox: outputs["OutboxUrl"], deadLetters: outputs["OutboxDeadLetterQueueUrl"],
	}, nil
}

func (f *sidesFlags) openReceiving(ctx context.Context) (*receiving, error) {
	f.china.Other = f.global.Stack
	cfg, outputs, err := linking.ReachChina(ctx, f.china,
		"DestinationBucketName", "JournalBucketName", "TrustParameterName", "InboxDeadLetterQueueUrl")
	if err != nil {
		return nil, err
	}
	cfg = patient(cfg)
	return &receiving{
		s3: s3.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg), ssm: ssm.NewFromConfig(cfg),
		bucket: outputs["DestinationBucketName"], journal: outputs["JournalBucketName"],
		trustParameter: outputs["TrustParameterName"], deadLetters: outputs["InboxDeadLetterQueueUrl"],
	}, nil
}

// describeLocal reads what `s3ferry local` has printed into file, or into
// standard input if that is "-".
func describeLocal(file string, stdin io.Reader) (localcloud.Description, error) {
	var line []byte
	var err error
	if file == "-" {
		line, err = io.ReadAll(stdin)
	} else {
		line, err = os.ReadFile(file) //nolint:gosec // the operator names it
	}
	if err != nil {
		return localcloud.Description{}, fmt.Errorf("--local: %w", err)
	}
	var d localcloud.Description
	if err := json.NewDecoder(bytes.NewReader(line)).Decode(&d); err != nil {
		return localcloud.Description{}, fmt.Errorf("--local: read the line that `s3ferry local` prints: %w", err)
	}
	var missing []string
	for _, member := range [][2]string{
		{"source.endpoint", d.Source.Endpoint}, {"source.bucket", d.Source.Bucket}, {"source.region", d.Source.Region},
		{"source.accessKeyId", d.Source.AccessKeyID}, {"source.secretAccessKey", d.Source.SecretAccessKey},
		{"destination.endpoint", d.Destination.Endpoint}, {"destination.bucket", d.Destination.Bucket}, {"destination.region", d.Destination.Region},
		{"destination.accessKeyId", d.Destination.AccessKeyID}, {"destination.secretAccessKey", d.Destination.SecretAccessKey},
		{"sqs.endpoint", d.SQS.Endpoint}, {"sqs.region", d.SQS.Region},
		{"sqs.accessKeyId", d.SQS.AccessKeyID}, {"sqs.secretAccessKey", d.SQS.SecretAccessKey},
		{"sqs.queues.outbox", d.SQS.Queues.Outbox}, {"sqs.queues.outboxDlq", d.SQS.Queues.OutboxDLQ}, {"sqs.queues.inboxDlq", d.SQS.Queues.InboxDLQ},
	} {
		if member[1] == "" {
			missing = append(missing, member[0])
		}
	}
	if missing != nil {
		return localcloud.Description{}, fmt.Errorf("--local: got no %s, expected the line that `s3ferry local` prints", strings.Join(missing, ", "))
	}
	return d, nil
}

// located is a side and how it is reached.
type located struct {
	linking.Side

	config aws.Config
	logs   string // file with the functions' logs, of a laptop cloud
}

// receipts reads what the courier has logged. A file is read whole.
func (l located) receipts(ctx context.Context, since time.Time, keep func(report.Receipt), only ...wire.Outcome) (bool, error) {
	if l.logs != "" {
		file, err := os.Open(l.logs)
		if err != nil {
			return false, err
		}
		defer func() { _ = file.Close() }()
		return true, report.Read(file, keep)
	}
	stack, err := l.Inspect(ctx, l.config)
	if err != nil || stack.Outputs["CourierLogGroupName"] == "" {
		return false, err // a laptop cloud or an older stack
	}
	err = report.Fetch(ctx, cloudwatchlogs.NewFromConfig(l.config), stack.Outputs["CourierLogGroupName"], since, keep, only...)
	if err != nil {
		err = l.Explain("read the log of the courier", "logs:FilterLogEvents", err)
	}
	return true, err
}

// locate finds both sides and asks neither.
func (f *sidesFlags) locate(ctx context.Context, stdin io.Reader) (global, china located, err error) {
	global.Side, china.Side = f.global, f.china
	global.Other, china.Other = china.Stack, global.Stack
	if f.local == "" {
		var errs [2]error
		global.config, errs[0] = global.Load(ctx, "global")
		china.config, errs[1] = china.Load(ctx, "china")
		return global, china, errors.Join(errs[:]...)
	}
	d, err := describeLocal(f.local, stdin)
	for side, region := range map[*located]string{&global: d.Source.Region, &china: d.Destination.Region} {
		side.Profile, side.Region = "laptop", region
		side.config = localConfig(d.SQS.Endpoint, region, d.SQS.AccessKeyID, d.SQS.SecretAccessKey)
	}
	global.logs = d.Logs
	return global, china, err
}

func (f *sidesFlags) openLocal(stdin io.Reader) (*sending, *receiving, error) {
	d, err := describeLocal(f.local, stdin)
	if err != nil {
		return nil, nil, err
	}
	queues := localConfig(d.SQS.Endpoint, d.SQS.Region, d.SQS.AccessKeyID, d.SQS.SecretAccessKey)
	return &sending{
			s3: localBucket(d.Source), sqs: sqs.NewFromConfig(queues),
			bucket: cmp.Or(f.source, d.Source.Bucket), region: d.Source.Region,
			outbox: d.SQS.Queues.Outbox, deadLetters: d.SQS.Queues.OutboxDLQ,
		}, &receiving{
			s3: localBucket(d.Destination), sqs: sqs.NewFromConfig(queues), ssm: ssm.NewFromConfig(queues),
			bucket: d.Destination.Bucket, journal: localcloud.JournalBucket,
			trustParameter: localcloud.TrustParameter, deadLetters: d.SQS.Queues.InboxDLQ,
		}, nil
}

func localBucket(b localcloud.Bucket) *s3.Client {
	return s3.NewFromConfig(localConfig(b.Endpoint, b.Region, b.AccessKeyID, b.SecretAccessKey),
		func(o *s3.Options) { o.UsePathStyle = true })
}

func localConfig(endpoint, region, key, secretKey string) aws.Config {
	return aws.Config{
		BaseEndpoint: &endpoint, Region: region,
		Credentials: credentials.NewStaticCredentialsProvider(key, secretKey, ""),
	}
}
