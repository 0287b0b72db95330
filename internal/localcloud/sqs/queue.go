package sqs

import (
	"container/heap"
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Message is what a sender hands in.
type Message struct {
	Body       string
	Attributes map[string]Attribute
	Delay      *time.Duration // nil: the queue's own
}

// Received is a message as a consumer sees it.
type Received struct {
	ID            string
	ReceiptHandle string // good until the message is received again
	Body          string
	Attributes    map[string]Attribute
	System        map[string]string // ApproximateReceiveCount and the like
}

// ReceiveOptions bound one receive.
type ReceiveOptions struct {
	Max        int            // 1 to 10
	Wait       *time.Duration // at most 20 s, returns early with the first message; nil: the queue's own
	Visibility *time.Duration // how long the messages stay hidden; nil: the queue's own
}

// Oldest returns when the oldest message was sent, also one in flight. ok is
// false if the queue is empty.
func (q *Queue) Oldest() (at time.Time, ok bool) {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	now := time.Now()
	for _, m := range q.byID {
		if !q.expired(m, now) && (!ok || m.sent.Before(at)) {
			at, ok = m.sent, true
		}
	}
	return at, ok
}

// Counts are exact, unlike the approximate ones of the service.
type Counts struct{ Visible, InFlight, Delayed int }

// Queue is one standard queue. Messages live in memory only.
type Queue struct {
	server  *Server
	name    string
	url     string
	arn     string
	created time.Time

	// Everything below is guarded by server.mu: a redrive touches two queues.
	settings  settings
	scattered []*scatter
	order     order
	byID      map[string]*message
	changed   chan struct{} // closed and replaced when something may have become visible
}

// message is one stored message, in flight or not.
type message struct {
	Message
	id       string
	sent     time.Time
	sequence uint64 // of arrival, breaks ties of visibleAt

	visibleAt     time.Time
	firstReceived time.Time
	receives      int
	receipt       string // nonce of the latest receive
	sourceARN     string // of the queue that gave it up, in a dead-letter queue
	index         int    // in order
}

// URL is the queue's address for clients.
func (q *Queue) URL() string { return q.url }

// ARN is the queue's Amazon resource name.
func (q *Queue) ARN() string { return q.arn }

// Name is the last element of URL and ARN.
func (q *Queue) Name() string { return q.name }

// Send stores m and returns its ID.
func (q *Queue) Send(m Message) (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	q.server.mu.Lock()
	now := time.Now()
	delay := q.settings.delay
	if m.Delay != nil {
		delay = *m.Delay
	}
	q.server.sequence++
	stored := &message{
		Message: m, id: uuid.NewString(), sent: now, sequence: q.server.sequence, visibleAt: now.Add(delay + q.late()),
	}
	q.put(stored)
	q.server.mu.Unlock()

	if q.server.accepted != nil {
		q.server.accepted(q.name, m.Body)
	}
	return stored.id, nil
}

// Receive returns up to o.Max visible messages and hides them. It waits as o
// says if there is none, and returns none when the wait or ctx is over.
func (q *Queue) Receive(ctx context.Context, o ReceiveOptions) []Received {
	q.server.mu.Lock()
	wait := q.settings.wait
	if o.Wait != nil {
		wait = *o.Wait
	}
	end := time.Now().Add(wait)
	for {
		// Whoever has gone away must not take messages along.
		if ctx.Err() != nil {
			q.server.mu.Unlock()
			return nil
		}
		got, changed, next := q.take(o)
		q.server.mu.Unlock()
		now := time.Now()
		if len(got) > 0 || !now.Before(end) {
			return got
		}
		until := end
		if !next.IsZero() && next.Before(end) {
			until = next
		}
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		q.server.mu.Lock()
	}
}

// take is one look at the queue. Beside the messages it returns what to wait
// for if there are none: a change, or the time the next one becomes visible.
func (q *Queue) take(o ReceiveOptions) (got []Received, changed <-chan struct{}, next time.Time) {
	now := time.Now()
	visibility := q.settings.visibility
	if o.Visibility != nil {
		visibility = *o.Visibility
	}
	var hidden []*message
	for len(got) < o.Max && len(q.order) > 0 && !q.order[0].visibleAt.After(now) {
		m := q.order[0]
		switch {
		case q.expired(m, now):
			q.remove(m)
			continue
		case q.settings.redrive != nil && m.receives >= q.settings.redrive.MaxReceiveCount:
			q.redrive(m)
			continue
		}
		m.receives++
		if m.receives == 1 {
			m.firstReceived = now
		}
		m.receipt = uuid.NewString()
		got = append(got, q.received(m))
		// With a visibility timeout of zero the message would be found again at
		// once: it goes back only after the loop.
		heap.Pop(&q.order)
		m.visibleAt = now.Add(visibility)
		hidden = append(hidden, m)
	}
	for _, m := range hidden {
		heap.Push(&q.order, m)
	}
	if len(q.order) > 0 {
		next = q.order[0].visibleAt
	}
	return got, q.changed, next
}

// redrive moves m to the dead-letter queue. As in the service the time it was
// sent, and so its retention, and its receive count stay what they are.
func (q *Queue) redrive(m *message) {
	target, ok := q.server.byARN(q.settings.redrive.DeadLetterTargetARN)
	if !ok { // the queue is gone: the service keeps delivering
		q.settings.redrive = nil
		return
	}
	q.remove(m)
	m.visibleAt, m.sourceARN = time.Now(), q.arn
	target.put(m)
}

// Delete deletes the message that handle was given for. It succeeds, and does
// nothing, if the message is gone or has been received again since.
func (q *Queue) Delete(handle string) error {
	id, receipt, err := q.parseHandle(handle)
	if err != nil {
		return err
	}
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	if m, ok := q.byID[id]; ok && m.receipt == receipt {
		q.remove(m)
	}
	return nil
}

// ChangeVisibility hides the message for d from now on; 0 gives it back at
// once. Only the latest receipt handle of a message in flight can do that.
func (q *Queue) ChangeVisibility(handle string, d time.Duration) error {
	id, receipt, err := q.parseHandle(handle)
	if err != nil {
		return err
	}
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	m, ok := q.byID[id]
	if !ok || m.receipt != receipt {
		return newError(codeInvalidParameterValue, "Value %s for parameter ReceiptHandle is invalid. "+
			"Reason: Message does not exist or is not available for visibility timeout change.", handle)
	}
	now := time.Now()
	if !m.visibleAt.After(now) {
		return newError(codeMessageNotInflight, "The message referred to isn't in flight.")
	}
	m.visibleAt = now.Add(d)
	heap.Fix(&q.order, m.index)
	q.wake()
	return nil
}

// Purge deletes all messages.
func (q *Queue) Purge() {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	q.order, q.byID = nil, map[string]*message{}
}

// Counts counts the messages by state.
func (q *Queue) Counts() Counts {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	return q.counts()
}

func (q *Queue) counts() Counts {
	now := time.Now()
	var c Counts
	for _, m := range q.byID {
		switch {
		case q.expired(m, now):
		case !m.visibleAt.After(now):
			c.Visible++
		case m.receives == 0:
			c.Delayed++
		default:
			c.InFlight++
		}
	}
	return c
}

func (q *Queue) expired(m *message, now time.Time) bool {
	return now.Sub(m.sent) >= q.settings.retention
}

func (q *Queue) put(m *message) {
	q.byID[m.id] = m
	heap.Push(&q.order, m)
	q.wake()
}

func (q *Queue) remove(m *message) {
	delete(q.byID, m.id)
	heap.Remove(&q.order, m.index)
}

func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *Queue) received(m *message) Received {
	system := map[string]string{
		"SenderId":                         q.server.account,
		"SentTimestamp":                    milliseconds(m.sent),
		"ApproximateFirstReceiveTimestamp": milliseconds(m.firstReceived),
		"ApproximateReceiveCount":          strconv.Itoa(m.receives),
	}
	if m.sourceARN != "" {
		system["DeadLetterQueueSourceArn"] = m.sourceARN
	}
	return Received{
		ID: m.id, ReceiptHandle: q.handle(m), Body: m.Body, Attributes: m.Attributes, System: system,
	}
}

