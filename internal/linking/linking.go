// Package linking ties a sending side and a receiving side together: it moves
// keys between two deployed stacks, proves that a transfer passes, and says how
// things stand. Neither side ever holds credentials of the other; whoever runs
// this holds both, or two people exchange two files without a secret in the clear.
//
// Everything is read and judged before anything is written, and problems of both
// sides are told together. The order of the writes refuses no transfer: a new key
// is trusted and proved before the sender learns of it, and the one it replaces
// stays trusted until nothing that it signed can be under way.
package linking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Linker links. Its zero value is ready.
type Linker struct {
	HTTP  *http.Client      // to the mailbox API; nil: mailbox.NewHTTPClient
	Tell  func(text string) // what is being done, for people; nil: nobody listens
	Times Times
}

// Times are how long a Linker waits. Zero is the default.
type Times struct {
	// Settle is between a change of the trust document and its first use, since a
	// receiver reads it again at most every 5 s. 0: 6 s.
	Settle time.Duration
	// Proof is how long the receipt of a no-op is waited for. 0: 90 s.
	Proof time.Duration
	// Resend is between two no-ops. 0: 10 s.
	Resend time.Duration
	// Poll is between two requests for receipts. 0: 500 ms.
	Poll time.Duration
	// Switch is how long after a change of the link secret a sender may still sign
	// with the old key: it believes the secret for a minute, signs for up to
	// another one, and then posts. 0: 3 min.
	Switch time.Duration
	// Quiet is how long the inbox must be seen empty, for SQS counts
	// approximately. 0: 1 min.
	Quiet time.Duration
}

func (t Times) withDefaults() Times {
	t.Settle = cmp.Or(t.Settle, 6*time.Second)
	t.Proof = cmp.Or(t.Proof, 90*time.Second)
	t.Resend = cmp.Or(t.Resend, 10*time.Second)
	t.Poll = cmp.Or(t.Poll, 500*time.Millisecond)
	t.Switch = cmp.Or(t.Switch, 3*time.Minute)
	t.Quiet = cmp.Or(t.Quiet, time.Minute)
	return t
}

func (l *Linker) tell(format string, args ...any) {
	if l.Tell != nil {
		l.Tell(fmt.Sprintf(format, args...))
	}
}

func (l *Linker) http() *http.Client {
	if l.HTTP != nil {
		return l.HTTP
	}
	return mailbox.NewHTTPClient()
}

// Options are what Link may be told.
type Options struct {
	// Name is what the key IDs of this link begin with, by which a receiver tells
	// its links apart. "": the one it has, or the source bucket's name.
	Name string
	// Sources are further source buckets of the sender, in the region of its own.
	Sources []string
	// Rotate makes a new key, and replaces a link secret that is broken or leads
	// to another receiver.
	Rotate bool
	// Revoke removes replaced keys at once. The receiver refuses what they signed
	// and is still under way.
	Revoke bool
	// Wait is how long replaced keys are waited for. What is still trusted then
	// goes with a later Link.
	Wait time.Duration
	// DryRun reads, judges and writes nothing.
	DryRun bool
}

// Result is what was done; after a dry run, what would be.
type Result struct {
	DryRun   bool       `json:"dryRun"`
	KeyID    string     `json:"kid"`
	NewKey   bool       `json:"newKey"`
	Source   BucketRef  `json:"source"`
	Mailbox  string     `json:"mailbox"`
	Imported string     `json:"imported,omitempty"` // fingerprint of the file that completed it
	Steps    []string   `json:"steps"`              // in words
	Removed  []string   `json:"removed,omitempty"`  // keys that are not trusted any more
	Retiring []Retiring `json:"retiring,omitempty"` // replaced keys that still are
	Others   []string   `json:"others,omitempty"`   // trusted keys of other senders, which would take each other's receipts
}

// BucketRef is a bucket and the account it is in.
type BucketRef struct {
	Bucket    string `json:"bucket"`
	Region    string `json:"region"`
	Account   string `json:"account"`
	Partition string `json:"partition"`
}

// Retiring is a replaced key that is still trusted. A Link after Until removes
// it, and an earlier one if the inbox is empty.
type Retiring struct {
	KeyID string    `json:"kid"`
	Until time.Time `json:"until"`
}

