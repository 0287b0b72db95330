// Package redrive empties dead-letter queues back into the outbox, from where
// everything starts anew: what died in the inbox carries a URL that is dead too,
// so it has to be signed again. It does by itself what SQS's own redrive does,
// which AWS China does not have.
package redrive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/outbox"
	"github.com/s3ferry/s3ferry/internal/settle"
)

const (
	batch = 10 // SQS's limit of messages in one call
	// readers are as many as meet all 120,000 letters that SQS hides at once before
	// the lease of the first ends, at a quarter of a second a call.
	readers = 16
	// repeats is how many batches of letters that were all met before end a reader:
	// those that stay show again when their lease ends, and may come before others.
	repeats = 10
	// wait is how long a queue is asked; SQS then looks at all its servers.
	wait = 2 * time.Second
	// lease is how long nobody else sees a letter that was read.
	lease = 5 * time.Minute
	// timeout bounds each call that must be made after an interrupt, and all that
	// show letters again then.
	timeout = 10 * time.Second
)

// SQS is what a Queue asks of *sqs.Client.
type SQS interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

var _ SQS = (*sqs.Client)(nil)

// Queue is a dead-letter queue.
type Queue struct {
	Name string // as letters are shown
	SQS  SQS
	URL  string
	// Read turns the body of a letter into an event for the outbox, and says of
	// which objects it tells. Its error says why the letter stays.
	Read func(body string) (Event, error)
}

// Event is what a letter is turned into.
type Event struct {
	Body string
	Keys []string
}

// Outbox is where letters go. *outbox.Outbox satisfies it.
type Outbox interface {
	Put(context.Context, []outbox.Message) ([]error, error)
}

var _ Outbox = (*outbox.Outbox)(nil)

// Options says which letters Run takes. Zero takes all.
type Options struct {
	Classes []string          // any of these, by which functions classify a failure
	Match   func(string) bool // a key of the letter; nil: any
	Outbox  Outbox            // nil: nothing is moved, only told
	// Found is called for each letter that was asked for, from one goroutine at a
	// time; nil: nobody asks.
	Found func(Letter) error
}

// What becomes of a letter.
const (
	Listed   = "listed"   // it is one that Run would take
	Redriven = "redriven" // it is in the outbox again, and gone from here
	Kept     = "kept"     // it stays: Problem says why
	Passed   = "passed"   // it stays: it was not asked for
)

// Letter is a message of a dead-letter queue.
type Letter struct {
	Queue   string    `json:"queue"`
	Message string    `json:"message"` // ID
	Class   string    `json:"class"`   // "crashed": it was received too often, and no reader said why
	Reason  string    `json:"reason,omitempty"`
	Keys    []string  `json:"keys,omitempty"`
	Sent    time.Time `json:"sent"`
	Fate    string    `json:"fate"`
	Problem string    `json:"problem,omitempty"`
	Body    string    `json:"-"`

	handle  string
	event   string
	foreign map[string]types.MessageAttributeValue // attributes that are not ours
}

// crashed is the class of a letter without one.
const crashed = "crashed"

// Summary counts letters by what became of them.
type Summary map[string]int

// Run goes through the letters of queues once. A letter is deleted only when the
// outbox has its event; if it then can't be deleted, that is an error, and its
// objects are looked at once more, which changes nothing. Letters that stay are
// visible again when Run returns. If it has not met all, it says so in an error.
func Run(ctx context.Context, queues []Queue, o Options) (Summary, error) {
	r := &run{Options: o, summary: Summary{}}
	var errs []error
	for _, queue := range queues {
		if err := r.drain(ctx, queue); err != nil {
			errs = append(errs, fmt.Errorf("redrive the %s: %w", queue.Name, err))
		}
	}
	return r.summary, errors.Join(errs...)
}

type run struct {
	Options

	mu      sync.Mutex
	summary Summary
}