// handle names the queue, the message and the receive.
func (q *Queue) handle(m *message) string {
	return base64.URLEncoding.EncodeToString([]byte(q.name + ":" + m.id + ":" + m.receipt))
}

func (q *Queue) parseHandle(handle string) (id, receipt string, err error) {
	raw, err := base64.URLEncoding.DecodeString(handle)
	parts := strings.Split(string(raw), ":")
	if err != nil || len(parts) != 3 || parts[0] != q.name {
		return "", "", newError(codeReceiptHandleIsInvalid, "The input receipt handle %q is not a valid receipt handle.", handle)
	}
	return parts[1], parts[2], nil
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// order is a heap of messages, the one that is visible first on top.
type order []*message

func (o order) Len() int { return len(o) }

func (o order) Less(i, j int) bool {
	if !o[i].visibleAt.Equal(o[j].visibleAt) {
		return o[i].visibleAt.Before(o[j].visibleAt)
	}
	return o[i].sequence < o[j].sequence
}

func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].index, o[j].index = i, j
}

func (o *order) Push(x any) {
	m := x.(*message) //nolint:errcheck // the heap holds nothing else
	m.index = len(*o)
	*o = append(*o, m)
}

func (o *order) Pop() any {
	old := *o
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*o = old[:len(old)-1]
	return last
}
