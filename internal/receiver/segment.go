package receiver

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/transfer"
)

// SegmentAttribute is the message attribute of a transfer of which only one
// segment is to be carried: its index, from 0. Only the receiver can set it: the
// mailbox takes no attributes.
const SegmentAttribute = "s3ferry-segment"

// segmentOf returns the segment that message asks for, or transfer.Whole.
func segmentOf(message events.SQSMessage) (int, error) {
	attribute, ok := message.MessageAttributes[SegmentAttribute]
	if !ok {
		return transfer.Whole, nil
	}
	text := aws.ToString(attribute.StringValue)
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fault.Permanentf("malformed-segment", "read message attribute %s: got %q, expected a whole number from 0", SegmentAttribute, text)
	}
	return n, nil
}

func segmentAttributes(n int) map[string]types.MessageAttributeValue {
	if n == transfer.Whole {
		return nil
	}
	return map[string]types.MessageAttributeValue{
		SegmentAttribute: {DataType: aws.String("Number"), StringValue: aws.String(strconv.Itoa(n))},
	}
}

// batchesAtOnce is how many calls of ten segments each are under way at once.
const batchesAtOnce = 8

// share puts a message into the inbox for each of the segments.
func (r *Receiver) share(ctx context.Context, message events.SQSMessage, segments []int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batchesAtOnce)
	for chunk := range slices.Chunk(segments, door.MaxEntries) {
		group.Go(func() error {
			entries := make([]types.SendMessageBatchRequestEntry, len(chunk))
			for i, n := range chunk {
				entries[i] = types.SendMessageBatchRequestEntry{
					Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(message.Body), MessageAttributes: segmentAttributes(n),
				}
			}
			out, err := r.SQS.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(r.Inbox.URL), Entries: entries})
			if err == nil && len(out.Failed) > 0 {
				err = fmt.Errorf("%d of %d refused, the first as %s: %s",
					len(out.Failed), len(entries), aws.ToString(out.Failed[0].Code), aws.ToString(out.Failed[0].Message))
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fault.Transientf(classInbox, "send %d segments: %w", len(segments), err)
	}
	return nil
}

// spread puts back the surplus of a batch, and tells which messages that were and
// which are to be carried here. What could not be put back gets its error.
func (r *Receiver) spread(ctx context.Context, messages []events.SQSMessage, errs []error) (others []bool, here []events.SQSMessage) {
	others = surplus(messages)
	var wg sync.WaitGroup
	for i, message := range messages {
		if !others[i] {
			here = append(here, message)
			continue
		}
		wg.Go(func() { errs[i] = r.pass(ctx, message) })
	}
	wg.Wait()
	return others, here
}

// pass puts message back and takes this one out at once: left until the batch
// ends, it would come again beside its copy where the batch is cut short.
func (r *Receiver) pass(ctx context.Context, message events.SQSMessage) error {
	if err := r.putBack(ctx, message); err != nil {
		return err
	}
	_, err := r.SQS.DeleteMessage(ctx, &sqs.DeleteMessageInput{
		QueueUrl: aws.String(r.Inbox.URL), ReceiptHandle: aws.String(message.ReceiptHandle),
	})
	if err != nil {
		r.Log.WarnContext(ctx, "message not deleted yet, though it was put back", "messageId", message.MessageId, "error", err)
	}
	return nil
}

// surplus tells which messages of a batch are segments that another invocation
// should have: all but one, since one uses all connections there are. They are
// put back as new messages, which costs no receive. One that was received before
// is worked on here, or its receives would never be counted.
func surplus(messages []events.SQSMessage) []bool {
	others := make([]bool, len(messages))
	first, kept := -1, false
	for i, m := range messages {
		if n, err := segmentOf(m); err != nil || n == transfer.Whole {
			continue
		}
		if others[i] = settle.Receives(m) == 1; !others[i] {
			kept = true
		} else if first < 0 {
			first = i
		}
	}
	if first >= 0 && !kept {
		others[first] = false
	}
	return others
}
