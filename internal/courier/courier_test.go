package courier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/s3ferry/s3ferry/internal/backlog"
	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/mailbox/mailboxtest"
	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/metric/metrictest"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// queues is an outbox and its dead-letter queue.
type queues struct {
	settle.SQS // for what a courier never asks

	mu     sync.Mutex
	steps  *[]string // what happened, in order
	outbox []string
	rounds []string // of the events in the outbox
	delays []int32
	before func() error
	dead   []*sqs.SendMessageInput
	refuse func(body string) bool // an entry of a batch
	err    error                  // of every call
}

func (q *queues) SendMessageBatch(_ context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error) {
	if err := q.cut(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if *in.QueueUrl != "the-outbox" {
		return nil, errors.New("another queue")
	}
	if q.err != nil {
		return nil, q.err
	}
	var out sqs.SendMessageBatchOutput
	for _, e := range in.Entries {
		if q.refuse != nil && q.refuse(*e.MessageBody) {
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, Code: aws.String("InternalError")})
			continue
		}
		q.outbox = append(q.outbox, *e.MessageBody)
		q.delays = append(q.delays, e.DelaySeconds)
		q.rounds = append(q.rounds, aws.ToString(e.MessageAttributes[event.RoundAttribute].StringValue))
		out.Successful = append(out.Successful, types.SendMessageBatchResultEntry{Id: e.Id})
	}
	*q.steps = append(*q.steps, "outbox")
	return &out, nil
}

// cut counts a call, which fails from a certain one on.
func (q *queues) cut() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.before == nil {
		return nil
	}
	return q.before()
}

func (q *queues) SendMessage(_ context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	if err := q.cut(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, q.err
	}
	q.dead = append(q.dead, in)
	return &sqs.SendMessageOutput{}, nil
}

// notes is where a courier writes the receiver's pace.
type notes struct {
	pace  backlog.Pace
	saves int
	err   error
}

func (n *notes) Load(context.Context) (backlog.Pace, error) { return n.pace, n.err }

func (n *notes) Save(_ context.Context, pace backlog.Pace) error {
	n.pace, n.saves = pace, n.saves+1
	return n.err
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// last returns the last line with the message.
func (l *lines) last(t *testing.T, message string) map[string]any {
	t.Helper()
	var found map[string]any
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == message {
			found = m
		}
	}
	return found
}

func newCourier(t *testing.T) (*Courier, *mailboxtest.Server, *queues, *lines) {
	api := mailboxtest.New(t)
	q := &queues{steps: &[]string{}}
	api.Fault = func(route string, _ []byte) *mailboxtest.Answer {
		q.mu.Lock()
		defer q.mu.Unlock()
		*q.steps = append(*q.steps, route)
		return nil
	}
	var out lines
	log := slog.New(slog.NewJSONHandler(&out, nil))
	t.Cleanup(func() {
		if strings.Contains(out.String(), api.Key) {
			t.Errorf("the API key is in the log:\n%s", out.String())
		}
	})
	key := api.Key
	return &Courier{
		Link: &link.Cache[link.Secret]{Fetch: func(context.Context) (link.Secret, error) {
			return link.Secret{APIURL: api.URL, APIKey: secret.New(key)}, nil
		}},
		HTTP: mailbox.NewHTTPClient(), SQS: q, Pace: &notes{},
		Outbox: &settle.Queue{SQS: q, URL: "the-outbox", DeadLetterURL: "the-dead", Log: log},
		Log:    log,
	}, api, q, &out
}

var born = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func receipt(t *testing.T, key string, outcome wire.Outcome) (string, wire.Source) {
	t.Helper()
	r := wire.Receipt{
		Op: wire.OpPut, Outcome: outcome, Attempts: 1, Millis: 40, At: born.Add(3 * time.Second),
		Source: wire.Source{Region: "us-east-1", Bucket: "source", Key: key, VersionID: "v1", ETag: "e1", Size: 7, Sequencer: "0061", EventTime: born},
	}
	switch outcome {
	case wire.Linked:
		r.Op = wire.OpNoop
	case wire.Deleted:
		r.Op, r.Source.ETag, r.Source.Size = wire.OpDelete, "", 0
	case wire.Tagged:
		r.Op, r.Source.Sequencer, r.Source.Size = wire.OpTag, "", 0
	}
	r.ID = wire.ID(r.Op, r.Source)
	switch outcome {
	case wire.Copied:
		r.Bytes, r.Verified = 7, wire.ByFullObject
	case wire.Failed, wire.Refused:
		r.Class, r.Reason = "bad-luck", "because of it"
	}
	body, err := wire.EncodeReceipt(r)
	if err != nil {
		t.Fatal(err)
	}
	return body, r.Source
}

