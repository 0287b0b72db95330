// Package localcloud is both partitions on one machine, with no account and no
// container: two S3 servers, queues, the mailbox API, and the real Lambda
// binaries behind event source mappings. Everything listens on 127.0.0.1, and
// only its S3 servers and its API ask who is calling.
//
// Objects are kept in the state directory. Queues live in memory: what is under
// way when a cloud stops has to be put again.
package localcloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/guard"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/localcloud/apigw"
	"github.com/s3ferry/s3ferry/internal/localcloud/control"
	"github.com/s3ferry/s3ferry/internal/localcloud/lambda"
	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/secret"
)

const (
	account    = "000000000000"
	sourceName = "source"
	destName   = "destination"
	sourceIn   = "us-east-1"
	destIn     = "cn-north-1"
	signerRole = "arn:aws:iam::" + account + ":role/signer"
	stage      = "prod"

	// inboxReceives is the inbox's maxReceiveCount, as the constructs set it.
	inboxReceives = 20

	// stopGrace is how long running invocations may take to end by themselves.
	stopGrace = 3 * time.Second
)

// Options are what Start may be told. A program that calls Start must begin as
// package s3gw says.
type Options struct {
	// Dir is where objects, and functions built here, are kept. "" is a temporary
	// directory that Stop removes.
	Dir string

	SourcePort, DestPort, APIPort int // 0 picks a free one

	// PresignEndpoint goes into signed URLs in place of the source's own
	// endpoint: a link emulator before it, say. Scheme, IP address (or localhost,
	// which means 127.0.0.1) and port.
	PresignEndpoint string

	// Unlinked leaves the two sides as two deployed stacks are at first: the one
	// does not know the other, and what is put waits in the outbox.
	Unlinked bool

	// Gated puts a gate before each server that the functions call: see Gates.
	Gated bool

	// IAM is the mailbox API's authorization: its requests have to be signed.
	IAM bool

	// Quota is how many requests the mailbox API takes in a day; 0: any number.
	Quota int

	// Deletes carries deletions too.
	Deletes bool

	// TagChanges carries changes of tags too.
	TagChanges bool

	// NoReceiver leaves what is in the inbox to somebody else: a worker, say.
	NoReceiver bool

	ReceiverConcurrency int           // receivers at once; 0: 4
	CourierInterval     time.Duration // 0: 2 s
	URLLife             time.Duration // of signed URLs; 0: 15 min

	// Functions is a directory with the binaries that BuildFunctions makes. "":
	// they are built, which needs Go and s3ferry's source.
	Functions string
	// Env is added to the environment of every function.
	Env map[string]string
	// Logs takes one JSON object a line, of the functions and of the cloud
	// itself. nil: they are added to LogFile in Dir.
	Logs io.Writer
}

// LogFile is the file in the state directory that takes the logs.
const LogFile = "functions.log"

func (o Options) withDefaults() Options {
	o.ReceiverConcurrency = cmp.Or(o.ReceiverConcurrency, 4)
	o.CourierInterval = cmp.Or(o.CourierInterval, 2*time.Second)
	o.URLLife = cmp.Or(o.URLLife, 15*time.Minute)
	o.PresignEndpoint = strings.Replace(o.PresignEndpoint, "://localhost:", "://127.0.0.1:", 1)
	return o
}

// Description says how to reach a cloud. It holds its keys in the clear.
type Description struct {
	Source      Bucket `json:"source"`
	Destination Bucket `json:"destination"`
	API         API    `json:"api"`
	SQS         SQS    `json:"sqs"`
	Logs        string `json:"logs,omitempty"` // file of the functions' logs, "" if they go elsewhere
}

