package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/control"
	"github.com/s3ferry/s3ferry/internal/localcloud/lambda"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/sender"
	"github.com/s3ferry/s3ferry/internal/wire"
)

const (
	account        = "000000000000"
	trustParameter = "/s3ferry/trust"
	timeout        = 15 * time.Minute
	memoryMiB      = 2048
	receives       = 20 // of a message, as the deployed inbox has it
)

// ferry is the receiver as it is deployed: the real binary over the Runtime API,
// fed from an inbox in which every signed transfer lies when the time starts.
// At most j.Parallel environments run, ten messages each.
func ferry(ctx context.Context, b *bench, j job) (u usage, err error) {
	key, trust, err := newTrust(j.Link)
	if err != nil {
		return usage{}, err
	}
	messages, err := sign(ctx, j, key)
	if err != nil {
		return usage{}, err
	}
	p, err := startPlane(ctx, trust, len(messages))
	if err != nil {
		return usage{}, err
	}
	defer p.close()
	for _, message := range messages {
		if _, err := p.inbox.Send(sqs.Message{Body: message}); err != nil {
			return usage{}, err
		}
	}
	logs, err := os.Create(filepath.Join(b.dir, "receiver.log"))
	if err != nil {
		return usage{}, err
	}
	defer logs.Close()
	printed := &lockedFile{File: logs}
	host := lambda.NewHost(lambda.Function{
		Name: localcloud.Receiver, Binary: filepath.Join(b.functions, localcloud.Receiver), Env: p.environment(b, j),
		Region: destinationRegion, Account: account, Timeout: timeout, MemoryMiB: memoryMiB,
		Concurrency: j.Parallel, Logs: printed,
	})
	function := &strict{Host: host, failed: make(chan error, 1)}
	mapping := lambda.Mapping{
		Queue: p.inbox, Function: function, Region: destinationRegion, Concurrency: j.Parallel,
		Log: slog.New(slog.NewJSONHandler(logs, nil)),
	}
	m := startMeter(ctx, host.PIDs)
	start := time.Now()
	polls, stop := context.WithCancel(ctx)
	var polling sync.WaitGroup
	polling.Go(func() { mapping.Run(polls) })
	select {
	case <-p.done:
	case failed := <-function.failed:
		err = fmt.Errorf("%w: %w\n%s", errReceiver, failed, printed.last())
	case <-ctx.Done():
		err = ctx.Err()
	}
	u.took = time.Since(start)
	u.peak, u.cpu = m.end(host.PIDs())
	stop()
	host.Stop()
	polling.Wait()
	if failed := p.failed(); failed != "" {
		err = cmp.Or(err, fmt.Errorf("not every object was copied: %s", failed))
	}
	return u, err
}

// errReceiver is the error of a run whose receiver did not start, or has crashed.
var errReceiver = errors.New("the receiver failed")

// strict tells of the first invocation that fails: the queue would hide its
// messages for longer than a run lasts.
type strict struct {
	*lambda.Host
	failed chan error // takes one
}

func (s *strict) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	out, err := s.Host.Invoke(ctx, payload)
	if err != nil {
		select {
		case s.failed <- err:
		default:
		}
	}
	return out, err
}

func newTrust(source store) (wire.SigningKey, []byte, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return wire.SigningKey{}, nil, err
	}
	const id = "bench"
	trust, err := link.EncodeTrust(link.Trust{
		Keys: wire.PublicKeys{id: public}, Sources: []link.Source{{Bucket: source.Bucket, Region: source.Region}},
	})
	return wire.SigningKey{ID: id, Key: secret.New(private)}, trust, err
}

// sign returns the inbox messages of the job, as a sender makes them.
func sign(ctx context.Context, j job, key wire.SigningKey) ([]string, error) {
	signer := &sender.Signer{
		Presign:     s3.NewPresignClient(j.Link.client()),
		Credentials: credentials.NewStaticCredentialsProvider(j.Link.AccessKeyID, j.Link.SecretAccessKey, ""),
		Life:        time.Hour,
	}
	messages := make([]string, 0, len(j.Objects))
	for i, o := range j.Objects {
		t := &wire.Transfer{
			Op: wire.OpPut,
			Source: wire.Source{
				Region: j.Link.Region, Bucket: j.Link.Bucket, Key: o.Key, ETag: o.ETag, Size: o.Size,
				Sequencer: fmt.Sprintf("%016X", i+1), EventTime: o.Uploaded,
			},
		}
		if o.CRC64 != "" {
			t.Object.Checksum = &wire.Checksum{Algorithm: "CRC64NVME", Type: wire.FullObject, Value: o.CRC64}
		}
		t.ID = wire.ID(t.Op, t.Source)
		var err error
		if t.URL, t.NotAfter, err = signer.Sign(ctx, t.Source); err != nil {
			return nil, err
		}
		message, err := wire.Sign(t, key)
		if err != nil {
			return nil, err
		}
		messages = append(messages, message)
	}
	return messages, nil
}