// plan is what Link does once all is known.
type plan struct {
	key     wire.SigningKey
	fresh   bool          // the key is new
	sources []link.Source // to be allowed; the sender's own first
	secret  link.Secret   // to be the link secret
	write   bool          // it is another one than now
	old     []string      // key IDs that the key replaces
	others  []string      // key IDs of other senders
}

// nameForm is what a link may be called. Key IDs begin with it.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// newPlan decides, and reports everything that stands against it.
func newPlan(g globalState, c chinaState, o Options, now time.Time) (plan, error) {
	current := g.secret.SigningKey
	var problems []error
	if g.broken != nil && !o.Rotate {
		problems = append(problems, fmt.Errorf("%w: --rotate replaces it", g.broken))
	}
	if g.linked && g.secret.APIURL != c.url && !o.Rotate {
		problems = append(problems, fmt.Errorf("the sender is linked to %s, and stack %s is %s: check the profiles, or link it there with --rotate",
			g.secret.APIURL, c.stack, c.url))
	}
	called := cmp.Or(o.Name, nameOf(current.ID), g.source.Bucket)
	sources, err := g.sources(o.Sources)
	problems = append(problems, err, checkName(o.Name), c.checkOwner(called, current.ID, g.source.Bucket, ""))
	if err := errors.Join(problems...); err != nil {
		return plan{}, err
	}
	p := plan{key: current, sources: sources}
	// A key that is not trusted may have been taken away for a reason.
	if p.fresh = o.Rotate || !g.linked || !c.trust.trusts(current); p.fresh {
		key, err := newKey(called, now)
		if err != nil {
			return plan{}, err
		}
		p.key = key
	}
	p.secret = c.secretWith(p.key)
	p.write = p.fresh || !g.secret.SameDoor(p.secret)
	for _, k := range c.trust.keys {
		switch {
		case k.id == p.key.ID:
		case k.id == current.ID, nameOf(k.id) == called:
			p.old = append(p.old, k.id)
		default:
			p.others = append(p.others, k.id)
		}
	}
	return p, nil
}