func TestARoundOfEveryOutcome(t *testing.T) {
	c, api, q, out := newCourier(t)
	want := map[string]any{"bytes": 35.0, "longestLagMillis": 3000.0, "malformed": 0.0}
	for i, outcome := range wire.Outcomes() {
		for n := range 5 {
			body, _ := receipt(t, fmt.Sprintf("%d/%d", i, n), outcome)
			api.Put(body)
		}
		want[string(outcome)] = 5.0
	}
	if err := c.Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := api.Left(); len(left) != 0 {
		t.Errorf("%d receipts left", len(left))
	}
	if len(q.outbox) != 5 || len(q.dead) != 0 {
		t.Errorf("%d events in the outbox and %d dead letters, expected the 5 expired", len(q.outbox), len(q.dead))
	}
	got := out.last(t, "round ended")
	for name := range got {
		if name == "time" || name == "level" || name == "msg" {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if n := strings.Count(out.String(), `"msg":"receipt"`); n != 5*len(wire.Outcomes()) {
		t.Errorf("%d receipts in the log, expected %d", n, 5*len(wire.Outcomes()))
	}
	// The report reads these lines.
	told := out.last(t, "receipt")
	if at, err := time.Parse(time.RFC3339, fmt.Sprint(told["at"])); err != nil || at.IsZero() {
		t.Errorf("a receipt is logged without the time it is of: %v", told)
	}
	if n := strings.Count(out.String(), `"class":"bad-luck","reason":"because of it"`); n != 10 {
		t.Errorf("%d reasons in the log, expected 10", n)
	}
}

func TestABurstIsDrained(t *testing.T) {
	c, api, _, out := newCourier(t)
	for i := range 333 {
		body, _ := receipt(t, fmt.Sprint(i), wire.Copied)
		api.Put(body)
	}
	if err := c.Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := out.last(t, "round ended")["copied"]; got != 333.0 || len(api.Left()) != 0 {
		t.Errorf("counted %v of 333, %d left", got, len(api.Left()))
	}
}

func TestExpiredIsSentAgainBeforeItIsDeleted(t *testing.T) {
	c, api, q, _ := newCourier(t)
	body, source := receipt(t, "数据/1+1 %.txt", wire.Expired)
	api.Put(body)
	if err := c.Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	steps := slices.DeleteFunc(*q.steps, func(s string) bool { return s == "ReceiveReceipts" || s == "GetDepth" })
	if diff := cmp.Diff([]string{"outbox", "DeleteReceipts"}, steps); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	got, err := event.Parse(q.outbox[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]event.Event{{Op: wire.OpPut, Source: source}}, got.Events); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1"}, q.rounds); diff != "" {
		t.Errorf("rounds (-want +got):\n%s", diff)
	}
}

func TestWhatMayYetSucceedIsSentAgainLaterAndLater(t *testing.T) {
	for _, tc := range []struct {
		outcome wire.Outcome
		round   int
		want    int32 // seconds, -1: it is a dead letter
	}{
		{wire.Expired, 0, 0}, {wire.Expired, 1, 2}, {wire.Expired, 399, 900}, {wire.Expired, 400, -1},
		{wire.Failed, 0, 1}, {wire.Failed, 6, 64}, {wire.Failed, 10, 900}, {wire.Failed, 401, -1},
	} {
		for _, op := range []wire.Op{wire.OpPut, wire.OpDelete, wire.OpTag} {
			if op == wire.OpDelete && tc.outcome == wire.Expired {
				continue
			}
			c, api, q, out := newCourier(t)
			body, source := receipt(t, "k", tc.outcome)
			r, err := wire.DecodeReceipt(body)
			if err != nil {
				t.Fatal(err)
			}
			r.Op, r.Round, r.Retry = op, tc.round, tc.outcome == wire.Failed
			switch op {
			case wire.OpDelete:
				r.Source.ETag, r.Source.Size = "", 0
			case wire.OpTag:
				r.Source.Sequencer, r.Source.Size = "", 0
			}
			r.ID, r.Class, r.Reason = wire.ID(op, r.Source), "destination-busy", "put: 503"
			if body, err = wire.EncodeReceipt(r); err != nil {
				t.Fatal(err)
			}
			api.Put(body)
			if err := c.Handle(t.Context()); err != nil || len(api.Left()) > 0 {
				t.Fatalf("%+v: got %v, receipts left: %v", tc, err, api.Left())
			}
			want := event.Encode(op, r.Source)
			if measured, _ := metrictest.Read(t, out.String(), ""); (measured["GivenUp in Count"] != nil) != (tc.want < 0) {
				t.Errorf("%+v: measured %v", tc, measured)
			}
			if tc.want < 0 {
				if len(q.dead) != 1 || *q.dead[0].MessageBody != want || len(q.outbox) > 0 ||
					*q.dead[0].MessageAttributes[settle.ClassAttribute].StringValue != "rounds-exhausted" ||
					!strings.Contains(*q.dead[0].MessageAttributes[settle.ReasonAttribute].StringValue, string(tc.outcome)) {
					t.Errorf("%+v: got dead letters %+v and events %v", tc, q.dead, q.outbox)
				}
				continue
			}
			if len(q.dead) > 0 || len(q.outbox) != 1 || q.outbox[0] != want || q.delays[0] != tc.want || q.rounds[0] != strconv.Itoa(tc.round+1) {
				t.Errorf("%+v: got events %v after %v s, rounds %v, dead letters %v, source %v", tc, q.outbox, q.delays, q.rounds, q.dead, source)
			}
		}
	}
}

// A courier that is cut off at any call has lost no receipt, and the next one ends
// what it began.
func TestACourierCutOffAtAnyCallLosesNothing(t *testing.T) {
	for cut := 1; ; cut++ {
		c, api, q, _ := newCourier(t)
		want := map[string]bool{}
		for i, outcome := range []wire.Outcome{wire.Expired, wire.Copied, wire.Expired} {
			body, source := receipt(t, strconv.Itoa(i), outcome)
			api.Put(body)
			if outcome == wire.Expired {
				want[event.Encode(wire.OpPut, source)] = true
			}
		}
		worn, _ := receipt(t, "worn", wire.Expired)
		worn = strings.Replace(worn, `"op":"put",`, `"op":"put","round":400,`, 1)
		api.Put("hello", worn)

		ctx, stop := context.WithCancel(t.Context())
		calls := 0
		q.before = func() error { // of SQS, and of the API through its Fault
			if calls++; calls >= cut {
				stop()
				return errors.New("cut off")
			}
			return nil
		}
		api.Fault = func(string, []byte) *mailboxtest.Answer {
			if q.cut() != nil {
				return &mailboxtest.Answer{Status: 503}
			}
			return nil
		}
		_ = c.Handle(ctx)
		stop()
		q.mu.Lock()
		over := calls < cut
		q.mu.Unlock()
		next, nextAPI, nextQueues, _ := newCourier(t) // sees what was left, once its lease is over
		nextAPI.Put(api.Left()...)
		if err := next.Handle(t.Context()); err != nil {
			t.Fatalf("cut at call %d: the next round: %v", cut, err)
		}
		for _, body := range slices.Concat(q.outbox, nextQueues.outbox) {
			delete(want, body)
		}
		dead := map[string]bool{}
		for _, m := range slices.Concat(q.dead, nextQueues.dead) {
			dead[*m.MessageAttributes[settle.ClassAttribute].StringValue] = true
		}
		if len(want) > 0 || len(nextAPI.Left()) > 0 || !dead[malformed] || !dead[exhausted] {
			t.Errorf("cut at call %d: events lost %v, receipts left %v, dead letters %v", cut, want, nextAPI.Left(), dead)
		}
		if over {
			if cut < 5 {
				t.Errorf("only %d calls were cut", cut)
			}
			return
		}
	}
}

func TestTheOutboxRefuses(t *testing.T) {
	for name, set := range map[string]func(*queues){
		"all": func(q *queues) { q.err = errors.New("queue away") },
		"one": func(q *queues) { q.refuse = func(body string) bool { return strings.Contains(body, `"key":"b"`) } },
	} {
		t.Run(name, func(t *testing.T) {
			c, api, q, _ := newCourier(t)
			set(q)
			var bodies []string
			for key, outcome := range map[string]wire.Outcome{"a": wire.Expired, "b": wire.Expired, "c": wire.Copied} {
				body, _ := receipt(t, key, outcome)
				bodies = append(bodies, body)
			}
			api.Put(bodies...)
			if err := c.Handle(t.Context()); err == nil || !strings.Contains(err.Error(), "back into the outbox") {
				t.Errorf("got %v", err)
			}
			left := api.Left()
			if want := 2 - len(q.outbox); len(left) != want {
				t.Errorf("%d receipts left, expected the %d that are not in the outbox", len(left), want)
			}
			for _, body := range left {
				if strings.Contains(body, `"key":"c"`) {
					t.Error("the copied one was left too")
				}
			}
		})
	}
}

// An unreadable receipt neither comes back for ever nor disappears.
func TestMalformedReceipts(t *testing.T) {
	c, api, q, out := newCourier(t)
	good, _ := receipt(t, "a", wire.Copied)
	newer := strings.Replace(good, `{"v":1`, `{"v":2`, 1)
	api.Put("hello", newer, good)
	if err := c.Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	var dead []string
	for _, m := range q.dead {
		dead = append(dead, *m.MessageBody)
		if *m.QueueUrl != "the-dead" || *m.MessageAttributes[settle.ClassAttribute].StringValue != malformed {
			t.Errorf("dead letter %+v", m)
		}
	}
	slices.Sort(dead)
	if diff := cmp.Diff([]string{"hello", newer}, dead); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if got := out.last(t, "round ended"); got["malformed"] != 2.0 || got["copied"] != 1.0 || len(api.Left()) != 0 {
		t.Errorf("got %v, %d left", got, len(api.Left()))
	}
}

func TestMalformedReceiptsStayWhereTheDeadLetterQueueIsAway(t *testing.T) {
	c, api, q, _ := newCourier(t)
	q.err = errors.New("queue away")
	api.Put("hello")
	if err := c.Handle(t.Context()); err == nil || len(api.Left()) != 1 {
		t.Errorf("got %v, %d left", err, len(api.Left()))
	}
}

func TestNotLinkedIsNoError(t *testing.T) {
	c, api, _, out := newCourier(t)
	c.Link.Fetch = func(context.Context) (link.Secret, error) {
		return link.Secret{}, fault.Transient("not-linked", link.ErrNotLinked)
	}
	if err := c.Handle(t.Context()); err != nil || len(api.Requests()) != 0 {
		t.Errorf("got %v after %d requests", err, len(api.Requests()))
	}
	if strings.Count(out.String(), "s3ferry link") != 1 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("got the log %s", out)
	}
}

