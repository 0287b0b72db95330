package transfer

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Once every range of an upload is under way, a slow one gets a second
// connection beside its own for what it still misses, and whichever is first
// ends it. That costs these bytes twice, so slow means much slower than the
// others.
const (
	slowFactor = 1.5 // times what a range of that size takes elsewhere, and HedgeAfter more
	hedgeLooks = 4   // in each HedgeAfter
)

// hedged is a span that may get a second connection.
type hedged struct {
	span
	began  time.Time
	ctx    context.Context // the life of the span
	cancel context.CancelCauseFunc

	second bool   // it has one
	won    []byte // by the second connection: the end of the span; set before cancel
}

// errHedged ends the first connection of a span when the second has won.
var errHedged = errors.New("another connection was faster")

// pullHedged is pullSpan for a range that hedgeAll may help.
func (f *filler) pullHedged(pulls context.Context, offset int64, buf []byte) error {
	ctx, cancel := context.WithCancelCause(pulls)
	h := &hedged{span: span{offset: offset, buf: buf, came: &f.came}, began: time.Now(), ctx: ctx, cancel: cancel}
	f.mu.Lock()
	f.running[h] = struct{}{}
	f.mu.Unlock()

	err := f.pullSpan(ctx, &h.span)

	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, h)
	cancel(nil)
	if h.won != nil {
		copy(buf[len(buf)-len(h.won):], h.won)
		f.memory.give(h.won)
		return nil
	}
	return err
}

// hedgeAll looks for slow spans until ctx ends, and returns when no second
// connection is left.
func (f *filler) hedgeAll(ctx context.Context) {
	var seconds sync.WaitGroup
	defer seconds.Wait()
	ticker := time.NewTicker(f.HedgeAfter / hedgeLooks)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, h := range f.slow() {
			seconds.Go(func() { f.hedge(h) })
		}
	}
}

// slow returns spans that are late and have no second connection. It has
// acquired one for each.
func (f *filler) slow() []*hedged {
	each, _ := f.connections.rate()
	f.mu.Lock()
	defer f.mu.Unlock()
	var slow []*hedged
	for h := range f.running {
		late := f.HedgeAfter
		if each > 0 {
			late += time.Duration(slowFactor * float64(len(h.buf)) / each * float64(time.Second))
		}
		if !h.second && time.Since(h.began) > late && f.connections.tryAcquire() {
			h.second = true
			slow = append(slow, h)
		}
	}
	return slow
}

// hedge pulls what h misses over the connection that its caller has acquired.
// What fails here fails there too, if it matters.
func (f *filler) hedge(h *hedged) {
	have := h.have.Load()
	buf, ok := f.memory.tryTake(int64(len(h.buf)) - have)
	if !ok || len(buf) == 0 {
		f.connections.release()
		return
	}
	err := f.pullSpan(h.ctx, &span{offset: h.offset + have, buf: buf})
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, running := f.running[h]; err != nil || !running {
		f.memory.give(buf)
		return
	}
	h.won = buf
	h.cancel(errHedged)
}
