package localcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/localcloud/lambda"
)

// The functions and their limits.
const (
	Sender   = "sender"
	Receiver = "receiver"
	Courier  = "courier"

	senderTimeout   = time.Minute
	receiverTimeout = 15 * time.Minute
	courierTimeout  = time.Minute

	senderConcurrency = 2
	memoryMiB         = 2048
	batchSize         = 10

	linkSecret = "s3ferry-link"
)

const functionsPath = "github.com/s3ferry/s3ferry/functions/"

// BuildFunctions compiles the three functions for this machine into dir, with
// the flags of the deployed ones. It needs the go command, and a working
// directory from which it finds s3ferry's source: a checkout, or a module that
// requires it.
func BuildFunctions(ctx context.Context, dir string) error {
	source, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc",
		"-ldflags", "-s -w -buildid=", "-o", dir+string(filepath.Separator),
		functionsPath+Sender, functionsPath+Receiver, functionsPath+Courier)
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("build the functions in %s: %w\n%s", source, err, out)
	}
	return nil
}

// moduleDir returns the root of s3ferry's source.
func moduleDir(ctx context.Context) (string, error) {
	const advice = "run s3ferry from a checkout of it, or from a module that requires github.com/s3ferry/s3ferry"
	list := exec.CommandContext(ctx, "go", "list", "-json=Dir,Module", functionsPath+Sender)
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("find the go command, which builds the functions: install Go from https://go.dev/dl/: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("find the source of the functions: %w: %s: %s", err, bytes.TrimSpace(stderr.Bytes()), advice)
	}
	var found struct {
		Dir    string
		Module struct{ Dir string }
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return "", fmt.Errorf("read what go list says: %w", err)
	}
	if found.Module.Dir == "" {
		return "", fmt.Errorf("find the source of the functions: go list names no module directory: %s", advice)
	}
	return found.Module.Dir, nil
}

func (c *Cloud) startFunctions(ctx context.Context) error {
	binaries := c.options.Functions
	if binaries == "" {
		binaries = filepath.Join(c.dir, "functions")
		if err := BuildFunctions(ctx, binaries); err != nil {
			return err
		}
	}
	binaries, err := filepath.Abs(binaries)
	if err != nil {
		return err
	}
	for _, f := range c.functions() {
		f.Binary = filepath.Join(binaries, f.Name)
		if runtime.GOOS == "windows" {
			f.Binary += ".exe"
		}
		c.hosts[f.Name] = lambda.NewHost(f)
	}

	ctx, c.stopPolls = context.WithCancel(context.Background())
	mappings := []lambda.Mapping{
		{Queue: c.queues["outbox"], Function: c.hosts[Sender], Region: sourceIn, Concurrency: senderConcurrency},
	}
	if !c.options.NoReceiver {
		mappings = append(mappings, lambda.Mapping{
			Queue: c.queues["inbox"], Function: c.hosts[Receiver], Region: destIn, Concurrency: c.options.ReceiverConcurrency,
		})
	}
	for _, mapping := range mappings {
		mapping.BatchSize, mapping.Log = batchSize, c.log
		c.polls.Go(func() { mapping.Run(ctx) })
	}
	schedule := lambda.Schedule{
		Name: Courier, Function: c.hosts[Courier], Region: sourceIn, Account: account,
		Interval: c.options.CourierInterval, Log: c.log,
	}
	c.polls.Go(func() { schedule.Run(ctx) })
	return nil
}

// functions describes the functions as the constructs deploy them.
func (c *Cloud) functions() []lambda.Function {
	presign := c.endpoints.border
	queues := c.SQS.Queues
	return []lambda.Function{
		{
			Name: Sender, Region: sourceIn, Timeout: senderTimeout, Concurrency: senderConcurrency,
			Account: account, MemoryMiB: memoryMiB, Logs: c.logs,
			Env: c.environment(c.Source, c.endpoints.source, envcfg.Encode(&envcfg.Sender{
				Name:      Sender,
				OutboxURL: queues.Outbox, OutboxDLQURL: queues.OutboxDLQ,
				LinkSecret: linkSecret, SignerRole: signerRole, URLLife: c.options.URLLife,
				Concurrency: senderConcurrency, PaceParameter: PaceParameter,
				Deletes: c.options.Deletes, TagChanges: c.options.TagChanges,
				TestSourceEndpoint: presign,
			})),
		},
		{
			Name: Receiver, Region: destIn, Timeout: receiverTimeout, Concurrency: c.options.ReceiverConcurrency,
			Account: account, MemoryMiB: memoryMiB, Logs: c.logs,
			Env: c.environment(c.Destination, c.endpoints.destination, envcfg.Encode(&envcfg.Receiver{
				Name:     Receiver,
				InboxURL: queues.Inbox, InboxDLQURL: queues.InboxDLQ, ReceiptsURL: queues.Receipts,
				TrustParameter: TrustParameter, DestinationBucket: destName, JournalBucket: JournalBucket,
				Connections: envcfg.DefaultConnections, PartSize: envcfg.DefaultPartSize, SegmentSize: envcfg.DefaultSegmentSize, MemoryMiB: envcfg.DefaultMemoryBudgetMiB,
				Deletes: c.options.Deletes, TagChanges: c.options.TagChanges, InboxReceives: inboxReceives,
				TestSourceEndpoint: presign,
			})),
		},
		{
			Name: Courier, Region: sourceIn, Timeout: courierTimeout, Concurrency: 1,
			Account: account, MemoryMiB: memoryMiB, Logs: c.logs,
			Env: c.environment(c.Source, c.endpoints.source, envcfg.Encode(&envcfg.Courier{
				Name:      Sender,
				OutboxURL: queues.Outbox, OutboxDLQURL: queues.OutboxDLQ, LinkSecret: linkSecret,
				PaceParameter: PaceParameter,
				MaxRounds:     envcfg.DefaultMaxRounds,
			})),
		},
	}
}

// environment adds to env the credentials of a role that may use bucket, where
// that is, and where the services are.
func (c *Cloud) environment(bucket Bucket, s3 string, env map[string]string) map[string]string {
	maps.Copy(env, map[string]string{
		"AWS_ACCESS_KEY_ID":                bucket.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY":            bucket.SecretAccessKey,
		"AWS_ENDPOINT_URL_S3":              s3,
		"AWS_ENDPOINT_URL_SQS":             c.endpoints.services,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": c.endpoints.services,
		"AWS_ENDPOINT_URL_SSM":             c.endpoints.services,
		"AWS_ENDPOINT_URL_STS":             c.endpoints.services,
	})
	maps.Copy(env, c.options.Env)
	return env
}
