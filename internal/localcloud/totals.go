package localcloud

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Totals are what a cloud has done, counted where messages enter a queue. A
// queue delivers at least once, so an object may count more than once.
type Totals struct {
	// Events are objects that the outbox was told of, those put back included.
	Events int `json:"events"`
	// Sent are messages of the inbox: transfers, and their continuations.
	Sent int `json:"sent"`
	// Receipts counts the receipts by outcome, and Bytes what they say was copied.
	Receipts map[wire.Outcome]int `json:"receipts"`
	Bytes    int64                `json:"bytes"`
	// Rounds is how often the transfer that expired most often did.
	Rounds int `json:"rounds"`
	// Left counts, by queue, the messages that were there at the end.
	Left map[string]int `json:"left"`
}

// String is one line for people.
func (t Totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events, %d messages sent, receipts:", t.Events, t.Sent)
	for _, outcome := range wire.Outcomes() {
		if n := t.Receipts[outcome]; n > 0 {
			fmt.Fprintf(&b, " %d %s", n, outcome)
		}
	}
	if len(t.Receipts) == 0 {
		b.WriteString(" none")
	}
	fmt.Fprintf(&b, ", %d bytes copied", t.Bytes)
	for _, queue := range slices.Sorted(maps.Keys(t.Left)) {
		fmt.Fprintf(&b, ", %d left in %s", t.Left[queue], queue)
	}
	return b.String()
}

// tally counts. The zero value is ready.
type tally struct {
	watch atomic.Pointer[func(queue, body string)]

	mu      sync.Mutex
	sum     Totals
	expired map[string]int // by the transfer's ID
}

// accepted sees every message that a queue takes.
func (t *tally) accepted(queue, body string) {
	if watch := t.watch.Load(); watch != nil {
		(*watch)(queue, body)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch queue {
	case "outbox":
		// What cannot be read is the sender's to complain about.
		if message, err := event.Parse(body); err == nil {
			t.sum.Events += len(message.Events)
		}
	case "inbox":
		t.sum.Sent++
	case "receipts":
		receipt, err := wire.DecodeReceipt(body)
		if err != nil {
			return
		}
		if t.sum.Receipts == nil {
			t.sum.Receipts = map[wire.Outcome]int{}
		}
		t.sum.Receipts[receipt.Outcome]++
		t.sum.Bytes += receipt.Bytes
		if receipt.Outcome == wire.Expired {
			if t.expired == nil {
				t.expired = map[string]int{}
			}
			t.expired[receipt.ID]++
			t.sum.Rounds = max(t.sum.Rounds, t.expired[receipt.ID])
		}
	}
}

// totals returns what was counted, and what the queues hold.
func (t *tally) totals(queues map[string]*sqs.Queue) Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.sum
	out.Receipts = maps.Clone(out.Receipts)
	out.Left = map[string]int{}
	for name, queue := range queues {
		counts := queue.Counts()
		if n := counts.Visible + counts.InFlight + counts.Delayed; n > 0 {
			out.Left[name] = n
		}
	}
	return out
}
