// Package courier fetches the receipts from the mailbox: it logs and counts what
// became of the transfers, and has those sent again that expired or may yet succeed.
package courier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/s3ferry/s3ferry/internal/backlog"
	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Classes of what goes to the dead-letter queue.
const (
	malformed = "malformed-receipt" // a receipt that cannot be read
	exhausted = "rounds-exhausted"  // an event that was sent often enough
)

const (
	// loops is how many batches of receipts are seen to at once at first. Each full
	// batch starts one more, up to mostLoops: at the rate below, a call may take a
	// third of a second until they are too few.
	loops, mostLoops = 4, 24
	// callsPerSecond is how often a round calls the mailbox API at most, after as many
	// at once. A transfer takes a tenth of a call to send, and two tenths to receive
	// and delete its receipt, so the courier takes two thirds of what the API allows
	// unless it is set otherwise, and leaves the sender one.
	callsPerSecond = door.DefaultRate * 2 / 3
	// reserve is the time before the end of a round in which no more receipts are
	// asked for, since those at hand still have to be seen to.
	reserve = 10 * time.Second
	// goodbye is what is left of the invocation when a round ends.
	goodbye = 2 * time.Second
)

// Courier makes rounds. Its fields do not change after the first.
type Courier struct {
	Link   *link.Cache[link.Secret]
	HTTP   *http.Client // to the mailbox API
	SQS    SQS
	Pace   Pace
	Outbox *settle.Queue // receipts that cannot be read, and what is given up, go to its dead-letter queue
	Log    *slog.Logger
	Name   string // of the sender, in metrics

	// MaxRounds is how often a transfer is sent again, at most wire.MaxRound; 0 is
	// envcfg.DefaultMaxRounds.
	MaxRounds int
}

// SQS is what a Courier asks of *sqs.Client beside what settle does.
type SQS interface {
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
}

var _ SQS = (*sqs.Client)(nil)

// Pace keeps how fast the receiver is, for the sender. *backlog.Parameter is one.
type Pace interface {
	Load(context.Context) (backlog.Pace, error)
	Save(context.Context, backlog.Pace) error
}

var _ Pace = (*backlog.Parameter)(nil)

// Handle makes one round: it fetches receipts until there are none, or until
// ctx's deadline is near. A receipt is deleted only after its effect is durable,
// so one may be seen twice, which changes nothing.
//
// A border that is closed, or a link that is not there yet, is no error: the
// receipts wait for a later round.
func (c *Courier) Handle(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-goodbye))
		defer cancel()
	}
	secret, err := c.Link.Get(ctx)
	if errors.Is(err, link.ErrNotLinked) {
		c.Log.WarnContext(ctx, "no round", "class", fault.Class(err), "reason", err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	var round tally
	err = c.drain(ctx, secret, &round)
	if errors.Is(err, mailbox.ErrDenied) {
		fresh, readErr := c.Link.Refresh(ctx)
		switch {
		case readErr != nil:
			err = fmt.Errorf("%w; reading the link secret again: %w", err, readErr)
		case !fresh.SameDoor(secret):
			secret = fresh
			err = c.drain(ctx, secret, &round)
		}
	}
	if paceErr := c.notePace(ctx, secret, &round); paceErr != nil {
		c.Log.WarnContext(ctx, "pace of the receiver not noted", "reason", paceErr.Error())
	}
	c.Log.LogAttrs(ctx, slog.LevelInfo, "round ended", round.attrs()...)
	round.metrics.Log(ctx, c.Log, c.Name)
	if fault.Class(err) == mailbox.Border {
		c.Log.WarnContext(ctx, "round cut short", "class", mailbox.Border, "reason", err.Error())
		return nil
	}
	return err
}

// drain fetches receipts in several loops at once until each found none or failed.
// A throttle that lasts longer than a call is tried ends loops until the rest fit.
func (c *Courier) drain(ctx context.Context, secret link.Secret, round *tally) error {
	client := mailbox.New(c.HTTP, secret)
	calls := rate.NewLimiter(callsPerSecond, callsPerSecond)
	var mu sync.Mutex
	var errs []error
	var group errgroup.Group
	group.SetLimit(mostLoops)
	var loop func() error
	loop = func() error {
		for timeLeft(ctx) > reserve {
			n, err := c.fetch(ctx, client, calls, round)
			mu.Lock()
			if err != nil {
				errs = append(errs, err)
			}
			smooth := len(errs) == 0
			mu.Unlock()
			switch {
			case err != nil:
				return err // the other loops go on
			case n == 0:
				round.empty()
				return nil
			case n == door.MaxEntries && smooth:
				group.TryGo(loop)
			}
		}
		return nil
	}
	for range loops {
		group.Go(loop)
	}
	_ = group.Wait()
	return worst(errs)
}

// notePace writes down how fast the receiver is. Where the round has seen all
// receipts, they count up to now; else up to the last one seen.
func (c *Courier) notePace(ctx context.Context, secret link.Secret, round *tally) error {
	done, until := round.ended()
	if until.IsZero() {
		return nil
	}
	depth, err := mailbox.New(c.HTTP, secret).Depth(ctx)
	if err != nil {
		return err
	}
	round.metrics.Count(metric.Inbox, depth.Total())
	pace, err := c.Pace.Load(ctx)
	if err != nil {
		return err
	}
	if waiting := depth.Waiting > 0; done > 0 || waiting || pace.Waiting {
		return c.Pace.Save(ctx, pace.Next(done, until, waiting))
	}
	return nil // idle, of which nothing can be learned
}

// worst returns the error to tell of: several loops mostly fail for one reason,
// and a closed border is the least of them.
func worst(errs []error) error {
	var worst error
	for _, err := range errs {
		if worst == nil || err != nil && fault.Class(worst) == mailbox.Border {
			worst = err
		}
	}
	return worst
}

func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return 2 * reserve
}

