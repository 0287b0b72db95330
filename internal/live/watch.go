package live

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/wire"
)

const (
	interval    = 500 * time.Millisecond
	historySize = 240 // ticks: two minutes
	maxReceipts = 12  // of one tick; the counts have them all
)

// queueNames are those of a tick.
var queueNames = []string{"outbox", "inbox", "receipts", "outbox-dlq", "inbox-dlq"}

// tick is what the page is told twice a second.
type tick struct {
	At        int64                `json:"at"` // Unix milliseconds
	Events    int                  `json:"events"`
	Sent      int                  `json:"sent"`
	Outcomes  map[wire.Outcome]int `json:"outcomes"`
	Bytes     int64                `json:"bytes"` // copied
	Queues    map[string]depth     `json:"queues"`
	Functions map[string]work      `json:"functions"`
	Border    border               `json:"border"`
	Faults    map[string]bool      `json:"faults"`
	Receipts  []receipt            `json:"receipts"` // since the tick before
}

type depth struct {
	Waiting int `json:"waiting"`
	Held    int `json:"held"` // in flight, or hidden until they are tried again
}

type work struct {
	Alive int `json:"alive"` // execution environments
	Busy  int `json:"busy"`
}

// border is what passes between receivers and the source bucket.
type border struct {
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate"` // bytes a second since the tick before
}

type receipt struct {
	Op      wire.Op      `json:"op"`
	Key     string       `json:"key"`
	Outcome wire.Outcome `json:"outcome"`
	Bytes   int64        `json:"bytes"`
	Lag     float64      `json:"lag"` // seconds
	Proof   string       `json:"proof"`
	Reason  string       `json:"reason"`
	At      int64        `json:"at"` // Unix milliseconds
}

// watch makes ticks of a cloud.
type watch struct {
	cloud *localcloud.Cloud

	mu          sync.Mutex
	receipts    []receipt
	history     []json.RawMessage
	subscribers map[chan json.RawMessage]struct{}
}

func newWatch(cloud *localcloud.Cloud) *watch {
	return &watch{cloud: cloud, subscribers: map[chan json.RawMessage]struct{}{}}
}

// accepted sees every message that a queue takes.
func (w *watch) accepted(queue, body string) {
	if queue != "receipts" {
		return
	}
	r, err := wire.DecodeReceipt(body)
	if err != nil {
		return // the courier says so
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.receipts) < maxReceipts {
		w.receipts = append(w.receipts, receipt{
			Op: r.Op, Key: r.Source.Key, Outcome: r.Outcome, Bytes: r.Bytes, Lag: r.At.Sub(r.Source.EventTime).Seconds(),
			Proof: string(r.Verified), Reason: r.Reason, At: r.At.UnixMilli(),
		})
	}
}

// run makes ticks, completed by complete, until stop is closed.
func (w *watch) run(stop <-chan struct{}, complete func(*tick)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var before int64
	last := time.Now()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			t := w.look(now)
			bytes := w.cloud.Gates.Border.Carried()
			t.Border = border{w.cloud.Gates.Border.Connections(), float64(bytes-before) / now.Sub(last).Seconds()}
			before, last = bytes, now
			complete(&t)
			w.publish(t)
		}
	}
}

func (w *watch) look(now time.Time) tick {
	totals := w.cloud.Totals()
	t := tick{
		At: now.UnixMilli(), Events: totals.Events, Sent: totals.Sent, Outcomes: totals.Receipts, Bytes: totals.Bytes,
		Queues: map[string]depth{}, Functions: map[string]work{}, Faults: map[string]bool{},
	}
	for _, name := range queueNames {
		counts := w.cloud.Queue(name).Counts()
		t.Queues[name] = depth{counts.Visible, counts.InFlight + counts.Delayed}
	}
	for _, name := range []string{localcloud.Sender, localcloud.Receiver, localcloud.Courier} {
		host := w.cloud.Function(name)
		t.Functions[name] = work{len(host.PIDs()), host.Working()}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Receipts, w.receipts = w.receipts, nil
	return t
}

func (w *watch) publish(t tick) {
	data, err := json.Marshal(t)
	if err != nil {
		return // it always encodes
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, data)
	w.history = w.history[max(0, len(w.history)-historySize):]
	for s := range w.subscribers {
		select {
		case s <- data:
		default: // a page that is too slow misses a tick, and the next has the totals
		}
	}
}

func (w *watch) subscribe() (past []json.RawMessage, ticks chan json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ticks = make(chan json.RawMessage, 4)
	w.subscribers[ticks] = struct{}{}
	return append(past, w.history...), ticks
}

func (w *watch) unsubscribe(ticks chan json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.subscribers, ticks)
}

// serve sends the ticks of the last minutes as one server-sent event, "past",
// and then each as one.
//
// https://html.spec.whatwg.org/multipage/server-sent-events.html
func (w *watch) serve(rw http.ResponseWriter, r *http.Request) {
	past, ticks := w.subscribe()
	defer w.unsubscribe(ticks)
	all, err := json.Marshal(past)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "text/event-stream")
	controller := http.NewResponseController(rw)
	for event, data := "past", json.RawMessage(all); ; event = "tick" {
		if _, err := fmt.Fprintf(rw, "event: %s\ndata: %s\n\n", event, data); err != nil || controller.Flush() != nil {
			return
		}
		select {
		case data = <-ticks:
		case <-r.Context().Done():
			return
		}
	}
}
