// Package receiver is the receiving side's function: transfers in from the
// inbox, objects out into the destination bucket, a receipt for each.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Engine carries one object version, deletion or change of tags. *transfer.Engine
// satisfies it.
type Engine interface {
	Delete(ctx context.Context, t *wire.Transfer) (transfer.Result, error)
	Put(ctx context.Context, t *wire.Transfer, redelivered bool) (transfer.Result, error)
	PutSegment(ctx context.Context, t *wire.Transfer, segment int) (transfer.Result, error)
	Tag(ctx context.Context, t *wire.Transfer, redelivered bool) (transfer.Result, error)
}

// Guard says from where a transfer may be pulled. *guard.Guard satisfies it.
type Guard interface {
	Rebuild(t *wire.Transfer) (secret.String, error)
}

// SQS is what a Receiver asks of *sqs.Client beside what settle does.
type SQS interface {
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
	DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error)
}

var _ SQS = (*sqs.Client)(nil)

// Receiver handles batches of the inbox.
type Receiver struct {
	Engine      Engine
	Guard       Guard
	Trust       *link.Cache[link.Trust]
	Inbox       *settle.Queue
	SQS         SQS
	ReceiptsURL string
	Deletes     bool // deletions are carried, not refused
	TagChanges  bool // and so are changes of tags
	MaxReceives int  // of the inbox: after so many, SQS gives a message up without a word
	Log         *slog.Logger
	Name        string // of the receiver, in metrics
}

// Handle carries every transfer of the batch at once; the engine's budgets bound
// what that costs. A message is acknowledged only when its receipt is in the
// receipts queue, or what carries it on in the inbox.
func (r *Receiver) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	work, cancel := beforeDeadline(ctx)
	defer cancel()
	errs := make([]error, len(event.Records))
	others, here := r.spread(work, event.Records, errs)
	release := r.Inbox.Keep(ctx, here)

	receipts := make([]*wire.Receipt, len(event.Records))
	told := make([]func(context.Context) error, len(event.Records))
	var wg sync.WaitGroup
	for i, message := range event.Records {
		if !others[i] {
			wg.Go(func() { receipts[i], told[i], errs[i] = r.carry(work, message) })
		}
	}
	wg.Wait()

	r.send(ctx, receipts, errs)
	errs = r.Inbox.BuryAll(ctx, event.Records, errs) // a journal that has forgotten could not say it again
	r.tell(ctx, told, errs)
	r.measure(ctx, receipts, errs)
	release()
	return r.Inbox.Settle(ctx, event.Records, errs), nil
}

// reserve is the time that the work leaves for what must be done after it: receipts,
// dead letters, the journal and the queue have sendTimeout each.
const reserve = 4 * sendTimeout

func beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	const share = 5
	return context.WithDeadline(ctx, deadline.Add(-min(reserve, time.Until(deadline)/share)))
}

// measure logs the metrics of a batch: of the receipts that are in their queue.
func (r *Receiver) measure(ctx context.Context, receipts []*wire.Receipt, errs []error) {
	var set metric.Set
	for i, receipt := range receipts {
		if receipt != nil && errs[i] == nil {
			obs.Measure(&set, *receipt)
		}
	}
	set.Observe(metric.Memory, obs.Memory())
	set.Log(ctx, r.Log, r.Name)
}

