// Package sender tells the receiving partition of new objects: it turns the
// events of the outbox into signed transfers and posts them to the mailbox.
package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/backlog"
	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Classes of permanent failures that are born here.
const (
	tooLarge = "too-large"        // the transfer, not the object: see wire.ErrTooLarge
	invalid  = "invalid-transfer" // the object has something that no transfer can carry
)

const (
	// lookups bounds how many objects of a batch are looked at together.
	lookups = 16
	// reserve is the time that the work leaves for settling the batch.
	reserve = 6 * time.Second
)

// Sender handles batches of the outbox. Its fields do not change after the
// first batch.
type Sender struct {
	Link   *link.Cache[link.Secret]
	Source *Source
	Signer *Signer
	HTTP   *http.Client // to the mailbox API
	Gate   *backlog.Gate
	Outbox *settle.Queue
	Log    *slog.Logger
	Name   string // of the sender, in metrics

	// Deletes says that deletions are carried, not ignored.
	Deletes bool
	// TagChanges says the same of tags that were changed after their object was made.
	TagChanges bool
}

// parcel is one object of a batch on its way.
type parcel struct {
	message  int // index of the message that tells of it
	round    int // how often it was sent before
	event    event.Event
	transfer *wire.Transfer // nil until it is ready to go, and where nothing has to
	err      error
}

// Handle sends what the messages of the batch tell of. A message is acknowledged
// once every object it names is in the inbox or needs no transfer any more; if
// that fails, the message stays in the outbox or, where no retry can help, goes
// to the dead-letter queue. The error is always nil.
func (s *Sender) Handle(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
	work := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		work, cancel = context.WithDeadline(ctx, deadline.Add(-reserve))
		defer cancel()
	}
	return s.Outbox.Settle(ctx, batch.Records, s.send(work, batch.Records)), nil
}

// send returns one error per message.
func (s *Sender) send(ctx context.Context, messages []events.SQSMessage) []error {
	errs := make([]error, len(messages))
	var parcels []*parcel
	for i, m := range messages {
		told, err := event.Parse(m.Body)
		errs[i] = err
		for _, e := range told.Events {
			if e.Op == wire.OpDelete && !s.Deletes || e.Op == wire.OpTag && !s.TagChanges {
				told.Ignored = append(told.Ignored, fmt.Sprintf("%s of %s", e.Op, e.Source.Key))
				continue
			}
			parcels = append(parcels, &parcel{message: i, round: event.Round(m), event: e})
		}
		if len(told.Ignored) > 0 {
			s.Log.InfoContext(ctx, "events ignored", "names", told.Ignored, "messageId", m.MessageId)
		}
	}
	if len(parcels) > 0 {
		s.carry(ctx, parcels)
	}
	for _, p := range parcels {
		errs[p.message] = worse(errs[p.message], p.err)
	}
	return errs
}

// worse returns the error that decides about a message with both: a message is
// given up only when nothing in it can succeed any more.
func worse(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case fault.IsPermanent(a) == fault.IsPermanent(b):
		return errors.Join(a, b)
	case fault.IsPermanent(a):
		return b
	default:
		return a
	}
}

// carry sets the error of each parcel that could not be brought on its way.
func (s *Sender) carry(ctx context.Context, parcels []*parcel) {
	defer s.measure(ctx, parcels)
	secret, err := s.Link.Get(ctx)
	if err == nil {
		err = s.Gate.Pass(ctx, len(parcels), mailbox.New(s.HTTP, secret).Depth)
	}
	if err != nil {
		for _, p := range parcels {
			p.err = err
		}
		return
	}
	s.prepare(ctx, parcels)
	var ready []*parcel
	for _, p := range parcels {
		if p.transfer != nil {
			ready = append(ready, p)
		}
	}
	s.post(ctx, secret, ready)
	s.retryDenied(ctx, secret, ready)

	var sent, unneeded, failed int
	for _, p := range parcels {
		switch {
		case p.err != nil:
			failed++
		case p.transfer == nil:
			unneeded++
		default:
			sent++
			s.Log.InfoContext(ctx, "transfer sent", "id", p.transfer.ID, "op", p.transfer.Op, "key", p.event.Source.Key, "bytes", p.transfer.Source.Size)
		}
	}
	s.Log.InfoContext(ctx, "batch sent", "objects", len(parcels), "sent", sent, "unneeded", unneeded, "failed", failed)
}

// measure logs the metrics of a batch.
func (s *Sender) measure(ctx context.Context, parcels []*parcel) {
	var set metric.Set
	for _, p := range parcels {
		switch {
		case fault.IsHeld(p.err):
			set.Count(metric.Held, 1)
		case p.err != nil:
			set.Count(metric.Unsent, 1)
		case p.transfer == nil:
			set.Count(metric.Unneeded, 1)
		default:
			set.Count(metric.Sent, 1)
			set.Observe(metric.SentBytes, float64(p.transfer.Source.Size))
		}
	}
	set.Observe(metric.Memory, obs.Memory())
	set.Log(ctx, s.Log, s.Name)
}

