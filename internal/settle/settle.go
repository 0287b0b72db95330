// Package settle decides what becomes of each message of an SQS batch: it is
// acknowledged, tried again after a while, or put on the dead-letter queue with
// the reason beside it.
package settle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/secret"
)

// Message attributes of a dead letter.
const (
	ClassAttribute  = "s3ferry-class"  // the fault's class
	ReasonAttribute = "s3ferry-reason" // the error in words, at most MaxReason bytes
)

// MaxReason is the most bytes of a dead letter's reason.
const MaxReason = 1024

// Defaults of a Queue.
const (
	DefaultMinDelay = 5 * time.Second
	DefaultMaxDelay = 5 * time.Minute
	DefaultLease    = 30 * time.Second
)

const (
	// timeout bounds the calls of BuryAll, and the others of Settle, which run even
	// after the invocation's own work was cut off.
	timeout = 5 * time.Second
	// batch is SQS's limit of entries in one call.
	batch = 10
	// maxAttributes is SQS's limit of message attributes.
	maxAttributes = 10
	// heldGrowth is by how much the longest wait of a held message grows with each
	// receive: so much that 1,000 receives, after which the outbox gives a message
	// up, take longer than the 14 days for which it keeps one.
	heldGrowth = 6 * time.Second
	// maxDelay stays below the 12 h for which SQS hides a message at most,
	// counted from when it was received.
	maxDelay = 11 * time.Hour
)

// SQS is what a Queue asks of *sqs.Client.
type SQS interface {
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
}

var _ SQS = (*sqs.Client)(nil)

// Queue is a queue that a function consumes, with its dead-letter queue. It is
// safe for concurrent use.
type Queue struct {
	SQS           SQS
	URL           string
	DeadLetterURL string
	MinDelay      time.Duration // shortest wait before a retry; 0 is DefaultMinDelay
	MaxDelay      time.Duration // longest, unless the error asks for more; 0 is DefaultMaxDelay
	Lease         time.Duration // of Keep, whole seconds; 0 is DefaultLease
	Log           *slog.Logger
}

// Settle turns one error per message, nil where it is done, into the answer of
// the function.
//
// A done message is acknowledged. One that failed permanently is put on the
// dead-letter queue with its class and reason, then acknowledged. Every other
// stays in the queue, hidden for a random time that grows with its receives, fast
// unless it is only held; so does one that the dead-letter queue did not take.
//
// Each failure is logged here, once. Settle works after ctx is done as well.
func (q *Queue) Settle(ctx context.Context, messages []events.SQSMessage, errs []error) events.SQSEventResponse {
	errs = q.BuryAll(ctx, messages, errs)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	var response events.SQSEventResponse
	var hidden []types.ChangeMessageVisibilityBatchRequestEntry
	for i, m := range messages {
		if errs[i] == nil {
			continue
		}
		delay := q.delay(Receives(m), errs[i])
		q.log(ctx, slog.LevelWarn, "message will be tried again", m, errs[i], slog.Int64("delayMillis", delay.Milliseconds()))
		response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		hidden = append(hidden, visibility(i, m, delay))
	}
	q.hide(ctx, hidden)
	return response
}

// BuryAll does the part of Settle that is about permanent failures: it returns errs
// with nil for each message that is on the dead-letter queue now, and with the
// reason for one that is not.
func (q *Queue) BuryAll(ctx context.Context, messages []events.SQSMessage, errs []error) []error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	errs = slices.Clone(errs)
	var group errgroup.Group
	group.SetLimit(batch)
	for i := range messages {
		if fault.IsPermanent(errs[i]) {
			group.Go(func() error {
				errs[i] = q.Bury(ctx, messages[i], errs[i])
				return nil
			})
		}
	}
	_ = group.Wait()
	return errs
}

