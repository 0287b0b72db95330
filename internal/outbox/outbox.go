// Package outbox puts events into the outbox from outside: what S3 did not tell
// of, and what is to be sent once more.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
)

const (
	// SQS's limits of one call, and the size that every partition takes.
	maxEntries = 10
	maxBytes   = 256 << 10

	callers = 8 // calls at once
	tries   = 6 // of a message that the queue did not take
)

// SQS is what an Outbox asks of *sqs.Client.
type SQS interface {
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
}

var _ SQS = (*sqs.Client)(nil)

// Outbox is the queue of events.
type Outbox struct {
	SQS SQS
	URL string
}

// Message is an event as the outbox holds it.
type Message struct {
	Body       string
	Attributes map[string]types.MessageAttributeValue
}

// Put puts messages into the queue. It returns one error per message, nil where
// SQS has it durably, and all of them joined.
func (o *Outbox) Put(ctx context.Context, messages []Message) ([]error, error) {
	errs := make([]error, len(messages))
	var group errgroup.Group
	group.SetLimit(callers)
	for from := 0; from < len(messages); {
		to := from + fitting(messages[from:])
		batch, failed := messages[from:to], errs[from:to]
		group.Go(func() error {
			o.put(ctx, batch, failed)
			return nil
		})
		from = to
	}
	_ = group.Wait()
	return errs, summary(errs)
}

// fitting returns how many of messages go into one call: at least one.
func fitting(messages []Message) int {
	bytes := 0
	for i, m := range messages[:min(maxEntries, len(messages))] {
		bytes += len(m.Body)
		for name, attribute := range m.Attributes {
			bytes += len(name) + len(aws.ToString(attribute.DataType)) + len(aws.ToString(attribute.StringValue)) + len(attribute.BinaryValue)
		}
		if i > 0 && bytes > maxBytes {
			return i
		}
	}
	return min(maxEntries, len(messages))
}

// put sends one batch, again as long as the queue takes only some of it, and
// sets the errors of those that it did not take.
func (o *Outbox) put(ctx context.Context, messages []Message, errs []error) {
	waiting := map[string]int{}
	for i := range messages {
		waiting[strconv.Itoa(i)] = i
	}
	pause := backoff.NewExponentialBackOff()
	for try := 1; ; try++ {
		var entries []types.SendMessageBatchRequestEntry
		for id, i := range waiting {
			entries = append(entries, types.SendMessageBatchRequestEntry{
				Id: aws.String(id), MessageBody: &messages[i].Body, MessageAttributes: messages[i].Attributes,
			})
		}
		out, err := o.SQS.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &o.URL, Entries: entries})
		for _, i := range waiting {
			errs[i] = errors.New("SQS did not say what became of it")
			if err != nil {
				errs[i] = err
			}
		}
		if err != nil {
			return // the SDK has retried it
		}
		for _, f := range out.Failed {
			if i, ok := waiting[aws.ToString(f.Id)]; ok {
				errs[i] = fmt.Errorf("%s: %s", aws.ToString(f.Code), aws.ToString(f.Message))
			}
		}
		for _, ok := range out.Successful {
			if i, known := waiting[aws.ToString(ok.Id)]; known {
				errs[i] = nil
				delete(waiting, aws.ToString(ok.Id))
			}
		}
		if len(waiting) == 0 || try == tries || sleep(ctx, pause.NextBackOff()) != nil {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// summary is nil if every error is.
func summary(errs []error) error {
	failed := 0
	var first error
	for _, err := range errs {
		if err != nil {
			failed++
			first = err
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("put %d of %d events into the outbox: %w", failed, len(errs), first)
}
