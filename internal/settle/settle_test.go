package settle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/fault"
)

// recorder is an SQS that remembers what it was asked.
type recorder struct {
	mu      sync.Mutex
	sent    []*sqs.SendMessageInput
	hidden  map[string]time.Duration // by receipt handle
	batches []int                    // sizes
	calls   []time.Time              // of the visibility calls
	alive   bool                     // the last Settle call came with a usable context

	sendErr error
	hideErr error
}

func (r *recorder) SendMessage(ctx context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive = ctx.Err() == nil
	if r.sendErr != nil {
		return nil, r.sendErr
	}
	r.sent = append(r.sent, in)
	return &sqs.SendMessageOutput{}, nil
}

func (r *recorder) ChangeMessageVisibilityBatch(ctx context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive = ctx.Err() == nil
	r.calls = append(r.calls, time.Now())
	if r.hideErr != nil {
		return nil, r.hideErr
	}
	if r.hidden == nil {
		r.hidden = map[string]time.Duration{}
	}
	r.batches = append(r.batches, len(in.Entries))
	ids := map[string]bool{}
	for _, e := range in.Entries {
		if ids[*e.Id] {
			return nil, errors.New("BatchEntryIdsNotDistinct")
		}
		ids[*e.Id] = true
		r.hidden[*e.ReceiptHandle] = time.Duration(e.VisibilityTimeout) * time.Second
	}
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

func newQueue(r *recorder) (*Queue, *bytes.Buffer) {
	var logs bytes.Buffer
	return &Queue{
		SQS: r, URL: "https://queue", DeadLetterURL: "https://dead-letters",
		MinDelay: 10 * time.Second, MaxDelay: time.Hour,
		Log: slog.New(slog.NewJSONHandler(&logs, nil)),
	}, &logs
}

func message(i, receives int) events.SQSMessage {
	return events.SQSMessage{
		MessageId:     fmt.Sprintf("m%d", i),
		ReceiptHandle: fmt.Sprintf("h%d", i),
		Body:          fmt.Sprintf("private body %d", i),
		Attributes:    map[string]string{"ApproximateReceiveCount": strconv.Itoa(receives)},
	}
}

func TestSettle(t *testing.T) {
	var r recorder
	q, logs := newQueue(&r)
	messages := []events.SQSMessage{message(0, 1), message(1, 1), message(2, 3), message(3, 1), message(4, 1)}
	messages[2].MessageAttributes = map[string]events.SQSMessageAttribute{
		"own":          {DataType: "String", StringValue: aws.String("kept")},
		ClassAttribute: {DataType: "String", StringValue: aws.String("of an earlier life")},
	}
	errs := []error{
		nil,
		fault.Transientf("border", "closed"),
		fault.Permanentf("malformed-event", "no key\x00 in it"),
		errors.New("nobody classified this"),
		fault.After(2*time.Hour, fault.Transientf("border", "throttled")),
	}

	cut, cancel := context.WithCancel(t.Context())
	cancel()
	got := q.Settle(cut, messages, errs)

	want := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{
		{ItemIdentifier: "m1"}, {ItemIdentifier: "m3"}, {ItemIdentifier: "m4"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
	if !r.alive {
		t.Error("Settle used the context of an invocation that was cut off")
	}
	if len(r.sent) != 1 {
		t.Fatalf("got %d dead letters, expected 1", len(r.sent))
	}
	letter := r.sent[0]
	if *letter.QueueUrl != q.DeadLetterURL || *letter.MessageBody != messages[2].Body {
		t.Errorf("dead letter went to %q with body %q", *letter.QueueUrl, *letter.MessageBody)
	}
	attributes := map[string]string{}
	for name, a := range letter.MessageAttributes {
		attributes[name] = *a.StringValue
	}
	if diff := cmp.Diff(map[string]string{
		"own": "kept", ClassAttribute: "malformed-event", ReasonAttribute: "no key\uFFFD in it",
	}, attributes); diff != "" {
		t.Errorf("dead letter's attributes (-want +got):\n%s", diff)
	}
	for handle, bounds := range map[string][2]time.Duration{
		"h1": {10 * time.Second, 20 * time.Second},
		"h3": {10 * time.Second, 20 * time.Second},
		"h4": {2 * time.Hour, 2 * time.Hour},
	} {
		if d := r.hidden[handle]; d < bounds[0] || d > bounds[1] {
			t.Errorf("%s hidden for %s, expected %s to %s", handle, d, bounds[0], bounds[1])
		}
	}
	text := logs.String()
	if n := strings.Count(text, "\n"); n != 4 {
		t.Errorf("got %d log lines for 4 failures:\n%s", n, text)
	}
	if strings.Contains(text, "private body") || strings.Contains(text, "https://") {
		t.Errorf("log holds a body or a URL:\n%s", text)
	}
}

func TestSettleNothingFailed(t *testing.T) {
	var r recorder
	q, _ := newQueue(&r)
	got := q.Settle(t.Context(), []events.SQSMessage{message(0, 1)}, []error{nil})
	if len(got.BatchItemFailures) != 0 || len(r.batches) != 0 || len(r.sent) != 0 {
		t.Errorf("got %+v, %d visibility calls, %d dead letters for a clean batch", got, len(r.batches), len(r.sent))
	}
}

func TestSettleKeepsWhatTheDeadLetterQueueRefuses(t *testing.T) {
	r := recorder{sendErr: errors.New("queue away")}
	q, logs := newQueue(&r)
	got := q.Settle(t.Context(), []events.SQSMessage{message(0, 1)}, []error{fault.Permanentf("archived", "frozen")})
	if len(got.BatchItemFailures) != 1 {
		t.Fatalf("message acknowledged without a dead letter: %+v", got)
	}
	for _, want := range []string{"queue away", "archived", "frozen", `"class":"dead-letter"`} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("log lacks %q: %s", want, logs)
		}
	}
}

func TestSettleInTens(t *testing.T) {
	var r recorder
	q, _ := newQueue(&r)
	var messages []events.SQSMessage
	var errs []error
	for i := range 23 {
		messages = append(messages, message(i, 1))
		errs = append(errs, errors.New("busy"))
	}
	got := q.Settle(t.Context(), messages, errs)
	if diff := cmp.Diff([]int{10, 10, 3}, r.batches); diff != "" {
		t.Errorf("visibility batches (-want +got):\n%s", diff)
	}
	if len(got.BatchItemFailures) != 23 || len(r.hidden) != 23 {
		t.Errorf("got %d failures and %d hidden, expected 23", len(got.BatchItemFailures), len(r.hidden))
	}
}

func TestSettleWithoutVisibility(t *testing.T) {
	r := recorder{hideErr: errors.New("access denied")}
	q, _ := newQueue(&r)
	got := q.Settle(t.Context(), []events.SQSMessage{message(0, 1)}, []error{errors.New("busy")})
	if len(got.BatchItemFailures) != 1 {
		t.Errorf("a failed visibility call lost the failure: %+v", got)
	}
}

func TestDelayGrows(t *testing.T) {
	q := &Queue{MinDelay: 10 * time.Second, MaxDelay: time.Hour}
	for _, tc := range []struct {
		receives int
		most     time.Duration
	}{{1, 20 * time.Second}, {2, 40 * time.Second}, {5, 320 * time.Second}, {9, time.Hour}, {1000, time.Hour}} {
		seen := map[time.Duration]bool{}
		for range 200 {
			d := q.delay(tc.receives, errors.New("busy"))
			if d < q.MinDelay || d > tc.most {
				t.Fatalf("delay after %d receives is %s, expected 10s to %s", tc.receives, d, tc.most)
			}
			seen[d] = true
		}
		if len(seen) < 100 {
			t.Errorf("delay after %d receives took %d values of 200: no jitter", tc.receives, len(seen))
		}
	}
	if d := q.delay(1, fault.After(30*time.Hour, errors.New("busy"))); d != maxDelay {
		t.Errorf("got %s, expected SQS's limit %s", d, maxDelay)
	}
}

// What is only held comes back soon, and yet 1,000 receives last the 14 days that
// an event can wait.
func TestDelayOfWhatIsHeld(t *testing.T) {
	q := &Queue{MinDelay: 10 * time.Second, MaxDelay: time.Hour}
	held := fault.Hold(5*time.Minute, errors.New("full"))
	for _, receives := range []int{1, 50} {
		most := 5*time.Minute + time.Duration(receives)*heldGrowth
		for range 200 {
			if d := q.delay(receives, held); d < 5*time.Minute || d > most {
				t.Fatalf("delay after %d receives is %s, expected 5m to %s", receives, d, most)
			}
		}
	}
	var all time.Duration
	for receives := range 1000 {
		all += q.delay(1+receives, fault.Hold(time.Second, errors.New("full")))
	}
	if all < 14*24*time.Hour {
		t.Errorf("1,000 receives take %s, less than 14 days", all)
	}
}

func TestReasonIsBoundedAndValid(t *testing.T) {
	for _, text := range []string{strings.Repeat("船", 2000), "", "\xff\uFFFF\x1b[0m"} {
		got := reason(errors.New(text))
		if got == "" || len(got) > MaxReason || !utf8.ValidString(got) || strings.ContainsAny(got, "\x1b\uFFFF") {
			t.Errorf("reason of %.20q is %d bytes: %.40q", text, len(got), got)
		}
	}
}

func TestDeadLetterAttributesStayUnderTheLimit(t *testing.T) {
	m := message(0, 1)
	m.MessageAttributes = map[string]events.SQSMessageAttribute{}
	for i := range 10 {
		m.MessageAttributes[fmt.Sprint(i)] = events.SQSMessageAttribute{DataType: "Binary", BinaryValue: []byte{1}}
	}
	got := deadLetterAttributes(m, errors.New("x"))
	if _, ok := got[ReasonAttribute]; len(got) != 10 || !ok {
		t.Errorf("got %d attributes, the reason among them: %t", len(got), ok)
	}
}

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, failing := range []error{nil, errors.New("throttled")} {
			r := recorder{hideErr: failing}
			q, _ := newQueue(&r)
			q.Lease = 90 * time.Second
			start := time.Now()
			stop := q.Keep(t.Context(), []events.SQSMessage{message(0, 1), message(1, 1)})
			time.Sleep(75 * time.Second)
			stop()
			time.Sleep(time.Hour)
			var at []time.Duration
			if want := map[string]time.Duration{"h0": q.Lease, "h1": q.Lease}; failing == nil && !cmp.Equal(want, r.hidden) {
				t.Errorf("got leases %v, expected %v", r.hidden, want)
			}
			for _, when := range r.calls {
				at = append(at, when.Sub(start))
			}
			if diff := cmp.Diff([]time.Duration{0, 30 * time.Second, 60 * time.Second}, at); diff != "" {
				t.Errorf("lease calls with error %v (-want +got):\n%s", failing, diff)
			}
		}
	})
}

