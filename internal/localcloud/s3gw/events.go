package s3gw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/cenkalti/backoff/v5"
)

// The names S3 gives to the ways an object is created.
const (
	createdByPut      = "ObjectCreated:Put"
	createdByComplete = "ObjectCreated:CompleteMultipartUpload"
	createdByCopy     = "ObjectCreated:Copy"
)

// The names S3 gives to deletions.
const (
	removedByDelete = "ObjectRemoved:Delete"
	removedByMarker = "ObjectRemoved:DeleteMarkerCreated"
)

// The names S3 gives to changes of tags.
const (
	taggedByPut    = "ObjectTagging:Put"
	taggedByDelete = "ObjectTagging:Delete"
)

// sendTimeout bounds one attempt to send an event while its writer waits.
const sendTimeout = 10 * time.Second

// notification is the body of one queue message:
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
type notification struct {
	Records []eventRecord `json:"Records"`
}

type eventRecord struct {
	EventVersion      string            `json:"eventVersion"`
	EventSource       string            `json:"eventSource"`
	AWSRegion         string            `json:"awsRegion"`
	EventTime         string            `json:"eventTime"`
	EventName         string            `json:"eventName"`
	UserIdentity      principal         `json:"userIdentity"`
	RequestParameters map[string]string `json:"requestParameters"`
	ResponseElements  map[string]string `json:"responseElements"`
	S3                eventEntity       `json:"s3"`
}

type principal struct {
	PrincipalID string `json:"principalId"`
}

type eventEntity struct {
	SchemaVersion   string      `json:"s3SchemaVersion"`
	ConfigurationID string      `json:"configurationId"`
	Bucket          eventBucket `json:"bucket"`
	Object          eventObject `json:"object"`
}

type eventBucket struct {
	Name          string    `json:"name"`
	OwnerIdentity principal `json:"ownerIdentity"`
	ARN           string    `json:"arn"`
}

type eventObject struct {
	Key       string `json:"key"`            // form-encoded, slashes kept
	Size      *int64 `json:"size,omitempty"` // none of a deletion
	ETag      string `json:"eTag,omitempty"` // without quotes
	VersionID string `json:"versionId,omitempty"`
	Sequencer string `json:"sequencer,omitempty"` // none of tags
}

// change is an object that was just written, deleted or given other tags.
type change struct {
	by        string // one of the names above
	key       string
	size      int64
	etag      string
	versionID string
}

// event is a notification ready to send.
type event struct {
	sequencer string
	body      []byte
}

// notifier sends an event of every object created in one bucket, and of every one
// removed or given other tags where that is asked for, to a queue, at least once:
// an event that could not be sent at once is on disk before its writer is
// answered, and goes out later, after a restart too.
type notifier struct {
	bucket, region, owner, queueURL string
	removals, tagging               bool

	client    *sqs.Client
	sequencer *sequencer
	spool     string // directory of events not sent yet
	unsent    chan struct{}
	stopped   context.CancelFunc
	done      sync.WaitGroup
}