// Keep holds messages for a lease from now on and renews it, until ctx is done or
// stop is called. After stop has returned, no call is under way. A lease so short
// lets a crash be noticed soon, whatever the queue's own visibility timeout is.
func (q *Queue) Keep(ctx context.Context, messages []events.SQSMessage) (stop func()) {
	lease := cmp.Or(q.Lease, DefaultLease)
	held := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(messages))
	for i, m := range messages {
		held[i] = visibility(i, m, lease)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		renew := time.NewTicker(lease / 3)
		defer renew.Stop()
		for {
			q.renew(ctx, held, lease/3)
			select {
			case <-ctx.Done():
				return
			case <-renew.C:
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// renew hides messages, and gives up in time for the next try: a call that is
// never answered must not cost the lease.
func (q *Queue) renew(ctx context.Context, held []types.ChangeMessageVisibilityBatchRequestEntry, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	q.hide(ctx, held)
}

// Bury puts m on the dead-letter queue because of err, whose class and text go
// with it. It returns nil when the message is there, or else why it is not.
func (q *Queue) Bury(ctx context.Context, m events.SQSMessage, err error) error {
	_, sendErr := q.SQS.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl:          aws.String(q.DeadLetterURL),
		MessageBody:       aws.String(m.Body),
		MessageAttributes: deadLetterAttributes(m, err),
	})
	if sendErr != nil {
		return fault.Transientf("dead-letter", "send to the dead-letter queue: %w (it was to go there as %s: %w)",
			sendErr, fault.Class(err), err)
	}
	q.log(ctx, slog.LevelError, "message dead-lettered", m, err)
	return nil
}

// deadLetterAttributes is m's own attributes, as many as there is room for, and
// ours.
func deadLetterAttributes(m events.SQSMessage, err error) map[string]types.MessageAttributeValue {
	attributes := map[string]types.MessageAttributeValue{
		ClassAttribute:  textAttribute(fault.Class(err)),
		ReasonAttribute: textAttribute(reason(err)),
	}
	for _, name := range slices.Sorted(maps.Keys(m.MessageAttributes)) {
		if _, ours := attributes[name]; ours || len(attributes) == maxAttributes {
			continue
		}
		own := m.MessageAttributes[name]
		attributes[name] = types.MessageAttributeValue{
			DataType: aws.String(own.DataType), StringValue: own.StringValue, BinaryValue: own.BinaryValue,
		}
	}
	return attributes
}

func textAttribute(text string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(text)}
}

// reason is the text of err in the characters that SQS takes: those of XML 1.0.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func reason(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFE' || r == '\uFFFF' {
			return utf8.RuneError
		}
		return r
	}, secret.Scrub(err.Error()))
	if len(text) > MaxReason {
		text = strings.ToValidUTF8(text[:MaxReason], "")
	}
	if text == "" {
		return "no reason given"
	}
	return text
}

// visibility hides the i-th message of a batch for d from now on.
func visibility(i int, m events.SQSMessage, d time.Duration) types.ChangeMessageVisibilityBatchRequestEntry {
	return types.ChangeMessageVisibilityBatchRequestEntry{
		Id:                aws.String(strconv.Itoa(i)),
		ReceiptHandle:     aws.String(m.ReceiptHandle),
		VisibilityTimeout: int32(d / time.Second), //nolint:gosec // below maxDelay
	}
}

// hide sets the visibility of messages. A failure costs only the wait: what held
// before holds on.
func (q *Queue) hide(ctx context.Context, messages []types.ChangeMessageVisibilityBatchRequestEntry) {
	for entries := range slices.Chunk(messages, batch) {
		out, err := q.SQS.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{
			QueueUrl: aws.String(q.URL), Entries: entries,
		})
		if err == nil && len(out.Failed) > 0 {
			first := out.Failed[0]
			err = fmt.Errorf("%d of %d refused, the first as %s: %s",
				len(out.Failed), len(entries), aws.ToString(first.Code), aws.ToString(first.Message))
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			q.Log.LogAttrs(ctx, slog.LevelWarn, "visibility not set, the one before holds", slog.Any("error", err))
		}
	}
}

// delay is a random wait. After a failure it is between MinDelay and a bound that
// doubles with each receive up to MaxDelay, but no less than the error asks for.
// What is held waits for as long as the error asks for, and little more.
func (q *Queue) delay(receives int, err error) time.Duration {
	after := fault.RetryAfter(err)
	if fault.IsHeld(err) {
		return min(after+rand.N(time.Duration(receives)*heldGrowth), maxDelay) //nolint:gosec // jitter is no secret
	}
	shortest := cmp.Or(q.MinDelay, DefaultMinDelay)
	longest := max(cmp.Or(q.MaxDelay, DefaultMaxDelay), shortest)
	bound := shortest
	for range receives {
		if bound = min(2*bound, longest); bound == longest {
			break
		}
	}
	wait := shortest + rand.N(bound-shortest+1) //nolint:gosec // jitter is no secret
	return min(max(wait, after), maxDelay)
}

func (q *Queue) log(ctx context.Context, level slog.Level, what string, m events.SQSMessage, err error, more ...slog.Attr) {
	q.Log.LogAttrs(ctx, level, what, append([]slog.Attr{
		slog.String("class", fault.Class(err)),
		slog.String("reason", err.Error()),
		slog.String("messageId", m.MessageId),
		slog.Int("receives", Receives(m)),
	}, more...)...)
}

// Receives is how often m was received, this time included: 1 if SQS did not say.
func Receives(m events.SQSMessage) int {
	n, err := strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
	if err != nil || n < 1 {
		return 1
	}
	return n
}