// silent answers no visibility call.
type silent struct{ recorder }

func (s *silent) ChangeMessageVisibilityBatch(ctx context.Context, _ *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	s.calls = append(s.calls, time.Now())
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestKeepGoesOnWhereACallIsNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(nil)
		s := &silent{}
		q.SQS, q.Lease = s, 90*time.Second
		stop := q.Keep(t.Context(), []events.SQSMessage{message(0, 1)})
		time.Sleep(q.Lease - time.Second)
		stop()
		if len(s.calls) != 3 {
			t.Errorf("%d calls within a lease, want 3", len(s.calls))
		}
	})
}

// refusingSome answers each visibility call with one refused entry.
type refusingSome struct{ recorder }

func (r *refusingSome) ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	return &sqs.ChangeMessageVisibilityBatchOutput{Failed: []types.BatchResultErrorEntry{{
		Id: aws.String("0"), Code: aws.String("ReceiptHandleIsInvalid"), Message: aws.String("old"),
	}}}, nil
}

func TestSettleSaysWhichDelayWasRefused(t *testing.T) {
	q, logs := newQueue(nil)
	q.SQS = &refusingSome{}
	q.Settle(t.Context(), []events.SQSMessage{message(0, 1)}, []error{errors.New("busy")})
	if !strings.Contains(logs.String(), "ReceiptHandleIsInvalid") {
		t.Errorf("log does not say that the delay was refused: %s", logs)
	}
}