// prepare makes the transfers of the parcels whose object is still there.
func (s *Sender) prepare(ctx context.Context, parcels []*parcel) {
	var group errgroup.Group
	group.SetLimit(lookups)
	for _, p := range parcels {
		group.Go(func() error {
			p.transfer, p.err = s.transfer(ctx, p.event, p.round)
			if reason, ok := errors.AsType[*noTransfer](p.err); ok {
				s.Log.InfoContext(ctx, "no transfer needed", "key", p.event.Source.Key, "why", reason.Error())
				p.err = nil
			}
			return nil
		})
	}
	_ = group.Wait()
}

// transfer makes the transfer of what happened. Its error is a *noTransfer where
// there is nothing to carry, and nothing was sent before.
func (s *Sender) transfer(ctx context.Context, e event.Event, round int) (*wire.Transfer, error) {
	switch e.Op {
	case wire.OpPut:
		return s.put(ctx, e.Source, round)
	case wire.OpTag:
		return s.tag(ctx, e.Source, round)
	}
	if e.Unclear {
		switch current, err := s.Source.Current(ctx, e.Source); {
		case err != nil:
			return nil, err
		case current != nil:
			return s.put(ctx, *current, round)
		}
	}
	return &wire.Transfer{
		ID: wire.ID(wire.OpDelete, e.Source), Op: wire.OpDelete, Round: round, Source: e.Source,
		NotAfter: time.Now().Add(deletionLife).UTC().Truncate(time.Second),
	}, nil
}

// deletionLife is as long as a queue keeps a message: a deletion has no URL that
// dies.
const deletionLife = 14 * 24 * time.Hour

func (s *Sender) put(ctx context.Context, source wire.Source, round int) (*wire.Transfer, error) {
	size, object, err := s.Source.Look(ctx, source)
	if _, gone := errors.AsType[*noTransfer](err); gone && round > 0 {
		// The receiver may have begun with it, and leaves nothing behind once it finds
		// out too. If the object comes back meanwhile, an event of its own, which is
		// newer, brings it whole.
		size, err = source.Size, nil
	}
	if err != nil {
		return nil, err
	}
	source.Size = size
	url, notAfter, err := s.Signer.Sign(ctx, source)
	if err != nil {
		return nil, err
	}
	return &wire.Transfer{
		ID: wire.ID(wire.OpPut, source), Op: wire.OpPut, Round: round, Source: source,
		Object: object, URL: url, NotAfter: notAfter,
	}, nil
}

// tag makes the transfer of a change of tags. What they are is read by the
// receiver, just before it sets them: two changes then need no order.
func (s *Sender) tag(ctx context.Context, source wire.Source, round int) (*wire.Transfer, error) {
	if source.VersionID == "" {
		// Without versions the tags are those of whatever is there.
		switch current, err := s.Source.Current(ctx, source); {
		case err != nil:
			return nil, err
		case current == nil:
			return nil, &noTransfer{"gone: the source has no such object"}
		case current.ETag != source.ETag:
			return nil, &noTransfer{fmt.Sprintf("superseded: got ETag %q, the event has %q", current.ETag, source.ETag)}
		}
	}
	url, notAfter, err := s.Signer.SignTags(ctx, source)
	if err != nil {
		return nil, err
	}
	return &wire.Transfer{
		ID: wire.ID(wire.OpTag, source), Op: wire.OpTag, Round: round, Source: source, URL: url, NotAfter: notAfter,
	}, nil
}

// post signs the parcels' transfers and puts them into the inbox.
func (s *Sender) post(ctx context.Context, secret link.Secret, parcels []*parcel) {
	var signed []*parcel
	var messages []string
	for _, p := range parcels {
		message, err := wire.Sign(p.transfer, secret.SigningKey)
		switch {
		case errors.Is(err, wire.ErrTooLarge):
			p.err = fault.Permanent(tooLarge, err)
		case err != nil:
			p.err = fault.Permanent(invalid, err)
		default:
			signed, messages = append(signed, p), append(messages, message)
		}
	}
	client := mailbox.New(s.HTTP, secret)
	for i, err := range client.Send(ctx, messages) {
		signed[i].err = err
	}
}

// retryDenied reads the link secret again if the API denied access with the one
// at hand, and posts once more if there is a new one. Else the link is broken
// and not the message, which waits in the outbox until an operator mends it.
func (s *Sender) retryDenied(ctx context.Context, used link.Secret, parcels []*parcel) {
	var denied []*parcel
	for _, p := range parcels {
		if errors.Is(p.err, mailbox.ErrDenied) {
			denied = append(denied, p)
		}
	}
	if len(denied) == 0 {
		return
	}
	fresh, err := s.Link.Refresh(ctx)
	if err != nil {
		for _, p := range denied {
			p.err = fmt.Errorf("%w; reading the link secret again: %w", p.err, err)
		}
		return
	}
	if !fresh.SameDoor(used) {
		s.post(ctx, fresh, denied)
	}
}