// Bucket is a bucket, addressed by path, and who may do everything with it.
type Bucket struct {
	Endpoint        string `json:"endpoint"`
	Bucket          string `json:"bucket"`
	Region          string `json:"region"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// API is the mailbox API.
type API struct {
	URL string `json:"url"`
	Key string `json:"apiKey"`
	// With Options.IAM, what requests are signed with, for Region.
	Region          string `json:"region,omitempty"`
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
}

// credentials are those of the API, if it asks for any.
func (a API) credentials() link.Credentials {
	if a.AccessKeyID == "" {
		return link.Credentials{}
	}
	return link.Credentials{AccessKeyID: a.AccessKeyID, SecretAccessKey: secret.New(a.SecretAccessKey), Region: a.Region}
}

// SQS is the queues' endpoint, which is the control plane's too. It takes any
// credentials.
type SQS struct {
	Endpoint        string `json:"endpoint"`
	Region          string `json:"region"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	Queues          Queues `json:"queues"`
}

// Queues are queue URLs.
type Queues struct {
	Outbox    string `json:"outbox"`
	OutboxDLQ string `json:"outboxDlq"`
	Inbox     string `json:"inbox"`
	InboxDLQ  string `json:"inboxDlq"`
	Receipts  string `json:"receipts"`
}

// Cloud is a running laptop cloud.
type Cloud struct {
	Description
	Gates Gates

	options   Options
	logs      io.Writer
	logFile   *os.File // nil if the logs go elsewhere
	log       *slog.Logger
	dir       string // absolute
	temporary bool

	tally        tally
	secrets      secrets
	endpoints    endpoints
	queues       map[string]*sqs.Queue
	control      *control.Server
	source, dest *s3gw.Server
	servers      []*http.Server
	hosts        map[string]*lambda.Host // by function name
	failed       chan error

	stopPolls context.CancelFunc
	polls     sync.WaitGroup
	stopping  chan struct{}
	stopOnce  sync.Once
	totals    Totals
	stopErr   error
}

// Start starts everything and links the two sides, unless told not to. ctx
// bounds the start only.
func Start(ctx context.Context, o Options) (*Cloud, error) {
	c := &Cloud{
		options: o.withDefaults(), hosts: map[string]*lambda.Host{},
		failed: make(chan error, 1), stopping: make(chan struct{}), stopPolls: func() {},
	}
	for _, step := range []func(context.Context) error{
		c.check, c.makeDir, c.openLogs, c.startControl, c.startStores, c.startAPI, c.startGates, c.deploy, c.link, c.startFunctions,
	} {
		if err := step(ctx); err != nil {
			_, stopErr := c.Stop(context.WithoutCancel(ctx))
			return nil, fmt.Errorf("start laptop cloud: %w", errors.Join(err, stopErr))
		}
	}
	return c, nil
}

// Failed receives the error of a server that ended by itself: the cloud is of
// no use any more.
func (c *Cloud) Failed() <-chan error { return c.failed }

// Function returns the host of a function: "sender", "receiver" or "courier".
func (c *Cloud) Function(name string) *lambda.Host { return c.hosts[name] }

// Queue returns a queue: "outbox", "outbox-dlq", "inbox", "inbox-dlq" or
// "receipts".
func (c *Cloud) Queue(name string) *sqs.Queue { return c.queues[name] }

// Watch has see called with every message that a queue takes from now on. It may
// be called by several goroutines at once.
func (c *Cloud) Watch(see func(queue, body string)) { c.tally.watch.Store(&see) }

// Totals returns what the cloud has done so far.
func (c *Cloud) Totals() Totals { return c.tally.totals(c.queues) }

// Secrets returns what no log may hold: keys, and the credentials and tokens
// handed out so far.
func (c *Cloud) Secrets() []string { return c.secrets.list() }

// Deletes reports whether deletions are carried.
func (c *Cloud) Deletes() bool { return c.options.Deletes }

// ServerPIDs returns the processes of the source's and the destination's S3
// server.
func (c *Cloud) ServerPIDs() [2]int { return [2]int{c.source.Pid(), c.dest.Pid()} }

func (c *Cloud) check(context.Context) error {
	if n := c.options.ReceiverConcurrency; n < 1 {
		return fmt.Errorf("receiver concurrency: got %d, expected at least 1", n)
	}
	_, err := guard.New(guard.Options{TestSourceEndpoint: c.options.PresignEndpoint})
	return err
}

