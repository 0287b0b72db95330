package courier

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// border is the mailbox API behind a long link, in virtual time: each call takes
// latency, and more than rate a second, with a burst of as many again, are
// answered 429 as the usage plan does.
type border struct {
	latency time.Duration
	rate    float64
	body    string // of every receipt

	mu        sync.Mutex
	tokens    float64
	last      time.Time
	waiting   int             // receipts that can be received
	hidden    map[string]bool // handles of those that were
	calls     int             // of the courier
	seconds   int             // that its round took
	throttled map[string]int  // by path
}

// allow needs mu.
func (b *border) allow() bool {
	now := time.Now()
	b.tokens = min(2*b.rate, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *border) RoundTrip(r *http.Request) (*http.Response, error) {
	var in struct {
		Entries []struct{ ID, ReceiptHandle string }
	}
	if r.Body != nil {
		_ = json.NewDecoder(r.Body).Decode(&in)
	}
	time.Sleep(b.latency)
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := func(status int, out any) (*http.Response, error) {
		text, err := json.Marshal(out)
		return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(text)))}, err
	}
	if r.URL.Path != door.SendTransfers.Path {
		b.calls++
	}
	if !b.allow() {
		b.throttled[r.URL.Path]++
		return answer(http.StatusTooManyRequests, nil)
	}
	type object = map[string]any
	switch r.URL.Path {
	case door.ReceiveReceipts.Path:
		var messages []object
		for ; b.waiting > 0 && len(messages) < door.MaxEntries; b.waiting-- {
			handle := fmt.Sprintf("handle-%d", b.waiting)
			b.hidden[handle] = true
			messages = append(messages, object{"Body": b.body, "ReceiptHandle": handle})
		}
		return answer(http.StatusOK, object{"Messages": messages})
	case door.DeleteReceipts.Path:
		var done []object
		for i, entry := range in.Entries {
			delete(b.hidden, entry.ReceiptHandle)
			done = append(done, object{"Id": fmt.Sprint(i)})
		}
		return answer(http.StatusOK, object{"Successful": done})
	}
	return answer(http.StatusOK, object{"Attributes": object{door.Visible: "0", door.InFlight: "0", door.Delayed: "0"}})
}

// invoke makes one round of a border with so many receipts, as long as the
// function may take. Meanwhile a sender calls so often a second.
func (b *border) invoke(t *testing.T, receipts, sends int) *lines {
	t.Helper()
	c, _, _, out := newCourier(t)
	b.body, _ = receipt(t, "k", wire.Copied)
	b.waiting, b.hidden, b.throttled = receipts, map[string]bool{}, map[string]int{}
	c.HTTP = &http.Client{Transport: b}
	synctest.Test(t, func(t *testing.T) {
		b.tokens, b.last = 2*b.rate, time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		if sends > 0 {
			wg.Go(func() {
				each := time.NewTicker(time.Second / time.Duration(sends))
				defer each.Stop()
				for ctx.Err() == nil {
					request, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://mailbox"+door.SendTransfers.Path, nil)
					wg.Go(func() {
						if response, err := c.HTTP.Do(request); err == nil {
							_ = response.Body.Close()
						}
					})
					<-each.C
				}
			})
		}
		begin := time.Now()
		if err := c.Handle(ctx); err != nil {
			t.Error(err)
		}
		b.seconds = int(time.Since(begin)/time.Second) + 1
		cancel()
		wg.Wait()
	})
	return out
}

// Ten receivers, the default, end 286 small objects a second, each of which takes a
// tenth of a call to send. A round a minute keeps up with them, and neither side is
// throttled by an API as it is by default.
func TestARoundKeepsUpWithTheReceivers(t *testing.T) {
	const perSecond = 286
	for _, latency := range []time.Duration{230 * time.Millisecond, 20 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			b := &border{latency: latency, rate: door.DefaultRate}
			b.invoke(t, 60*perSecond, perSecond/door.MaxEntries+1)
			if b.waiting > 0 || len(b.hidden) > 0 {
				t.Errorf("of the %d receipts of a minute %d are left, and %d not deleted", 60*perSecond, b.waiting, len(b.hidden))
			}
			if len(b.throttled) > 0 {
				t.Errorf("throttled: %v", b.throttled)
			}
			if most := callsPerSecond * (b.seconds + 1); b.calls > most {
				t.Errorf("%d calls in %d s, expected at most %d", b.calls, b.seconds, most)
			}
		})
	}
}

// An API that allows less gets what it refused once more, and what was not fetched
// waits for the next round.
func TestAThrottledRoundLosesNothing(t *testing.T) {
	const receipts = 5000
	b := &border{latency: 230 * time.Millisecond, rate: 10}
	out := b.invoke(t, receipts, 0)
	if len(b.throttled) == 0 {
		t.Fatal("nothing was throttled")
	}
	told := strings.Count(out.String(), `"msg":"receipt"`)
	if taken := receipts - b.waiting; told != taken || taken < 1000 {
		t.Errorf("%d receipts taken, %d told", taken, told)
	}
	t.Logf("%d of %d receipts fetched, %d to come again, throttled: %v", receipts-b.waiting, receipts, len(b.hidden), b.throttled)
}
