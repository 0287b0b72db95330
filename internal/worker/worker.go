// Package worker runs a receiver outside Lambda: it polls the inbox itself, for
// objects and deadlines that outgrow the 15 minutes of a function.
package worker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/cenkalti/backoff/v5"

	"github.com/s3ferry/s3ferry/internal/transfer"
)

const (
	// pollWait is SQS's longest wait for a message, in seconds.
	pollWait = 20
	// pollTimeout ends a poll that is never answered.
	pollTimeout = 2 * pollWait * time.Second
	// lease hides a message until its handler holds it: a poll that is broken off
	// may have taken messages that nobody works on. In seconds.
	lease = 60
	// batch is SQS's limit of messages in one call.
	batch = 10
	// longest is how long one message is worked on. SQS hides a message for 12
	// hours at most, counted from when it was received:
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
	longest = 11 * time.Hour
	// deleteTimeout bounds the call that ends a message.
	deleteTimeout = 30 * time.Second
)

// Defaults of a Worker.
const (
	DefaultConcurrency = 10
	DefaultGrace       = 25 * time.Second // ECS kills a task 30 s after it asked it to stop
)

// SQS is what a Worker asks of *sqs.Client.
type SQS interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error)
}

var _ SQS = (*sqs.Client)(nil)

// Worker handles the messages of a queue, each by itself, so that a large object
// keeps no small one waiting.
type Worker struct {
	SQS      SQS
	QueueURL string
	// Handle is a function's handler. Its answer names the messages that stay.
	Handle      func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)
	Concurrency int           // messages at once; 0 is DefaultConcurrency
	Grace       time.Duration // for handing over what is under way; 0 is DefaultGrace
	Log         *slog.Logger
}

// Run works until ctx is done. Then it takes no further message, and has those
// under way stop as at a function's deadline: what was pulled is stored, and a
// continuation goes back to the inbox. What is not done within Grace is cut
// short; its lease ends by itself. The first poll must succeed, or its error is
// returned; later ones are tried again until ctx is done. After an orderly end
// the error is nil.
func (w *Worker) Run(ctx context.Context) error {
	free := make(chan struct{}, cmp.Or(w.Concurrency, DefaultConcurrency))
	for range cap(free) {
		free <- struct{}{}
	}
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(cmp.Or(w.Grace, DefaultGrace), cut) })()

	var running sync.WaitGroup
	defer running.Wait()
	pauses := backoff.NewExponentialBackOff()
	for polled := false; ; {
		slots := take(ctx, free)
		if slots == 0 {
			w.Log.InfoContext(ctx, "worker stops", "reason", context.Cause(ctx))
			return nil
		}
		messages, err := w.receive(ctx, slots)
		for range slots - len(messages) {
			free <- struct{}{}
		}
		switch {
		case err == nil:
			polled = true
			pauses.Reset()
		case ctx.Err() != nil:
			continue
		case !polled:
			return fmt.Errorf("receive from %s: %w", w.QueueURL, err)
		default:
			pause := pauses.NextBackOff()
			w.Log.WarnContext(ctx, "inbox not polled, will be tried again", "error", err, "delayMillis", pause.Milliseconds())
			sleep(ctx, pause)
		}
		for _, m := range messages {
			running.Go(func() {
				defer func() { free <- struct{}{} }()
				w.work(transfer.Until(hard, ctx), m)
			})
		}
	}
}

// take takes one slot, and more if they are free, up to a batch. It returns 0
// when ctx is done.
func take(ctx context.Context, free <-chan struct{}) (slots int) {
	select {
	case <-ctx.Done():
		return 0
	case <-free:
	}
	for slots = 1; slots < batch; slots++ {
		select {
		case <-free:
		default:
			return slots
		}
	}
	return slots
}

func (w *Worker) receive(ctx context.Context, n int) ([]types.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	out, err := w.SQS.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(w.QueueURL), MaxNumberOfMessages: int32(n), WaitTimeSeconds: pollWait, VisibilityTimeout: lease, //nolint:gosec // at most batch
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		MessageAttributeNames:       []string{"All"},
	})
	if err != nil {
		return nil, err
	}
	return out.Messages, nil
}

// work handles one message, and deletes it unless it has to stay.
func (w *Worker) work(ctx context.Context, m types.Message) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	response, err := w.Handle(ctx, events.SQSEvent{Records: []events.SQSMessage{record(m)}})
	if err == nil && len(response.BatchItemFailures) > 0 {
		return // whoever handled it has said why
	}
	if err == nil {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
		defer cancel()
		_, err = w.SQS.DeleteMessage(done, &sqs.DeleteMessageInput{QueueUrl: aws.String(w.QueueURL), ReceiptHandle: m.ReceiptHandle})
	}
	if err != nil {
		w.Log.ErrorContext(ctx, "message comes again", "messageId", aws.ToString(m.MessageId), "error", err)
	}
}

// record is the message as an event source mapping would hand it over.
func record(m types.Message) events.SQSMessage {
	attributes := map[string]events.SQSMessageAttribute{}
	for name, a := range m.MessageAttributes {
		attributes[name] = events.SQSMessageAttribute{DataType: aws.ToString(a.DataType), StringValue: a.StringValue, BinaryValue: a.BinaryValue}
	}
	return events.SQSMessage{
		MessageId: aws.ToString(m.MessageId), ReceiptHandle: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
		Attributes: m.Attributes, MessageAttributes: attributes, EventSource: "aws:sqs",
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
