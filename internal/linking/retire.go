package linking

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// grace is how long a replaced key is trusted at most: what it signed stays in
// the inbox for up to 14 days, and may be put there again for as long as its URL
// lives, an hour.
const grace = 15 * 24 * time.Hour

// looks is how often the inbox is looked at while it must be empty.
const looks = 6

// retire stops trusting replaced keys. Whatever a key signed needs it until the
// receiver has taken it from the inbox, so a key goes as soon as no sender can
// use it any more and the inbox was seen empty after that, or once its grace is
// over. A Link that cannot wait so long leaves a mark, by which a later one goes
// on.
func (l *Linker) retire(ctx context.Context, c *China, cs chinaState, old []string, o Options) (removed []string, left []Retiring, err error) {
	if len(old) == 0 {
		return nil, nil, nil
	}
	now := time.Now().UTC().Truncate(time.Second)
	t, err := c.readTrust(ctx, cs.parameter)
	if err != nil {
		return nil, nil, err
	}
	t, err = c.edit(ctx, cs.parameter, t, func(t trust) (trust, error) {
		for _, id := range old {
			if o.Revoke {
				t = t.withoutKey(id)
			} else {
				t = t.withExpiry(id, now.Add(grace)).withoutExpired(id, now)
			}
		}
		return t, nil
	})
	if err != nil {
		return nil, nil, err
	}
	waiting := t.retiring(old)
	if len(waiting) > 0 && o.Wait > 0 {
		drained, err := l.drained(ctx, c, cs.inbox, waiting, o.Wait)
		if err != nil {
			return nil, waiting, err
		}
		if drained {
			t, err = c.edit(ctx, cs.parameter, t, func(t trust) (trust, error) {
				for _, k := range waiting {
					t = t.withoutKey(k.KeyID)
				}
				return t, nil
			})
			if err != nil {
				return nil, waiting, err
			}
		}
	}
	left = t.retiring(old)
	for _, id := range old {
		if !slices.ContainsFunc(left, func(k Retiring) bool { return k.KeyID == id }) {
			removed = append(removed, id)
		}
	}
	return removed, left, nil
}

// withoutExpired removes a key whose mark has run out.
func (t trust) withoutExpired(id string, now time.Time) trust {
	for _, k := range t.keys {
		if k.id == id && !k.expires.IsZero() && !now.Before(k.expires) {
			return t.withoutKey(id)
		}
	}
	return t
}

// retiring returns those of the keys that are trusted and marked.
func (t trust) retiring(ids []string) []Retiring {
	var out []Retiring
	for _, k := range t.keys {
		if slices.Contains(ids, k.id) && !k.expires.IsZero() {
			out = append(out, Retiring{k.id, k.expires})
		}
	}
	return out
}

// drained waits until nothing that the keys signed can be in the inbox, for as
// long as wait. It reports whether that is so.
func (l *Linker) drained(ctx context.Context, c *China, inbox string, keys []Retiring, wait time.Duration) (bool, error) {
	times := l.Times.withDefaults()
	ids := make([]string, len(keys))
	var switched time.Time // when the last sender stops using any of them
	for i, k := range keys {
		ids[i] = k.KeyID
		if at := k.Until.Add(-grace).Add(times.Switch); at.After(switched) {
			switched = at
		}
	}
	l.tell("waiting up to %s until nothing signed with %s is under way; an interrupt leaves that to a later run", wait, strings.Join(ids, ", "))
	ctxWait, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := sleep(ctxWait, time.Until(switched)); err != nil {
		return false, ctx.Err()
	}
	for seen := 0; seen <= looks; {
		empty, err := c.inboxEmpty(ctxWait, inbox)
		if ctxWait.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			return false, fmt.Errorf("the link is made, but replaced keys are still trusted: %w", err)
		}
		if seen++; !empty {
			seen = 0
		}
		if seen > looks {
			break
		}
		if err := sleep(ctxWait, times.Quiet/looks); err != nil {
			return false, ctx.Err()
		}
	}
	return true, nil
}