func TestTheLinkSecretCannotBeRead(t *testing.T) {
	c, _, _, _ := newCourier(t)
	c.Link.Fetch = func(context.Context) (link.Secret, error) { return link.Secret{}, errors.New("denied") }
	if err := c.Handle(t.Context()); err == nil {
		t.Error("got no error")
	}
}

func TestTheLinkSecretIsReadAgain(t *testing.T) {
	for name, renewed := range map[string]bool{"and is new": true, "and is the same": false} {
		t.Run(name, func(t *testing.T) {
			c, api, _, _ := newCourier(t)
			body, _ := receipt(t, "a", wire.Copied)
			api.Put(body)
			reads := 0
			right := c.Link.Fetch
			c.Link.Fetch = func(ctx context.Context) (link.Secret, error) {
				s, err := right(ctx)
				if reads++; reads == 1 || !renewed {
					s.APIKey = secret.New("an old key")
				}
				return s, err
			}
			err := c.Handle(t.Context())
			if reads != 2 {
				t.Errorf("%d reads, expected 2", reads)
			}
			if renewed && (err != nil || len(api.Left()) != 0) {
				t.Errorf("got %v, %d left", err, len(api.Left()))
			}
			if !renewed && (!errors.Is(err, mailbox.ErrDenied) || strings.Contains(err.Error(), "an old key")) {
				t.Errorf("got %v, expected a denial", err)
			}
		})
	}
}

