package linking

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/s3ferry/s3ferry/internal/link"
)

// Status is how a link stands, as far as the sides that were asked know.
type Status struct {
	Linked bool          `json:"linked"`
	Why    []string      `json:"why,omitempty"` // it is not linked
	Global *GlobalStatus `json:"global,omitempty"`
	China  *ChinaStatus  `json:"china,omitempty"`
}

// GlobalStatus is what the sending side knows.
type GlobalStatus struct {
	Source  BucketRef  `json:"source"`
	Mailbox string     `json:"mailbox,omitempty"`
	Key     *KeyStatus `json:"key,omitempty"`     // that it signs with
	Pending string     `json:"pending,omitempty"` // key whose request was exported, and has no answer yet
}

// ChinaStatus is what the receiving side knows.
type ChinaStatus struct {
	Account   string      `json:"account"`
	Partition string      `json:"partition"`
	Mailbox   string      `json:"mailbox"`
	Keys      []KeyStatus `json:"keys"`    // that it trusts
	Sources   []string    `json:"sources"` // that it allows, as bucket and region
}

// KeyStatus is a signing key. A key that was not made here has no day.
type KeyStatus struct {
	ID      string     `json:"kid"`
	Made    string     `json:"made,omitempty"` // day, UTC
	Days    *int       `json:"days,omitempty"` // its age
	Retires *time.Time `json:"retires,omitempty"`
	InUse   bool       `json:"inUse"` // by the sender that was asked
}

// Status asks one side or both; the other may be nil. Nothing is changed, and a
// link that is not made is no error.
func (l *Linker) Status(ctx context.Context, g *Global, c *China) (*Status, error) {
	var (
		gs   globalState
		cs   chinaState
		wait pendingLink
		why  [2][]string // of the buckets
		errs [2]error
		wg   sync.WaitGroup
	)
	if g != nil {
		wg.Go(func() {
			if gs, errs[0] = g.read(ctx); errs[0] == nil {
				wait, _, errs[0] = g.readPending(ctx, gs.secretARN)
			}
			if errs[0] == nil {
				why[0], errs[0] = wrong(g.checkSources(ctx, gs, []link.Source{gs.source}))
			}
		})
	}
	if c != nil {
		wg.Go(func() {
			if cs, errs[1] = c.read(ctx); errs[1] == nil {
				why[1], errs[1] = wrong(c.checkDestination(ctx, cs))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	now := time.Now()
	s := &Status{}
	if g != nil {
		s.Global = gs.status(wait, now)
		s.Why = append(s.Why, gs.why()...)
	}
	if c != nil {
		s.China = cs.status(gs, now)
		s.Why = append(s.Why, cs.why(gs, g != nil)...)
	}
	s.Why = slices.Concat(s.Why, why[0], why[1])
	s.Linked = len(s.Why) == 0
	return s, nil
}

func (g globalState) status(wait pendingLink, now time.Time) *GlobalStatus {
	s := &GlobalStatus{
		Source:  BucketRef{g.source.Bucket, g.source.Region, g.who.account, g.who.partition},
		Mailbox: g.secret.APIURL, Pending: wait.Request.Key.KeyID,
	}
	if g.linked {
		s.Key = new(keyStatus(g.secret.SigningKey.ID, now))
		s.Key.InUse = true
	}
	return s
}

// why says what stands against a link on the sending side.
func (g globalState) why() []string {
	switch {
	case g.broken != nil:
		return []string{g.broken.Error()}
	case !g.linked:
		return []string{"the link secret is empty"}
	}
	return nil
}

func (c chinaState) status(g globalState, now time.Time) *ChinaStatus {
	s := &ChinaStatus{
		Account: c.who.account, Partition: c.who.partition, Mailbox: c.url,
		Keys: []KeyStatus{}, Sources: []string{},
	}
	for _, k := range c.trust.keys {
		key := keyStatus(k.id, now)
		key.InUse = g.linked && k.id == g.secret.SigningKey.ID
		if !k.expires.IsZero() {
			key.Retires = new(k.expires)
		}
		s.Keys = append(s.Keys, key)
	}
	for _, source := range c.trust.decoded.Sources {
		s.Sources = append(s.Sources, source.Bucket+" "+source.Region)
	}
	return s
}

// why says what stands against a link on the receiving side, with the sender g
// if it was asked.
func (c chinaState) why(g globalState, asked bool) []string {
	if !asked {
		if len(c.trust.keys) == 0 {
			return []string{"no key is trusted"}
		}
		return nil
	}
	if !g.linked {
		return nil // which says it all
	}
	var why []string
	if g.secret.APIURL != c.url {
		why = append(why, "the link secret leads to "+g.secret.APIURL+", and the mailbox is "+c.url)
	} else if !g.secret.SameDoor(c.secretWith(g.secret.SigningKey)) {
		why = append(why, "the link secret has another API key or access key than the mailbox")
	}
	if !c.trust.trusts(g.secret.SigningKey) {
		why = append(why, "the receiver does not trust key "+g.secret.SigningKey.ID)
	}
	if !c.trust.allows(g.source) {
		why = append(why, "the receiver does not allow source bucket "+g.source.Bucket)
	}
	return why
}

func keyStatus(id string, now time.Time) KeyStatus {
	s := KeyStatus{ID: id, Made: dayOf(id)}
	if made, err := time.Parse(time.DateOnly, s.Made); err == nil {
		s.Days = new(int(now.Sub(made).Hours() / 24))
	}
	return s
}
