package linking

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// proofKey is what the keys of no-ops begin with. No object has them.
const proofKey = "s3ferry-link/"

// errNoReceipt says that no-ops went into the inbox, and nothing came back.
var errNoReceipt = errors.New("no receipt")

// prove sends no-ops until the receipt of any says that the receiver trusts the
// secret's key and allows source. It takes several, since the courier of a link
// that is at work may collect the receipt of one.
func (l *Linker) prove(ctx context.Context, s link.Secret, source link.Source) error {
	l.tell("proving key %s by a no-op transfer through %s", s.SigningKey.ID, s.APIURL)
	times := l.Times.withDefaults()
	wait, cancel := context.WithTimeout(ctx, times.Proof)
	defer cancel()
	p := proof{
		client: mailbox.New(l.http(), s), key: s.SigningKey, source: source,
	}
	start := time.Now()
	err := p.run(wait, times)
	switch {
	case err == nil:
		l.tell("proved in %s", time.Since(start).Round(100*time.Millisecond))
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errNoReceipt):
		err = fmt.Errorf("%w for %d no-ops within %s: see the receiver's log and the inbox's dead letters, then run this again",
			err, len(p.sent), times.Proof)
	}
	return fmt.Errorf("prove the link: %w", err)
}

// proof is the no-ops of one link.
type proof struct {
	client *mailbox.Client
	key    wire.SigningKey
	source link.Source
	sent   []string // IDs
}

// run sends a no-op every times.Resend until there is an answer to one, or until
// ctx ends.
func (p *proof) run(ctx context.Context, times Times) error {
	last := errNoReceipt
	for ctx.Err() == nil {
		if err := p.send(ctx); err != nil {
			return err
		}
		for again := time.Now().Add(times.Resend); ctx.Err() == nil && time.Now().Before(again); {
			done, err := p.collect(ctx)
			switch {
			case done, err != nil && fault.Class(err) != mailbox.Border:
				return err
			case err == nil:
				last = errNoReceipt
			case ctx.Err() == nil: // the border is down, and the time is not up
				last = err
			}
			_ = sleep(ctx, times.Poll)
		}
	}
	return last
}

func (p *proof) send(ctx context.Context) error {
	noop := newNoop(p.source, time.Now().UTC())
	message, err := wire.Sign(noop, p.key)
	if err != nil {
		return err
	}
	p.sent = append(p.sent, noop.ID)
	return p.client.Send(ctx, []string{message})[0]
}

// collect looks for an answer among the receipts at hand and deletes it. The
// others come back by themselves, for the courier.
func (p *proof) collect(ctx context.Context) (done bool, err error) {
	messages, err := p.client.Receive(ctx)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		receipt, err := wire.DecodeReceipt(m.Body)
		if err != nil || !slices.Contains(p.sent, receipt.ID) {
			continue
		}
		// It would come back and be counted by the courier, which does no harm.
		_ = p.client.Delete(ctx, []string{m.Handle})
		if receipt.Outcome != wire.Linked {
			return true, fmt.Errorf("the receiver answered %q (%s): %s", receipt.Outcome, receipt.Class, receipt.Reason)
		}
		return true, nil
	}
	return false, nil
}

// newNoop makes a transfer that changes nothing. The receiver answers it if it
// trusts the key and the source.
func newNoop(source link.Source, now time.Time) *wire.Transfer {
	nonce := strings.ToLower(rand.Text())
	t := &wire.Transfer{
		Op: wire.OpNoop, NotAfter: now.Add(time.Hour).Truncate(time.Second),
		Source: wire.Source{
			Region: source.Region, Bucket: source.Bucket, Key: proofKey + nonce,
			ETag: nonce, Sequencer: fmt.Sprintf("%016X", now.UnixNano()), EventTime: now,
		},
	}
	t.ID = wire.ID(t.Op, t.Source)
	return t
}