func TestAClosedBorderIsNoError(t *testing.T) {
	c, api, _, out := newCourier(t)
	api.Fault = func(string, []byte) *mailboxtest.Answer {
		return &mailboxtest.Answer{Status: http.StatusServiceUnavailable, RetryAfter: "600"}
	}
	if err := c.Handle(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	if out.last(t, "round cut short")["class"] != mailbox.Border {
		t.Errorf("the log is silent about it: %s", out)
	}
}

func TestNoRoundWithoutTime(t *testing.T) {
	c, api, _, _ := newCourier(t)
	body, _ := receipt(t, "a", wire.Copied)
	api.Put(body)
	ctx, cancel := context.WithTimeout(t.Context(), reserve)
	defer cancel()
	if err := c.Handle(ctx); err != nil || len(api.Requests()) != 0 || len(api.Left()) != 1 {
		t.Errorf("got %v, %d requests, %d left", err, len(api.Requests()), len(api.Left()))
	}
}

func TestReceiptsThatCannotBeDeletedComeAgain(t *testing.T) {
	c, api, _, _ := newCourier(t)
	body, _ := receipt(t, "a", wire.Copied)
	api.Put(body)
	api.Refuse = func(string) (string, bool) { return "ReceiptHandleIsInvalid", true }
	if err := c.Handle(t.Context()); err == nil || len(api.Left()) != 1 {
		t.Errorf("got %v, %d left", err, len(api.Left()))
	}
}

// What the receipts of a round say is measured, and under no other names than the
// dashboards and alarms know.
func TestMetrics(t *testing.T) {
	c, api, _, out := newCourier(t)
	c.Name = "stack-Sender"
	api.Attributes[door.Visible], api.Attributes[door.InFlight] = "30", "12"
	want := map[string][]float64{
		"Bytes in Bytes": {7}, "Lag in Milliseconds": {3000}, "Requeued in Count": {1}, "GivenUp in Count": {2},
		"Inbox in Count": {42}, "Unreadable in Count": {1},
	}
	var outcomes []wire.Outcome
	for _, name := range append(metric.Outcomes(), "linked") {
		outcomes = append(outcomes, wire.Outcome(name))
		body, _ := receipt(t, name, wire.Outcome(name))
		api.Put(body)
		if name != "linked" {
			want[metric.Outcome(name).Name+" in Count"] = []float64{1}
			want["Attempts in Count"] = append(want["Attempts in Count"], 1)
			want["Duration in Milliseconds"] = append(want["Duration in Milliseconds"], 40)
		}
	}
	if diff := cmp.Diff(wire.Outcomes(), outcomes, cmpopts.SortSlices(func(a, b wire.Outcome) bool { return a < b })); diff != "" {
		t.Errorf("outcomes of receipts (-) and of metrics (+):\n%s", diff)
	}
	api.Put("hello")
	if err := c.Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _ := metrictest.Read(t, out.String(), "stack-Sender")
	for _, memory := range got["Memory in Bytes"] {
		if memory < 1<<20 || memory > 1<<40 {
			t.Errorf("%v bytes of memory", memory)
		}
	}
	if len(got["Memory in Bytes"]) == 0 {
		t.Error("no memory measured")
	}
	delete(got, "Memory in Bytes")
	if n := len(got["GivenUp in Count"]); n == 2 { // in lines of two batches
		got["GivenUp in Count"] = []float64{2}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A courier that is killed has measured what it has deleted.
func TestReceiptsAreMeasuredBeforeTheyAreDeleted(t *testing.T) {
	c, api, _, out := newCourier(t)
	for i := range 30 {
		body, _ := receipt(t, strconv.Itoa(i), wire.Copied)
		api.Put(body)
	}
	deleted := 0
	var mu sync.Mutex
	api.Fault = func(route string, body []byte) *mailboxtest.Answer {
		if route == "DeleteReceipts" {
			mu.Lock()
			defer mu.Unlock()
			deleted += strings.Count(string(body), "ReceiptHandle")
			if measured, _ := metrictest.Read(t, out.String(), ""); len(measured["Lag in Milliseconds"]) < deleted {
				t.Errorf("%d receipts are measured before %d are deleted", len(measured["Lag in Milliseconds"]), deleted)
			}
		}
		return nil
	}
	if err := c.Handle(t.Context()); err != nil || deleted != 30 {
		t.Errorf("got %v, %d deleted", err, deleted)
	}
}

// What the sender may send depends on the pace that the receipts show.
func TestThePaceIsNoted(t *testing.T) {
	minuteAgo := time.Now().Add(-time.Minute)
	busy := backlog.Pace{PerSecond: 1, Over: 60, Waiting: true, Until: minuteAgo}
	for name, tc := range map[string]struct {
		before   backlog.Pace
		outcomes []wire.Outcome
		waiting  string
		saves    int
		done     int // in the minute
	}{
		"what is over counts":          {busy, []wire.Outcome{wire.Copied, wire.Skipped, wire.Failed, wire.Gone}, "7", 1, 4},
		"what has to come again not":   {busy, []wire.Outcome{wire.Copied, wire.Expired, wire.Linked}, "7", 1, 1},
		"nothing in a minute":          {busy, nil, "7", 1, 0},
		"nothing, and nothing waits":   {backlog.Pace{PerSecond: 1, Until: minuteAgo}, nil, "0", 0, 0},
		"a depth that cannot be asked": {busy, []wire.Outcome{wire.Copied}, "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, api, _, out := newCourier(t)
			api.Attributes[door.Visible] = tc.waiting
			noted := &notes{pace: tc.before}
			c.Pace = noted
			for i, outcome := range tc.outcomes {
				body, _ := receipt(t, fmt.Sprint(i), outcome)
				api.Put(body)
			}
			if err := c.Handle(t.Context()); err != nil || len(api.Left()) != 0 {
				t.Fatalf("got %v, %d receipts left", err, len(api.Left()))
			}
			if noted.saves != tc.saves {
				t.Fatalf("noted %d times, expected %d: %s", noted.saves, tc.saves, out)
			}
			want := tc.before
			if tc.saves > 0 {
				want = tc.before.Next(tc.done, noted.pace.Until, true)
			}
			if noted.pace != want {
				t.Errorf("noted %+v, expected %+v", noted.pace, want)
			}
		})
	}
}

// A round that could not see all receipts knows only of those it saw.
func TestThePaceOfARoundCutShort(t *testing.T) {
	c, api, _, _ := newCourier(t)
	noted := &notes{pace: backlog.Pace{Waiting: true, Until: born}}
	c.Pace = noted
	api.Attributes[door.Visible] = "7"
	for i := range 6 {
		body, _ := receipt(t, fmt.Sprint(i), wire.Copied)
		api.Put(body)
	}
	var asked atomic.Int32
	api.Fault = func(route string, _ []byte) *mailboxtest.Answer {
		if route == "ReceiveReceipts" && asked.Add(1) > 1 {
			return &mailboxtest.Answer{Status: http.StatusServiceUnavailable, RetryAfter: "600"}
		}
		return nil
	}
	if err := c.Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := (backlog.Pace{PerSecond: 2, Over: 3, Waiting: true, Until: born.Add(3 * time.Second)}); noted.pace != want {
		t.Errorf("noted %+v, expected %+v", noted.pace, want)
	}
}

func TestFromEnvironment(t *testing.T) {
	t.Setenv("S3FERRY_OUTBOX_URL", "")
	if _, err := FromEnvironment(t.Context()); err == nil || !strings.Contains(err.Error(), "S3FERRY_OUTBOX_DLQ_URL") {
		t.Errorf("got %v", err)
	}
	t.Setenv("AWS_REGION", "us-east-1")
	for _, name := range []string{"S3FERRY_OUTBOX_URL", "S3FERRY_OUTBOX_DLQ_URL", "S3FERRY_LINK_SECRET", "S3FERRY_PACE_PARAMETER", "S3FERRY_NAME"} {
		t.Setenv(name, "x")
	}
	t.Setenv("S3FERRY_MAX_ROUNDS", "7")
	if _, err := FromEnvironment(t.Context()); err != nil {
		t.Error(err)
	}
}