// fetch fetches one batch of receipts, sees to each and deletes those that are
// done. It returns how many there were.
func (c *Courier) fetch(ctx context.Context, client *mailbox.Client, calls *rate.Limiter, round *tally) (int, error) {
	if err := calls.Wait(ctx); err != nil {
		return 0, err
	}
	messages, err := client.Receive(ctx)
	if err != nil || len(messages) == 0 {
		return 0, err
	}
	var done []string    // handles
	var again []requeued // receipts whose transfers have to be sent again
	var failures []error
	for _, m := range messages {
		receipt, err := wire.DecodeReceipt(m.Body)
		switch {
		case err != nil:
			// It may be of a receiver that is newer than this, so it is kept whole.
			err = c.Outbox.Bury(ctx, events.SQSMessage{Body: m.Body}, fault.Permanent(malformed, err))
			if err != nil {
				failures = append(failures, err)
				continue
			}
			round.unreadable()
		case receipt.Outcome != wire.Expired && !receipt.Retry:
			c.tell(ctx, receipt)
			round.add(receipt)
		case receipt.Round >= cmp.Or(c.MaxRounds, envcfg.DefaultMaxRounds):
			if err := c.giveUp(ctx, receipt); err != nil {
				failures = append(failures, err)
				continue
			}
			c.tell(ctx, receipt)
			round.add(receipt)
			round.metrics.Count(metric.GivenUp, 1)
		default:
			again = append(again, requeued{m.Handle, receipt})
			continue
		}
		done = append(done, m.Handle)
	}
	sent, err := c.requeue(ctx, again)
	if err != nil {
		failures = append(failures, err)
	}
	for _, r := range sent {
		c.tell(ctx, r.receipt)
		round.add(r.receipt)
		round.metrics.Count(metric.Requeued, 1)
		done = append(done, r.handle)
	}
	round.metrics.Observe(metric.Memory, obs.Memory())
	// Now, since nothing of them is left when this is cut off after the deletion.
	round.metrics.Log(ctx, c.Log, c.Name)
	if err := calls.Wait(ctx); err != nil {
		return len(messages), errors.Join(append(failures, err)...)
	}
	failures = append(failures, client.Delete(ctx, done))
	return len(messages), errors.Join(failures...)
}

// giveUp puts the event of a transfer that was sent too often on the outbox's
// dead-letter queue, from where it can be sent anew.
func (c *Courier) giveUp(ctx context.Context, r wire.Receipt) error {
	why := fmt.Errorf("sent %d times, the last ended as %s (%s: %s): mend that, then redrive", r.Round+1, r.Outcome, r.Class, r.Reason)
	return c.Outbox.Bury(ctx, events.SQSMessage{Body: event.Encode(r.Op, r.Source)}, fault.Permanent(exhausted, why))
}

// pause is how long the event of a transfer stays hidden in the outbox. A URL that
// died first does so by the hour; whatever else failed needs time.
func pause(r wire.Receipt) time.Duration {
	const most, doublings = 900 * time.Second, 10 // SQS's limit
	if r.Outcome == wire.Expired && r.Round == 0 {
		return 0
	}
	return min(most, time.Second<<min(r.Round, doublings))
}

// requeued is a receipt whose transfer has to be sent again.
type requeued struct {
	handle  string
	receipt wire.Receipt
}

