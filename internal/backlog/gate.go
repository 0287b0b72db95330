package backlog

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/mailbox"
)

// held is the class of what stays in the outbox for now. It is transient.
const held = "backpressure"

const (
	// looks is how many times in a URL's life a Gate looks at the inbox: every 30
	// seconds for an hour.
	looks = 120
	// rests is how many times in a URL's life an event is held back at most: every
	// 5 minutes for an hour, in which the inbox does not run dry.
	rests = 12
	// unmeasured is how many transfers may be in the inbox as long as it never
	// had to wait for the receiver: ten times what one with ten invocations works
	// on at once.
	unmeasured = 1000
	// least is how many may always be there: the batches of two invocations, so
	// that a receiver that was slow can show that it no longer is.
	least = 20
	// patience bounds a look, which must not cost a batch its time.
	patience = 5 * time.Second
)

// Gate holds events back while the transfers in the inbox are worth more than
// half a URL's life. It is safe for concurrent use.
type Gate struct {
	Life    time.Duration // of a URL
	Senders int           // how many environments share the inbox; 0 is 1
	Pace    func(context.Context) (Pace, error)
	Log     *slog.Logger

	mu     sync.Mutex
	looked time.Time
	open   bool          // nobody knows how full the inbox is, or how full it may be
	room   int           // what may still be sent until the next look
	wait   time.Duration // for those that may not
}

// Pass lets n transfers through, or says in a transient error why not yet. The
// depth of the inbox and the pace are asked for once in a while. Where one cannot
// be had, all pass: the border is closed and tells so itself, or the mailbox is
// older than this sender, or the parameter cannot be read.
func (g *Gate) Pass(ctx context.Context, n int, depth func(context.Context) (mailbox.Depth, error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.looked.IsZero() || time.Since(g.looked) >= g.Life/looks {
		g.look(ctx, depth)
	}
	if g.open {
		return nil
	}
	if g.room <= 0 {
		return fault.Hold(g.wait, fault.Transientf(held,
			"the inbox holds more than its receiver can pull in half a URL's life of %s", g.Life))
	}
	g.room -= n
	return nil
}

// look needs mu. Every environment takes its share of the room there is, so that
// all of them together never fill the inbox with more than a whole life's worth.
func (g *Gate) look(ctx context.Context, depth func(context.Context) (mailbox.Depth, error)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g.looked = time.Now()
	full, err := depth(ctx)
	if g.open = err != nil; g.open {
		g.Log.WarnContext(ctx, "depth of the inbox unknown, nothing is held back", "class", fault.Class(err), "reason", err.Error())
		return
	}
	pace, err := g.Pace(ctx)
	if g.open = err != nil; g.open {
		g.Log.WarnContext(ctx, "pace of the receiver unknown, nothing is held back", "reason", err.Error())
		return
	}
	limit := Limit(pace, g.Life)
	share := float64(limit-full.Total()) / float64(max(g.Senders, 1))
	g.room = int(math.Ceil(share))
	g.wait = g.Life / rests
	if pace.Over == 0 {
		g.wait = g.Life / looks // more will be known at the next one
	}
	g.wait = max(g.wait, time.Second)
	if pace.PerSecond > 0 {
		excess := float64(full.Total()-limit) / pace.PerSecond
		g.wait = max(g.wait, time.Duration(min(excess, g.Life.Seconds()/2)*float64(time.Second)))
	}
}

// Limit is how many transfers may be in the inbox of a receiver of that pace, for
// URLs of that life.
func Limit(pace Pace, life time.Duration) int {
	floor := unmeasured
	if pace.Over > 0 {
		floor = least
	}
	return max(floor, int(min(pace.PerSecond*life.Seconds()/2, math.MaxInt32)))
}