// plane is the queues and the trust document of a receiver.
type plane struct {
	endpoint                  string
	inbox, deadLetter, report *sqs.Queue
	server                    *http.Server
	done                      chan struct{} // closed when every transfer has its receipt

	mu       sync.Mutex
	outcomes map[wire.Outcome]int
	left     int
	reason   string
}

func startPlane(ctx context.Context, trust []byte, transfers int) (*plane, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &plane{
		endpoint: "http://" + listener.Addr().String(), done: make(chan struct{}),
		left: transfers, outcomes: map[wire.Outcome]int{},
	}
	queues := sqs.New(sqs.Config{Endpoint: p.endpoint, Region: destinationRegion, Account: account, Accepted: p.accepted})
	for _, q := range []struct {
		to   **sqs.Queue
		name string
	}{{&p.inbox, "inbox"}, {&p.deadLetter, "inbox-dlq"}, {&p.report, "receipts"}} {
		if *q.to, err = queues.Create(q.name, map[string]string{"VisibilityTimeout": "5400"}); err != nil {
			_ = listener.Close()
			return nil, err
		}
	}
	services := control.New(control.Config{Region: destinationRegion, Account: account, SQS: queues})
	if err := services.PutParameter(trustParameter, string(trust)); err != nil {
		_ = listener.Close()
		return nil, err
	}
	p.server = &http.Server{Handler: services, ReadHeaderTimeout: time.Minute}
	go p.server.Serve(listener) //nolint:errcheck // it ends with close
	return p, nil
}

func (p *plane) close() { _ = p.server.Close() }

// accepted counts what ends a transfer: a receipt.
func (p *plane) accepted(queue, body string) {
	if queue != "receipts" {
		return
	}
	receipt, err := wire.DecodeReceipt(body)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outcomes[receipt.Outcome]++
	if receipt.Outcome != wire.Copied {
		p.reason = receipt.Reason
	}
	if p.left--; p.left == 0 {
		close(p.done)
	}
}

// failed says what became of transfers that were not copied.
func (p *plane) failed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := maps.Clone(p.outcomes)
	delete(others, wire.Copied)
	if len(others) == 0 {
		return ""
	}
	return fmt.Sprint(others, " ", p.reason)
}

func (p *plane) environment(b *bench, j job) map[string]string {
	receiver := envcfg.Receiver{
		Name:     "Bench",
		InboxURL: p.inbox.URL(), InboxDLQURL: p.deadLetter.URL(), ReceiptsURL: p.report.URL(),
		TrustParameter: trustParameter, DestinationBucket: destinationBucket, JournalBucket: journalBucket,
		Connections: b.connections, PartSize: envcfg.DefaultPartSize, SegmentSize: b.segmentSize, MemoryMiB: envcfg.DefaultMemoryBudgetMiB,
		InboxReceives:      receives,
		TestSourceEndpoint: strings.TrimSuffix(j.Link.Endpoint, "/"),
	}
	if b.memory > 0 {
		receiver.MemoryMiB = b.memory
	}
	env := envcfg.Encode(&receiver)
	maps.Copy(env, map[string]string{
		"AWS_ACCESS_KEY_ID": j.Destination.AccessKeyID, "AWS_SECRET_ACCESS_KEY": j.Destination.SecretAccessKey,
		"AWS_ENDPOINT_URL_S3": j.Destination.Endpoint, "AWS_ENDPOINT_URL_SQS": p.endpoint, "AWS_ENDPOINT_URL_SSM": p.endpoint,
	})
	return env
}

// lockedFile makes a file safe for several functions, and remembers its end.
type lockedFile struct {
	mu sync.Mutex
	*os.File
	end []byte
}

func (f *lockedFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const most = 2 * kiB
	f.end = append(f.end, p...)
	f.end = f.end[max(0, len(f.end)-most):]
	return f.File.Write(p)
}

func (f *lockedFile) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.end)
}