// carry does what one message asks for. It returns the receipt to send, if there
// is something to tell, what to call when that is done, and what is to become of
// the message.
func (r *Receiver) carry(ctx context.Context, message events.SQSMessage) (*wire.Receipt, func(context.Context) error, error) {
	start := time.Now()
	// Another try of this message might be the last, without a word.
	last := settle.Receives(message) >= r.MaxReceives-1
	t, trust, err := r.open(ctx, message.Body)
	switch {
	case err != nil && !fault.IsPermanent(err) && last:
		return nil, nil, r.startOver(ctx, message, err)
	case err != nil:
		return nil, nil, err // nobody can be told: whose it is stays unknown
	}
	segment, err := segmentOf(message)
	if err != nil {
		return nil, nil, err // the transfer itself is under way in another message
	}
	receipt := &wire.Receipt{ID: t.ID, Op: t.Op, Round: t.Round, Source: t.Source, Attempts: settle.Receives(message)}
	result, err := r.pull(ctx, t, trust, segment, receipt.Attempts > 1)

	receipt.Millis, receipt.At = time.Since(start).Milliseconds(), time.Now().UTC()
	if result.Residue != nil {
		r.Log.WarnContext(ctx, "transfer not tidied up, lifecycle rules will", "id", t.ID, "key", t.Source.Key, "error", result.Residue)
	}
	unfinished, isUnfinished := errors.AsType[*transfer.Unfinished](err)
	switch {
	case isUnfinished && unfinished.Parts > 0:
		return nil, nil, r.carryOn(ctx, message, t, unfinished)
	case isUnfinished:
		// Nothing to go on with is a failure, or it could loop for ever.
		err = fault.Transientf("no-progress", "carry %q: %w", t.Source.Key, unfinished)
	}
	switch {
	case fault.IsPermanent(err):
		receipt.Outcome, receipt.Class, receipt.Reason = wire.Failed, fault.Class(err), secret.Scrub(err.Error())
		if isRefusal(err) {
			receipt.Outcome = wire.Refused
		}
		return receipt, result.Told, err
	case err != nil && last && segment != transfer.Whole:
		// If each segment were handed back, each would come again as a whole.
		return nil, nil, r.startOver(ctx, message, err)
	case err != nil && last:
		// Of the next round the sender knows, and the journal has kept what is done.
		receipt.Outcome, receipt.Class, receipt.Reason, receipt.Retry = wire.Failed, fault.Class(err), secret.Scrub(err.Error()), true
		r.Log.WarnContext(ctx, "transfer handed back", "class", receipt.Class, "reason", receipt.Reason, "id", t.ID,
			"key", t.Source.Key, "attempts", receipt.Attempts, "round", t.Round)
		return receipt, nil, nil
	case err != nil:
		return nil, nil, err
	}
	if err := r.askAgain(ctx, wire.OpPut, result.Again); err != nil {
		return nil, nil, err
	}
	if err := r.askAgain(ctx, wire.OpTag, result.Retag); err != nil {
		return nil, nil, err
	}
	if result.Outcome == "" {
		return nil, nil, r.share(ctx, message, result.Segments)
	}
	receipt.Outcome, receipt.Bytes, receipt.Verified = result.Outcome, result.Bytes, result.Verified
	r.Log.InfoContext(ctx, "transfer ended", "outcome", receipt.Outcome, "id", t.ID, "key", t.Source.Key,
		"bytes", receipt.Bytes, "millis", receipt.Millis, "verified", receipt.Verified, "attempts", receipt.Attempts)
	return receipt, result.Told, nil
}

// open returns the transfer that body holds, and the trust document that says
// so. A key that is not known is looked for once more: it may be new.
func (r *Receiver) open(ctx context.Context, body string) (*wire.Transfer, link.Trust, error) {
	trust, err := r.Trust.Get(ctx)
	if err != nil {
		return nil, trust, fault.Transientf("trust-unavailable", "read the trust document: %w", err)
	}
	t, err := wire.Verify(body, trust.Keys)
	if errors.Is(err, wire.ErrUnknownKey) {
		if trust, err = r.Trust.Refresh(ctx); err != nil {
			return nil, trust, fault.Transientf("trust-unavailable", "read the trust document: %w", err)
		}
		t, err = wire.Verify(body, trust.Keys)
	}
	if err != nil {
		return nil, trust, fault.Permanent(verifyClass(err), err)
	}
	return t, trust, nil
}

func (r *Receiver) pull(ctx context.Context, t *wire.Transfer, trust link.Trust, segment int, redelivered bool) (transfer.Result, error) {
	if !trust.Allows(t.Source.Bucket, t.Source.Region) {
		// A source may have been added since.
		fresh, err := r.Trust.Refresh(ctx)
		if err != nil {
			return transfer.Result{}, fault.Transientf("trust-unavailable", "read the trust document: %w", err)
		}
		if !fresh.Allows(t.Source.Bucket, t.Source.Region) {
			return transfer.Result{}, fault.Permanentf(classSource,
				"got source bucket %q in %s, expected one of %v: add it with `s3ferry link`",
				t.Source.Bucket, t.Source.Region, fresh.Sources)
		}
	}
	switch {
	case t.Op == wire.OpNoop:
		return transfer.Result{Outcome: wire.Linked}, nil
	case t.Op == wire.OpDelete && !r.Deletes:
		return transfer.Result{}, fault.Permanentf(classDeletesOff, "got a deletion, expected none: switch Deletes on for the receiver too")
	case t.Op == wire.OpDelete:
		return r.Engine.Delete(ctx, t) // it needs no URL, so it is never too late
	case t.Op == wire.OpTag && !r.TagChanges:
		return transfer.Result{}, fault.Permanentf(classTagsOff, "got a change of tags, expected none: switch TagChanges on for the receiver too")
	}
	url, err := r.Guard.Rebuild(t)
	if err != nil {
		return transfer.Result{}, err
	}
	t.URL = url
	switch {
	case segment != transfer.Whole:
		return r.Engine.PutSegment(ctx, t, segment)
	case !redelivered && !time.Now().Before(t.NotAfter): // else it may have arrived already
		return transfer.Result{Outcome: wire.Expired}, nil
	case t.Op == wire.OpTag:
		return r.Engine.Tag(ctx, t, redelivered)
	default:
		return r.Engine.Put(ctx, t, redelivered)
	}
}

