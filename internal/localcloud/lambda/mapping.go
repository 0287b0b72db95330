package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
)

const (
	pollWait     = 20 * time.Second
	maxBatchSize = 10
)

// Invoker runs a function once. *Host is one.
type Invoker interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
}

var _ Invoker = (*Host)(nil)

// Mapping is an event source mapping from a queue to a function, with
// ReportBatchItemFailures.
type Mapping struct {
	Queue       *sqs.Queue
	Function    Invoker
	Region      string
	BatchSize   int           // 1 to 10; 0: 10
	Window      time.Duration // to wait for a full batch once there is a message
	Concurrency int           // most invocations at once; 0: 1
	Log         *slog.Logger
}

// Run polls until ctx ends, and returns when the invocations then running have
// ended too. These do not see ctx: stop the function to cut them short.
func (m Mapping) Run(ctx context.Context) {
	if m.BatchSize == 0 {
		m.BatchSize = maxBatchSize
	}
	var wg sync.WaitGroup
	for range max(1, m.Concurrency) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if batch := m.receive(ctx); len(batch) > 0 {
					m.deliver(context.WithoutCancel(ctx), batch)
				}
			}
		})
	}
	wg.Wait()
}

func (m Mapping) receive(ctx context.Context) []sqs.Received {
	batch := m.Queue.Receive(ctx, sqs.ReceiveOptions{Max: m.BatchSize, Wait: new(pollWait)})
	if len(batch) == 0 || m.Window == 0 {
		return batch
	}
	for end := time.Now().Add(m.Window); len(batch) < m.BatchSize; {
		more := m.Queue.Receive(ctx, sqs.ReceiveOptions{Max: m.BatchSize - len(batch), Wait: new(time.Until(end))})
		if len(more) == 0 {
			break
		}
		batch = append(batch, more...)
	}
	return batch
}

// deliver invokes the function with the batch and deletes what it settled. All
// else becomes visible again when the queue's timeout, or the one the function
// has set, is over.
func (m Mapping) deliver(ctx context.Context, batch []sqs.Received) {
	payload, err := json.Marshal(m.event(batch))
	if err == nil {
		payload, err = m.Function.Invoke(ctx, payload)
	}
	var failed map[string]bool
	if err == nil {
		failed, err = failures(payload, batch)
	}
	if err != nil {
		m.Log.Error("batch failed", "queue", m.Queue.Name(), "messages", len(batch), "err", err)
		return
	}
	for _, message := range batch {
		if failed[message.ID] {
			continue
		}
		if err := m.Queue.Delete(message.ReceiptHandle); err != nil {
			m.Log.Error("message not deleted", "queue", m.Queue.Name(), "message", message.ID, "err", err)
		}
	}
}

func (m Mapping) event(batch []sqs.Received) events.SQSEvent {
	var event events.SQSEvent
	for _, r := range batch {
		attributes := map[string]events.SQSMessageAttribute{}
		for name, a := range r.Attributes {
			attributes[name] = events.SQSMessageAttribute{
				DataType: a.DataType, StringValue: a.StringValue, BinaryValue: a.BinaryValue,
				StringListValues: []string{}, BinaryListValues: [][]byte{},
			}
		}
		event.Records = append(event.Records, events.SQSMessage{
			MessageId: r.ID, ReceiptHandle: r.ReceiptHandle,
			Body: r.Body, Md5OfBody: sqs.MD5OfBody(r.Body),
			Attributes: r.System, MessageAttributes: attributes, Md5OfMessageAttributes: sqs.MD5OfAttributes(r.Attributes),
			EventSource: "aws:sqs", EventSourceARN: m.Queue.ARN(), AWSRegion: m.Region,
		})
	}
	return event
}

// failures reads the function's answer as the service does: no answer, null and
// no failures mean that all is settled; an answer it cannot read, or one that
// names a message the batch does not have, that nothing is.
func failures(response []byte, batch []sqs.Received) (map[string]bool, error) {
	var answer events.SQSEventResponse
	if len(response) > 0 {
		if err := json.Unmarshal(response, &answer); err != nil {
			return nil, fmt.Errorf("read batch response: %w", err)
		}
	}
	known := map[string]bool{}
	for _, m := range batch {
		known[m.ID] = true
	}
	failed := map[string]bool{}
	for _, f := range answer.BatchItemFailures {
		if !known[f.ItemIdentifier] {
			return nil, fmt.Errorf("read batch response: item %q is not in the batch", f.ItemIdentifier)
		}
		failed[f.ItemIdentifier] = true
	}
	return failed, nil
}