// drain reads queue until there is nothing that was not seen before.
func (r *run) drain(ctx context.Context, queue Queue) error {
	pass := &pass{run: r, queue: queue, seen: map[string]bool{}, held: map[string]string{}}
	before, err := pass.depth(ctx)
	if err != nil {
		return err
	}
	var group errgroup.Group
	var failed atomic.Bool
	for range readers {
		group.Go(func() error {
			for old := 0; ctx.Err() == nil && !failed.Load(); {
				met, fresh, err := pass.step(ctx)
				if err != nil {
					failed.Store(true)
					return err
				}
				if old++; fresh > 0 {
					old = 0
				}
				if met == 0 || old == repeats {
					return nil
				}
			}
			return ctx.Err()
		})
	}
	if err := errors.Join(group.Wait(), pass.release(ctx)); err != nil {
		return err
	}
	after, err := pass.depth(ctx)
	if err != nil {
		return err
	}
	// SQS counts roughly and late: what was just deleted may count afterwards, and
	// what was deleted just before, at first.
	if n := min(before-len(pass.seen), after-len(pass.held)); n > 0 {
		return fmt.Errorf("%d letters were hidden or not looked at: run it again, in %v for those that another run has hidden", n, lease)
	}
	return nil
}

// pass is one way through a queue.
type pass struct {
	*run
	queue Queue

	mu   sync.Mutex
	seen map[string]bool   // by message ID
	held map[string]string // newest handles of letters that stay, by message ID
}

// depth asks how many letters there are, hidden ones too.
func (p *pass) depth(ctx context.Context) (int, error) {
	names := []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible}
	out, err := p.queue.SQS.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &p.queue.URL, AttributeNames: names})
	if err != nil {
		return 0, fmt.Errorf("ask how many letters there are: %w", err)
	}
	total := 0
	for _, name := range names {
		n, err := strconv.Atoi(out.Attributes[string(name)])
		if err != nil {
			return 0, fmt.Errorf("ask how many letters there are: got %q as %s, expected a number", out.Attributes[string(name)], name)
		}
		total += n
	}
	return total, nil
}

// step takes up to ten letters on their way. It returns how many came, and how
// many of them were not seen before.
func (p *pass) step(ctx context.Context) (met, fresh int, err error) {
	// Not cut short: SQS would hide letters for a call that nobody listens to.
	receive, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait+timeout)
	defer cancel()
	out, err := p.queue.SQS.ReceiveMessage(receive, &sqs.ReceiveMessageInput{
		QueueUrl: &p.queue.URL, MaxNumberOfMessages: batch, WaitTimeSeconds: int32(wait / time.Second),
		VisibilityTimeout: int32(lease / time.Second), MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameSentTimestamp},
	})
	if err != nil {
		return 0, 0, fmt.Errorf("receive: %w", err)
	}
	var taken []Letter
	for _, m := range out.Messages {
		letter := p.judge(m)
		if p.meet(letter) {
			continue
		}
		fresh++
		if letter.Fate == Redriven {
			taken = append(taken, letter)
			continue
		}
		if err := p.tell(letter); err != nil {
			return 0, 0, err
		}
	}
	return len(out.Messages), fresh, p.move(ctx, taken)
}

// meet notes a letter and reports whether it was seen before. All that stays is
// held: so is what was to be moved, until it is.
func (p *pass) meet(letter Letter) (before bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before = p.seen[letter.Message]
	p.seen[letter.Message] = true
	p.held[letter.Message] = letter.handle
	return before
}