func newNotifier(cfg Config) (*notifier, error) {
	spool := filepath.Join(cfg.Dir, "events")
	if err := os.MkdirAll(spool, 0o755); err != nil {
		return nil, fmt.Errorf("make the event spool: %w", err)
	}
	sequencer, err := openSequencer(filepath.Join(cfg.Dir, "sequencer"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &notifier{
		bucket: cfg.EventBucket, region: cfg.Region, owner: cfg.AccessKeyID, queueURL: cfg.EventQueueURL,
		removals: cfg.EventRemovals, tagging: cfg.EventTagging,
		client: sqs.New(sqs.Options{
			Region:       cfg.SQSRegion,
			BaseEndpoint: aws.String(cfg.SQSEndpoint),
			Credentials:  credentials.NewStaticCredentialsProvider(cfg.SQSAccessKeyID, cfg.SQSSecretAccessKey, ""),
			// The spool retries, while no writer waits.
			RetryMaxAttempts: 1,
		}),
		sequencer: sequencer,
		spool:     spool,
		unsent:    make(chan struct{}, 1),
		stopped:   cancel,
	}
	n.unsent <- struct{}{} // events of an earlier run may wait
	n.done.Go(func() { n.resend(ctx) })
	return n, nil
}

// close makes one last attempt to send what waits, until ctx is done. What it
// cannot send stays for the next run.
func (n *notifier) close(ctx context.Context) {
	n.stopped()
	n.done.Wait()
	if left, err := n.flush(ctx); left > 0 {
		slog.Error("S3 events stay on disk until the next start", "events", left, "error", err)
	}
}

// record makes the event of c. Its sequencer is later than that of every
// earlier call, so the caller must still hold the key against other writers.
func (n *notifier) record(c change) (event, error) {
	sequencer, at, err := n.sequencer.next()
	if err != nil {
		return event{}, err
	}
	object := eventObject{
		Key:  strings.ReplaceAll(url.QueryEscape(c.key), "%2F", "/"),
		ETag: strings.Trim(c.etag, `"`), VersionID: c.versionID, Sequencer: sequencer,
	}
	if strings.HasPrefix(c.by, "ObjectCreated:") {
		object.Size = &c.size
	}
	if strings.HasPrefix(c.by, "ObjectTagging:") {
		object.Sequencer = ""
	}
	body, err := json.Marshal(notification{Records: []eventRecord{{
		EventVersion:      "2.1",
		EventSource:       "aws:s3",
		AWSRegion:         n.region,
		EventTime:         at.UTC().Format("2006-01-02T15:04:05.000Z"),
		EventName:         c.by,
		UserIdentity:      principal{PrincipalID: n.owner},
		RequestParameters: map[string]string{"sourceIPAddress": "127.0.0.1"},
		ResponseElements:  map[string]string{"x-amz-request-id": sequencer, "x-amz-id-2": sequencer},
		S3: eventEntity{
			SchemaVersion:   "1.0",
			ConfigurationID: "s3ferry",
			Bucket: eventBucket{
				Name:          n.bucket,
				OwnerIdentity: principal{PrincipalID: n.owner},
				ARN:           "arn:" + partition(n.region) + ":s3:::" + n.bucket,
			},
			Object: object,
		},
	}}})
	return event{sequencer: sequencer, body: body}, err
}

// send returns once the event is in the queue or on disk.
func (n *notifier) send(e event) error {
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout)
	defer cancel()
	err := n.post(ctx, e.body)
	if err == nil {
		return nil
	}
	if spoolErr := writeFile(filepath.Join(n.spool, e.sequencer), e.body); spoolErr != nil {
		return fmt.Errorf("keep S3 event: %w", errors.Join(err, spoolErr))
	}
	slog.Warn("S3 event waits on disk", "sequencer", e.sequencer, "error", err)
	select {
	case n.unsent <- struct{}{}:
	default:
	}
	return nil
}

func (n *notifier) post(ctx context.Context, body []byte) error {
	_, err := n.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: &n.queueURL, MessageBody: aws.String(string(body)),
	})
	if err != nil {
		return fmt.Errorf("send S3 event: %w", err)
	}
	return nil
}

// resend sends what is in the spool, whenever something is, until ctx is done.
func (n *notifier) resend(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.unsent:
		}
		pause := backoff.NewExponentialBackOff()
		pause.MaxInterval = 5 * time.Second
		for {
			if left, _ := n.flush(ctx); left == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause.NextBackOff()):
			}
		}
	}
}

// flush sends the spooled events, oldest first, up to the first that fails. It
// returns how many are left.
func (n *notifier) flush(ctx context.Context) (left int, err error) {
	names, err := fs.Glob(os.DirFS(n.spool), "[0-9A-F]*")
	if err != nil {
		return 0, err
	}
	for i, name := range names {
		file := filepath.Join(n.spool, name)
		body, err := os.ReadFile(file)
		if err == nil {
			err = n.post(ctx, body)
		}
		if err == nil {
			err = os.Remove(file)
		}
		if err != nil {
			return len(names) - i, err
		}
	}
	return 0, nil
}

// partition is the one that region belongs to.
func partition(region string) string {
	for prefix, name := range map[string]string{"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"} {
		if strings.HasPrefix(region, prefix) {
			return name
		}
	}
	return "aws"
}

// reserve is how far the sequencer's bound on disk runs ahead of it.
const reserve = 10 * time.Second

// sequencer counts nanoseconds since 1970, in order whatever the clock does: a
// bound on disk is always ahead of every number given out, and the next run
// starts from it if the clock stands before it.
type sequencer struct {
	path string

	mu          sync.Mutex
	last, bound int64
}

func openSequencer(path string) (*sequencer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &sequencer{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the event sequencer: %w", err)
	}
	bound, err := strconv.ParseInt(string(text), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("read the event sequencer in %s: %w", path, err)
	}
	return &sequencer{path: path, last: bound, bound: bound}, nil
}

// next returns 16 upper-case hex digits and the time of the event.
func (s *sequencer) next() (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	value := max(now.UnixNano(), s.last+1)
	if value >= s.bound {
		bound := value + int64(reserve)
		if err := writeFile(s.path, fmt.Appendf(nil, "%016X", bound)); err != nil {
			return "", now, fmt.Errorf("reserve event sequencers: %w", err)
		}
		s.bound = bound
	}
	s.last = value
	return fmt.Sprintf("%016X", value), now, nil
}