// bucketForm is what S3 lets a bucket be called.
var bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// sources are the sender's own bucket and those named.
func (g globalState) sources(buckets []string) ([]link.Source, error) {
	sources := []link.Source{g.source}
	for _, bucket := range buckets {
		if !bucketForm.MatchString(bucket) {
			return nil, fmt.Errorf("--source-bucket: got %q, expected the name of a bucket", bucket)
		}
		if s := (link.Source{Bucket: bucket, Region: g.source.Region}); !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	return sources, nil
}

func checkName(called string) error {
	if called != "" && !nameForm.MatchString(called) {
		return fmt.Errorf("--name: got %q, expected letters, digits, dots, dashes and underscores, up to 64", called)
	}
	return nil
}

// checkOwner reports that keys of a name may be another sender's, which this one
// would replace. They are its own if its last key has the name, or if the name
// is that of its bucket, which nobody else has. known is a key that may be there.
func (c chinaState) checkOwner(called, last, bucket, known string) error {
	if called == nameOf(last) || called == bucket {
		return nil
	}
	for _, k := range c.trust.keys {
		if nameOf(k.id) == called && k.id != known {
			return fmt.Errorf("--name: %q is what key %s is called already, which may be another sender's: choose another name, or take that key out of parameter %s",
				called, k.id, c.parameter)
		}
	}
	return nil
}

// steps are the plan in words.
func (p plan) steps(g globalState, c chinaState, o Options) []string {
	var steps []string
	if p.fresh {
		steps = append(steps, fmt.Sprintf("trust the new key %s in parameter %s", p.key.ID, c.parameter))
	}
	for _, source := range p.sources {
		if !c.trust.allows(source) {
			steps = append(steps, fmt.Sprintf("allow source bucket %s in %s there", source.Bucket, source.Region))
		}
	}
	steps = append(steps, fmt.Sprintf("prove key %s by a no-op transfer through %s", p.key.ID, c.url))
	if p.write {
		steps = append(steps, fmt.Sprintf("write link secret %s", g.secretARN))
	}
	if len(p.old) > 0 {
		when := "once nothing signed with them is under way"
		if o.Revoke {
			when = "at once"
		}
		steps = append(steps, fmt.Sprintf("remove replaced keys %s: %s", when, strings.Join(p.old, ", ")))
	}
	return steps
}

// admit changes the trust document so that the plan's key and sources pass.
func (p plan) admit(t trust) (trust, error) {
	return t.withKey(p.key.ID, publicOf(p.key)).withSources(p.sources), nil
}

// Link makes sure that the two sides are linked and proves it. Where they are
// already, with a key that is trusted, it changes nothing but what is missing,
// and removes replaced keys whose time has come. An error leaves the link as it
// was, apart from those.
func (l *Linker) Link(ctx context.Context, g *Global, c *China, o Options) (*Result, error) {
	gs, cs, err := readBoth(ctx, g, c)
	if err != nil {
		return nil, err
	}
	p, err := newPlan(gs, cs, o, time.Now())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(g.checkSources(ctx, gs, p.sources), c.checkDestination(ctx, cs)); err != nil {
		return nil, err
	}
	if o.DryRun && p.fresh {
		p.key.ID = strings.TrimRight(p.key.ID, "0123456789abcdef") + "*" // it will be another one
	}
	result := &Result{
		DryRun: o.DryRun, KeyID: p.key.ID, NewKey: p.fresh, Mailbox: cs.url, Steps: p.steps(gs, cs, o),
		Source: BucketRef{gs.source.Bucket, gs.source.Region, gs.who.account, gs.who.partition}, Others: p.others,
	}
	if o.DryRun {
		return result, nil
	}
	if err := l.apply(ctx, g, c, gs, cs, p); err != nil {
		return nil, err
	}
	result.Removed, result.Retiring, err = l.retire(ctx, c, cs, p.old, o)
	return result, err
}

// apply does what the plan says, up to the replaced keys.
func (l *Linker) apply(ctx context.Context, g *Global, c *China, gs globalState, cs chinaState, p plan) error {
	after, err := c.edit(ctx, cs.parameter, cs.trust, p.admit)
	if err != nil {
		return err
	}
	undo := func() error { return l.undo(ctx, c, cs, after, p) }
	if after.version != cs.trust.version {
		l.tell("trusting key %s", p.key.ID)
		if err := sleep(ctx, l.Times.withDefaults().Settle); err != nil {
			return errors.Join(err, undo())
		}
	}
	if err := l.prove(ctx, p.secret, gs.source); err != nil {
		return errors.Join(err, undo())
	}
	if !p.write {
		return nil
	}
	err = g.writeSecret(ctx, gs.secretARN, p.secret)
	switch {
	case err == nil:
		l.tell("wrote the link secret")
		return nil
	case errors.Is(err, errUncertain):
		return err // the key has to stay trusted
	}
	return errors.Join(err, undo())
}

// undo puts the trust document back as it was. It also runs after an interrupt.
func (l *Linker) undo(ctx context.Context, c *China, cs chinaState, after trust, p plan) error {
	if after.version == cs.trust.version {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	_, err := c.edit(ctx, cs.parameter, after, func(t trust) (trust, error) {
		if t.text == after.text {
			return t.withText(cs.trust.text)
		}
		if p.fresh {
			t = t.withoutKey(p.key.ID)
		}
		for _, source := range p.sources {
			if !cs.trust.allows(source) {
				t = t.withoutSource(source)
			}
		}
		return t, nil
	})
	if err != nil {
		return fmt.Errorf("put the trust document back as it was: %w", err)
	}
	l.tell("put the trust document back as it was")
	return nil
}

// undoTime bounds what has to be done after an interrupt.
const undoTime = 30 * time.Second

// readBoth reads both sides at once and reports the problems of both.
func readBoth(ctx context.Context, g *Global, c *China) (gs globalState, cs chinaState, err error) {
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { gs, errs[0] = g.read(ctx) })
	wg.Go(func() { cs, errs[1] = c.read(ctx) })
	wg.Wait()
	return gs, cs, errors.Join(errs[:]...)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