func (p *pass) judge(m types.Message) Letter {
	letter := Letter{
		Queue: p.queue.Name, Message: aws.ToString(m.MessageId), Body: aws.ToString(m.Body), handle: aws.ToString(m.ReceiptHandle),
		foreign: map[string]types.MessageAttributeValue{},
	}
	text := func(name string) string { return aws.ToString(m.MessageAttributes[name].StringValue) }
	letter.Class = cmp.Or(text(settle.ClassAttribute), text(ruleClass), crashed)
	letter.Reason = cmp.Or(text(settle.ReasonAttribute), text(ruleReason))
	if millis, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		letter.Sent = time.UnixMilli(millis).UTC()
	}
	for name, attribute := range m.MessageAttributes {
		if !strings.HasPrefix(name, ourAttributes) && !slices.Contains(ruleAttributes, name) {
			letter.foreign[name] = attribute
		}
	}
	event, err := p.queue.Read(letter.Body)
	letter.Keys, letter.event = event.Keys, event.Body
	switch {
	case len(p.Classes) > 0 && !slices.Contains(p.Classes, letter.Class),
		p.Match != nil && !slices.ContainsFunc(letter.Keys, p.Match):
		letter.Fate = Passed
	case err != nil:
		letter.Fate, letter.Problem = Kept, err.Error()
	case p.Outbox == nil:
		letter.Fate = Listed
	default:
		letter.Fate = Redriven
	}
	return letter
}

// ourAttributes begin with this. They tell of the life that has ended.
const ourAttributes = "s3ferry-"

// Attributes of a letter that EventBridge could not put into the outbox.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
const (
	ruleClass  = "ERROR_CODE"
	ruleReason = "ERROR_MESSAGE"
)

// ruleAttributes tell of the life that has ended, too.
var ruleAttributes = []string{ruleClass, ruleReason, "RULE_ARN", "TARGET_ARN", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS"}

// move puts the events of letters into the outbox, and deletes those letters
// whose event is there.
func (p *pass) move(ctx context.Context, letters []Letter) error {
	if len(letters) == 0 {
		return nil
	}
	messages := make([]outbox.Message, len(letters))
	for i, letter := range letters {
		messages[i] = outbox.Message{Body: letter.event, Attributes: letter.foreign}
	}
	errs, err := p.Outbox.Put(ctx, messages)
	var entries []types.DeleteMessageBatchRequestEntry
	for i := range letters {
		if errs[i] != nil {
			letters[i].Fate, letters[i].Problem = Kept, errs[i].Error()
			continue
		}
		entries = append(entries, types.DeleteMessageBatchRequestEntry{Id: &letters[i].Message, ReceiptHandle: &letters[i].handle})
	}
	err = errors.Join(err, p.remove(context.WithoutCancel(ctx), entries))
	for _, letter := range letters {
		if tellErr := p.tell(letter); tellErr != nil {
			return errors.Join(err, tellErr)
		}
	}
	return err
}

// remove deletes letters, also when there is an interrupt: their events are
// under way already.
func (p *pass) remove(ctx context.Context, entries []types.DeleteMessageBatchRequestEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := p.queue.SQS.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &p.queue.URL, Entries: entries})
	if err != nil {
		return fmt.Errorf("delete letters whose events are in the outbox: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, entry := range entries {
		delete(p.held, aws.ToString(entry.Id))
	}
	if len(out.Failed) > 0 {
		first := out.Failed[0]
		return fmt.Errorf("delete letters whose events are in the outbox: %d of %d refused, the first as %s: %s",
			len(out.Failed), len(entries), aws.ToString(first.Code), aws.ToString(first.Message))
	}
	return nil
}

func (p *pass) tell(letter Letter) error {
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	p.summary[letter.Fate]++
	if p.Found == nil || letter.Fate == Passed {
		return nil
	}
	return p.Found(letter)
}

// release shows the letters that stay to others again, after an interrupt as many
// as it can in a while. What it cannot release shows by itself when the lease ends.
func (p *pass) release(ctx context.Context) error {
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(timeout, cancel) })()
	var group errgroup.Group
	group.SetLimit(readers)
	for handles := range slices.Chunk(slices.Collect(maps.Values(p.held)), batch) {
		entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(handles))
		for i, handle := range handles {
			entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &handle, VisibilityTimeout: 0}
		}
		group.Go(func() error {
			call, cancel := context.WithTimeout(calls, timeout)
			defer cancel()
			_, err := p.queue.SQS.ChangeMessageVisibilityBatch(call, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &p.queue.URL, Entries: entries})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("show the letters that stay to others again, which happens by itself in %v: %w", lease, err)
	}
	return nil
}