func (c *Cloud) makeDir(context.Context) error {
	if c.options.Dir == "" {
		dir, err := os.MkdirTemp("", "s3ferry-")
		c.dir, c.temporary = dir, true
		return err
	}
	dir, err := filepath.Abs(c.options.Dir)
	if err != nil {
		return err
	}
	c.dir = dir
	return os.MkdirAll(dir, 0o700)
}

func (c *Cloud) openLogs(context.Context) error {
	to := c.options.Logs
	if to == nil {
		file, err := os.OpenFile(filepath.Join(c.dir, LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		to, c.logFile, c.Logs = file, file, file.Name()
	}
	c.logs = &lockedWriter{to: to}
	c.log = slog.New(slog.NewJSONHandler(c.logs, nil)).With("function", "cloud")
	return nil
}

// queueSpec is a queue as the constructs make it.
type queueSpec struct {
	name            string
	visibility      time.Duration
	deadLetter      string
	maxReceiveCount int
}

// queueSpecs is in the order of creation: dead-letter queues first.
var queueSpecs = []queueSpec{
	{name: "outbox-dlq"},
	{name: "inbox-dlq"},
	{name: "outbox", visibility: 6 * senderTimeout, deadLetter: "outbox-dlq", maxReceiveCount: 1000},
	{name: "inbox", visibility: 6 * receiverTimeout, deadLetter: "inbox-dlq", maxReceiveCount: inboxReceives},
	{name: "receipts", visibility: 2 * courierTimeout},
}

const retention = 14 * 24 * time.Hour

func (c *Cloud) startControl(context.Context) error {
	listener, err := listen(0)
	if err != nil {
		return fmt.Errorf("listen for the control plane: %w", err)
	}
	endpoint := "http://" + listener.Addr().String()
	queues := sqs.New(sqs.Config{Endpoint: endpoint, Region: sourceIn, Account: account, Accepted: c.tally.accepted})
	c.queues = map[string]*sqs.Queue{}
	for _, spec := range queueSpecs {
		attributes := map[string]string{"MessageRetentionPeriod": seconds(retention)}
		if spec.visibility > 0 {
			attributes["VisibilityTimeout"] = seconds(spec.visibility)
		}
		if spec.deadLetter != "" {
			policy, err := json.Marshal(map[string]any{
				"deadLetterTargetArn": c.queues[spec.deadLetter].ARN(), "maxReceiveCount": spec.maxReceiveCount,
			})
			if err != nil {
				return err
			}
			attributes["RedrivePolicy"] = string(policy)
		}
		if c.queues[spec.name], err = queues.Create(spec.name, attributes); err != nil {
			return fmt.Errorf("create queue %s: %w", spec.name, err)
		}
	}
	key, secretKey := newAccessKey()
	c.SQS = SQS{
		Endpoint: endpoint, Region: sourceIn, AccessKeyID: key, SecretAccessKey: secretKey,
		Queues: Queues{
			Outbox: c.queues["outbox"].URL(), OutboxDLQ: c.queues["outbox-dlq"].URL(),
			Inbox: c.queues["inbox"].URL(), InboxDLQ: c.queues["inbox-dlq"].URL(),
			Receipts: c.queues["receipts"].URL(),
		},
	}
	c.control = control.New(control.Config{
		Region: sourceIn, Account: account, SQS: queues, Role: signerRole, Metric: c.metric,
		Mint: func(expires time.Time) (string, string, string) {
			id, secretKey, token := s3gw.MintSession(c.Source.AccessKeyID, c.Source.SecretAccessKey, expires)
			c.secrets.add(secretKey, token)
			return id, secretKey, token
		},
	})
	c.serve(listener, c.control)
	return nil
}

func (c *Cloud) startStores(ctx context.Context) error {
	var err error
	c.Source, c.source, err = c.startStore(ctx, sourceName, s3gw.Config{
		Port: c.options.SourcePort, Region: sourceIn,
		Buckets:     []s3gw.Bucket{{Name: sourceName, Versioned: true}},
		EventBucket: sourceName, EventQueueURL: c.SQS.Queues.Outbox, SQSEndpoint: c.SQS.Endpoint,
		EventRemovals: c.options.Deletes, EventTagging: c.options.TagChanges,
	})
	if err != nil {
		return err
	}
	c.Destination, c.dest, err = c.startStore(ctx, destName, s3gw.Config{
		Port: c.options.DestPort, Region: destIn,
		Buckets: []s3gw.Bucket{{Name: destName}, {Name: JournalBucket}},
	})
	return err
}

// startStore starts an S3 server whose first bucket is name.
func (c *Cloud) startStore(ctx context.Context, name string, cfg s3gw.Config) (Bucket, *s3gw.Server, error) {
	cfg.Dir = filepath.Join(c.dir, name)
	var err error
	if cfg.AccessKeyID, cfg.SecretAccessKey, err = keptAccessKey(cfg.Dir + ".key"); err != nil {
		return Bucket{}, nil, err
	}
	c.secrets.add(cfg.SecretAccessKey)
	server, err := s3gw.Start(ctx, cfg)
	if err != nil {
		return Bucket{}, nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		select {
		case <-server.Done():
			c.fail(fmt.Errorf("the S3 server of the %s has ended by itself", name))
		case <-c.stopping:
		}
	}()
	return Bucket{
		Endpoint: server.Endpoint, Bucket: name, Region: cfg.Region,
		AccessKeyID: cfg.AccessKeyID, SecretAccessKey: cfg.SecretAccessKey,
	}, server, nil
}

func (c *Cloud) startAPI(context.Context) error {
	c.API.Key = newAPIKey()
	c.secrets.add(c.API.Key)
	if c.options.IAM {
		c.API.Region = destIn
		c.API.AccessKeyID, c.API.SecretAccessKey = newAccessKey()
		c.secrets.add(c.API.SecretAccessKey)
	}
	api, err := apigw.New(apigw.Config{
		Stage: stage, Key: secret.New(c.API.Key), AccessKey: c.API.credentials(), SQS: c.SQS.Endpoint, Rate: door.DefaultRate, Burst: door.DefaultBurst, Quota: c.options.Quota,
		Queues: map[door.Queue]string{door.Inbox: c.SQS.Queues.Inbox, door.Receipts: c.SQS.Queues.Receipts},
	})
	if err != nil {
		return err
	}
	listener, err := listen(c.options.APIPort)
	if err != nil {
		return fmt.Errorf("listen for the mailbox API: %w", err)
	}
	c.API.URL = "http://" + listener.Addr().String() + "/" + stage
	c.serve(listener, api)
	return nil
}

func (c *Cloud) serve(listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
	}
	c.servers = append(c.servers, server)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.fail(fmt.Errorf("serve %s: %w", listener.Addr(), err))
		}
	}()
}