// askAgain has the sender send again what the engine may have undone: a newer put,
// or tags. It does nothing where there is none.
func (r *Receiver) askAgain(ctx context.Context, op wire.Op, again *wire.Source) error {
	if again == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	body, err := wire.EncodeReceipt(wire.Receipt{
		ID: wire.ID(op, *again), Op: op, Outcome: wire.Expired, Source: *again, Attempts: 1, At: time.Now().UTC(),
		Reason: "something older may have been carried on top of it",
	})
	if err == nil {
		_, err = r.SQS.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(r.ReceiptsURL), MessageBody: aws.String(body)})
	}
	if err != nil {
		return fault.Transientf("receipt-unsent", "ask for %q again: %w", again.Key, err)
	}
	r.Log.InfoContext(ctx, "transfer asked for again: another one came on top", "op", op, "key", again.Key, "sequencer", again.Sequencer)
	return nil
}

// carryOn puts the transfer back into the inbox as a new message, so that going
// on costs no receive.
func (r *Receiver) carryOn(ctx context.Context, message events.SQSMessage, t *wire.Transfer, u *transfer.Unfinished) error {
	if err := r.putBack(ctx, message); err != nil {
		return err
	}
	r.Log.InfoContext(ctx, "transfer goes on in another invocation", "id", t.ID, "key", t.Source.Key,
		"parts", u.Parts, "remaining", u.Remaining)
	return nil
}

// startOver puts message back as a new one because of err, so that its receives
// are counted from the start.
func (r *Receiver) startOver(ctx context.Context, message events.SQSMessage, err error) error {
	if putErr := r.putBack(ctx, message); putErr != nil {
		return fmt.Errorf("%w (it was to start over after: %w)", putErr, err)
	}
	r.Log.WarnContext(ctx, "message starts over", "class", fault.Class(err), "reason", secret.Scrub(err.Error()),
		"messageId", message.MessageId, "receives", settle.Receives(message))
	return nil
}

// putBack sends message into the inbox as a new one.
func (r *Receiver) putBack(ctx context.Context, message events.SQSMessage) error {
	segment, err := segmentOf(message)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	_, err = r.SQS.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: aws.String(r.Inbox.URL), MessageBody: aws.String(message.Body), MessageAttributes: segmentAttributes(segment),
	})
	if err != nil {
		return fault.Transientf(classInbox, "put back message %s: %w", message.MessageId, err)
	}
	return nil
}

// tell calls what waits for receipts to be safe. A message for which that fails
// for now is not done.
func (r *Receiver) tell(ctx context.Context, told []func(context.Context) error, errs []error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	for i, f := range told {
		if f == nil || errs[i] != nil {
			continue
		}
		switch err := f(ctx); {
		case fault.IsPermanent(err):
			r.Log.WarnContext(ctx, "transfer not tidied up, lifecycle rules will", "error", err)
		case err != nil:
			errs[i] = fmt.Errorf("tidy up after the transfer: %w", err)
		}
	}
}

// sendTimeout bounds the calls that must be made when the work's time is over.
const sendTimeout = 5 * time.Second

// send puts the receipts into their queue. A message whose receipt does not get
// there fails instead, so that it is told again.
func (r *Receiver) send(ctx context.Context, receipts []*wire.Receipt, errs []error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()

	var entries []types.SendMessageBatchRequestEntry
	for i, receipt := range receipts {
		if receipt == nil {
			continue
		}
		body, err := wire.EncodeReceipt(*receipt)
		if err != nil {
			errs[i] = fault.Transientf("receipt-unsent", "send receipt of %q: %w", receipt.Source.Key, err)
			continue
		}
		entries = append(entries, types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(body),
		})
	}
	for chunk := range slices.Chunk(entries, door.MaxEntries) {
		out, err := r.SQS.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(r.ReceiptsURL), Entries: chunk})
		if err != nil {
			for _, entry := range chunk {
				fail(errs, entry.Id, err)
			}
			continue
		}
		for _, f := range out.Failed {
			fail(errs, f.Id, fmt.Errorf("%s: %s", aws.ToString(f.Code), aws.ToString(f.Message)))
		}
	}
}

func fail(errs []error, id *string, err error) {
	if i, convErr := strconv.Atoi(aws.ToString(id)); convErr == nil && i >= 0 && i < len(errs) {
		errs[i] = fault.Transientf("receipt-unsent", "send receipt: %w", err)
	}
}

const (
	classSource     = "unknown-source"    // permanent: a source bucket that nobody linked
	classDeletesOff = "deletes-off"       // permanent: a deletion, which this receiver does not carry
	classTagsOff    = "tag-changes-off"   // permanent: the same of a change of tags
	classInbox      = "inbox-unavailable" // transient
)

// isRefusal tells what the receiver would not touch from what it could not do.
func isRefusal(err error) bool {
	return slices.Contains([]string{classSource, classDeletesOff, classTagsOff, "url-refused"}, fault.Class(err))
}

func verifyClass(err error) string {
	switch {
	case errors.Is(err, wire.ErrUnknownKey):
		return "unknown-key"
	case errors.Is(err, wire.ErrSignature):
		return "bad-signature"
	case errors.Is(err, wire.ErrVersion):
		return "unknown-version"
	default:
		return "malformed-transfer"
	}
}