// requeue puts events for up to ten receipts into the outbox and returns those
// whose event is there.
func (c *Courier) requeue(ctx context.Context, receipts []requeued) ([]requeued, error) {
	if len(receipts) == 0 {
		return nil, nil
	}
	entries := make([]types.SendMessageBatchRequestEntry, len(receipts))
	for i, r := range receipts {
		entries[i] = types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(event.Encode(r.receipt.Op, r.receipt.Source)),
			DelaySeconds: int32(pause(r.receipt) / time.Second), //nolint:gosec // at most 900
			MessageAttributes: map[string]types.MessageAttributeValue{event.RoundAttribute: {
				DataType: aws.String("Number"), StringValue: aws.String(strconv.Itoa(min(r.receipt.Round+1, wire.MaxRound))),
			}},
		}
	}
	out, err := c.SQS.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(c.Outbox.URL), Entries: entries})
	if err != nil {
		return nil, fmt.Errorf("put %d transfers back into the outbox: %w", len(receipts), err)
	}
	var sent []requeued
	for _, ok := range out.Successful {
		if i, err := strconv.Atoi(aws.ToString(ok.Id)); err == nil && i >= 0 && i < len(receipts) {
			sent = append(sent, receipts[i])
		}
	}
	if n := len(receipts) - len(sent); n > 0 {
		err = fmt.Errorf("put %d transfers back into the outbox: %d were not taken", len(receipts), n)
	}
	return sent, err
}

// tell logs a receipt.
func (c *Courier) tell(ctx context.Context, r wire.Receipt) {
	level := slog.LevelInfo
	if r.Outcome == wire.Failed || r.Outcome == wire.Refused {
		level = slog.LevelWarn
	}
	c.Log.LogAttrs(ctx, level, "receipt",
		slog.String("outcome", string(r.Outcome)), slog.String("id", r.ID),
		slog.String("bucket", r.Source.Bucket), slog.String("key", r.Source.Key), slog.String("version", r.Source.VersionID),
		slog.Int64("bytes", r.Bytes), slog.Int64("millis", r.Millis), slog.Int64("lagMillis", lag(r).Milliseconds()),
		slog.Int("attempts", r.Attempts), slog.String("verified", string(r.Verified)),
		slog.String("class", r.Class), slog.String("reason", r.Reason), slog.Time("at", r.At),
		slog.Bool("retry", r.Retry),
	)
}

// lag is the time from the event to what became of it.
func lag(r wire.Receipt) time.Duration { return r.At.Sub(r.Source.EventTime) }

// tally counts the receipts of a round. It is safe for concurrent use.
type tally struct {
	mu        sync.Mutex
	outcomes  map[wire.Outcome]int
	bytes     int64
	longest   time.Duration // lag of what was copied
	malformed int
	metrics   metric.Set

	done     int       // transfers that the receiver has ended
	last     time.Time // when it ended the last of all
	complete bool      // no receipt was left
}

func (t *tally) add(r wire.Receipt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outcomes == nil {
		t.outcomes = map[wire.Outcome]int{}
	}
	t.outcomes[r.Outcome]++
	obs.Measure(&t.metrics, r)
	if r.Round > 0 {
		t.metrics.Observe(metric.Rounds, float64(r.Round))
	}
	if again := r.Outcome == wire.Expired || r.Retry; !again && r.Op != wire.OpNoop {
		t.done++ // and no work that has to be done once more
	}
	if r.At.After(t.last) {
		t.last = r.At
	}
	if r.Outcome == wire.Copied {
		t.bytes += r.Bytes
		t.longest = max(t.longest, lag(r))
		t.metrics.Observe(metric.Lag, float64(lag(r).Milliseconds()))
	}
}

// empty notes that there are no receipts left.
func (t *tally) empty() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.complete = true
}

// ended returns how many transfers the receiver has ended, and up to when that is
// known; a zero time says that nothing is.
func (t *tally) ended() (int, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.complete {
		return t.done, time.Now().UTC()
	}
	return t.done, t.last
}

func (t *tally) unreadable() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.malformed++
	t.metrics.Count(metric.Unreadable, 1)
}

// attrs gives every count, zeros too, so that each name can be a metric.
func (t *tally) attrs() []slog.Attr {
	t.mu.Lock()
	defer t.mu.Unlock()
	attrs := []slog.Attr{
		slog.Int64("bytes", t.bytes), slog.Int64("longestLagMillis", t.longest.Milliseconds()),
		slog.Int("malformed", t.malformed),
	}
	for _, outcome := range wire.Outcomes() {
		attrs = append(attrs, slog.Int(string(outcome), t.outcomes[outcome]))
	}
	return attrs
}