func (c *Cloud) fail(err error) {
	select {
	case <-c.stopping:
	case c.failed <- err:
	default: // the first one says it
	}
}

// Stop ends everything, children included, and returns what the cloud has done.
// Running invocations get a few seconds to end. When ctx is done first, what
// still runs is killed. Stop may be called again.
func (c *Cloud) Stop(ctx context.Context) (Totals, error) {
	c.stopOnce.Do(func() { c.totals, c.stopErr = c.stop(ctx) })
	return c.totals, c.stopErr
}

func (c *Cloud) stop(ctx context.Context) (Totals, error) {
	close(c.stopping)
	c.stopPolls()
	c.awaitPolls(ctx)
	var hosts sync.WaitGroup
	for _, host := range c.hosts {
		hosts.Go(host.Stop)
	}
	hosts.Wait()
	c.polls.Wait()

	// The source sends its last events while there still is a queue.
	var errs []error
	for _, store := range []*s3gw.Server{c.source, c.dest} {
		if store != nil {
			errs = append(errs, store.Stop(ctx))
		}
	}
	for _, server := range c.servers {
		errs = append(errs, server.Close())
	}
	totals := c.tally.totals(c.queues)
	if c.logFile != nil {
		errs = append(errs, c.logFile.Close())
	}
	if c.temporary {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return totals, fmt.Errorf("stop laptop cloud: %w", err)
	}
	return totals, nil
}

// awaitPolls waits for running invocations, up to stopGrace.
func (c *Cloud) awaitPolls(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		c.polls.Wait()
		close(ended)
	}()
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// lockedWriter makes a writer safe for several functions.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
