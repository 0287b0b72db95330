package status_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/localcloud/control"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/report"
	"github.com/s3ferry/s3ferry/internal/status"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// world is a sending side with its two queues.
type world struct {
	control         *control.Server
	outbox, letters *sqs.Queue
	asked           *status.Asked
	age             *float64 // of the outbox's oldest message, as CloudWatch tells
	fault           func(action string) *control.Error
	receipts        status.ReadReceipts
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{receipts: func(context.Context, time.Time, func(report.Receipt), ...wire.Outcome) (bool, error) {
		return false, nil
	}}
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { handler.ServeHTTP(rw, r) }))
	t.Cleanup(server.Close)
	queues := sqs.New(sqs.Config{Endpoint: server.URL, Region: "us-east-1", Account: "000000000000"})
	var err error
	if w.outbox, err = queues.Create("outbox", nil); err != nil {
		t.Fatal(err)
	}
	if w.letters, err = queues.Create("letters", nil); err != nil {
		t.Fatal(err)
	}
	w.control = control.New(control.Config{
		Region: "us-east-1", Account: "000000000000", SQS: queues,
		Metric: func(m control.Metric) (float64, bool) {
			if w.age == nil || m != (control.Metric{Namespace: "AWS/SQS", Name: "ApproximateAgeOfOldestMessage", Dimension: "outbox"}) {
				return 0, false
			}
			return *w.age, true
		},
		Fault: func(_, action string) *control.Error {
			if w.fault == nil {
				return nil
			}
			return w.fault(action)
		},
	})
	handler = w.control
	w.control.PutStack(control.Stack{Region: "us-east-1", Name: "GlobalSender", Status: "UPDATE_COMPLETE", Outputs: map[string]string{
		"OutboxUrl": w.outbox.URL(), "OutboxDeadLetterQueueUrl": w.letters.URL(), "SenderVersion": "v1.0.0",
	}})
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
	w.asked = status.NewSending(linking.Side{Profile: "p", Region: "us-east-1", Stack: "GlobalSender"}, cfg)
	return w
}

func (w *world) look(t *testing.T, why ...string) status.Report {
	t.Helper()
	return status.Look(t.Context(), func(context.Context) (*linking.Status, error) {
		return &linking.Status{Linked: len(why) == 0, Why: why}, nil
	}, w.receipts, w.asked)
}

func send(t *testing.T, q *sqs.Queue, n int) {
	t.Helper()
	for range n {
		if _, err := q.Send(sqs.Message{Body: "m"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHealthy(t *testing.T) {
	w := newWorld(t)
	r := w.look(t)
	if r.Health != status.Healthy || len(r.Why) != 0 || r.Sides[0].Status != "UPDATE_COMPLETE" || r.Sides[0].Deployed.IsZero() {
		t.Errorf("got %+v", r)
	}
	// What waits a while is no reason yet.
	send(t, w.outbox, 3)
	w.age = new(59.0 * 60)
	r = w.look(t)
	if q := r.Sides[0].Queues[0]; r.Health != status.Healthy || q.Waiting != 3 || q.Oldest == nil || *q.Oldest != *w.age {
		t.Errorf("with messages: got %+v", r)
	}
	// CloudWatch is late: it still tells of messages that are gone.
	w.outbox.Purge()
	if q := w.look(t).Sides[0].Queues[0]; q.Oldest != nil {
		t.Errorf("the oldest message of an empty queue is %g s old", *q.Oldest)
	}
}

func TestAttention(t *testing.T) {
	for name, tc := range map[string]struct {
		set  func(*world)
		why  []string // against the link
		want string
	}{
		"not linked":   {func(*world) {}, []string{"the link secret is empty"}, "the link secret is empty"},
		"dead letters": {func(w *world) { send(t, w.letters, 2) }, nil, "2 in the dead letters of the outbox: `s3ferry redrive --list`"},
		"age":          {func(w *world) { send(t, w.outbox, 1); w.age = new(3600.0) }, nil, "a message of the outbox is 1h0m0s old"},
		"alarm": {func(w *world) { w.asked.CloudWatch = ringing{w.asked.CloudWatch} }, nil,
			"alarm GlobalSender-SenderOutboxAgeAlarm6F1C-1ABCDEFGHIJK since 2026-11-24T00:00:00Z: s3ferry: events wait"},
	} {
		w := newWorld(t)
		tc.set(w)
		r := w.look(t, tc.why...)
		if r.Health != status.Attention || len(r.Why) != 1 || r.Why[0] != tc.want {
			t.Errorf("%s: got %s, %q, want %q", name, r.Health, r.Why, tc.want)
		}
		if name == "alarm" && r.Sides[0].Watching != 2 {
			t.Errorf("%d alarms are watched, want the 2 of this stack", r.Sides[0].Watching)
		}
	}
}

// A sender may not be ahead of its receiver, and that one may be ahead.
func TestVersions(t *testing.T) {
	for receiver, want := range map[string]status.Health{
		"v1.0.0": status.Healthy, "v1.1.0": status.Healthy, "": status.Healthy, "v0.9.0": status.Attention,
	} {
		w := newWorld(t)
		outputs := map[string]string{"InboxUrl": w.outbox.URL(), "InboxDeadLetterQueueUrl": w.letters.URL(), "ReceiptsUrl": w.outbox.URL()}
		if receiver != "" { // a stack of before it told its version
			outputs["ReceiverVersion"] = receiver
		}
		w.control.PutStack(control.Stack{Region: "cn-north-1", Name: "ChinaReceiver", Status: "UPDATE_COMPLETE", Outputs: outputs})
		cfg := w.asked.Config
		cfg.Region = "cn-north-1"
		china := status.NewReceiving(linking.Side{Profile: "p", Region: cfg.Region, Stack: "ChinaReceiver"}, cfg)
		r := status.Look(t.Context(), func(context.Context) (*linking.Status, error) { return &linking.Status{Linked: true}, nil }, w.receipts, w.asked, china)
		if r.Health != want || r.Sides[0].Version != "v1.0.0" || r.Sides[1].Version != receiver {
			t.Errorf("a receiver of %q: got %s, %q, and %+v", receiver, r.Health, r.Why, r.Sides)
		}
	}
}

// ringing has two alarms of the stack, of which one rings, and one that rings of
// a stack GlobalSender-EU.
type ringing struct{ status.CloudWatch }

func (ringing) DescribeAlarms(_ context.Context, in *cloudwatch.DescribeAlarmsInput, _ ...func(*cloudwatch.Options)) (*cloudwatch.DescribeAlarmsOutput, error) {
	if *in.AlarmNamePrefix != "GlobalSender-" {
		return &cloudwatch.DescribeAlarmsOutput{}, nil
	}
	return &cloudwatch.DescribeAlarmsOutput{MetricAlarms: []types.MetricAlarm{
		{AlarmName: aws.String("GlobalSender-EU-SenderOutboxAgeAlarm6F1C-5ABCDEFGHIJK"), StateValue: types.StateValueAlarm},
		{AlarmName: aws.String("GlobalSender-SenderSenderErrors1D2E-3ABCDEFGHIJK"), StateValue: types.StateValueOk},
		{
			AlarmName: aws.String("GlobalSender-SenderOutboxAgeAlarm6F1C-1ABCDEFGHIJK"), AlarmDescription: aws.String("s3ferry: events wait"), StateValue: types.StateValueAlarm,
			StateUpdatedTimestamp: aws.Time(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)),
		},
	}}, nil
}

// What cannot be asked is told, and the rest beside it.
func TestUnreachable(t *testing.T) {
	for action, want := range map[string]string{
		"GetCallerIdentity": "ask who it is", "DescribeStacks": "needs the permission cloudformation:DescribeStacks",
		"GetMetricData":  `profile "p": read the ages of queues`,
		"DescribeAlarms": "needs the permission cloudwatch:DescribeAlarms",
	} {
		w := newWorld(t)
		w.fault = func(got string) *control.Error {
			if got == action {
				return &control.Error{Code: "AccessDeniedException", Message: "no"}
			}
			return nil
		}
		r := w.look(t, "the link secret is empty")
		if r.Health != status.Unreachable || len(r.Why) != 2 || !strings.Contains(r.Why[0], want) || !strings.HasPrefix(r.Why[0], "sending: ") {
			t.Errorf("%s: got %s, %q, want %q", action, r.Health, r.Why, want)
		}
	}
	w := newWorld(t)
	r := status.Look(t.Context(), func(context.Context) (*linking.Status, error) { return nil, context.DeadlineExceeded }, w.receipts, w.asked)
	if r.Health != status.Unreachable || len(r.Why) != 1 || !strings.Contains(r.Why[0], "deadline") {
		t.Errorf("the link: got %+v", r)
	}
}

func TestReceipts(t *testing.T) {
	now := time.Now()
	of := func(outcomes ...wire.Outcome) status.ReadReceipts {
		return func(_ context.Context, since time.Time, keep func(report.Receipt), _ ...wire.Outcome) (bool, error) {
			keep(report.Receipt{ID: "old", At: since.Add(-time.Second), Outcome: wire.Failed})
			for i, outcome := range outcomes {
				id := fmt.Sprint(i)
				keep(report.Receipt{ID: id, Key: "k" + id, At: now.Add(-time.Duration(i) * time.Second), Outcome: outcome, Bytes: 10, Lag: 2 * time.Second})
			}
			return true, nil
		}
	}
	w := newWorld(t)
	w.receipts = of()
	if r := w.look(t); r.Health != status.Healthy || r.Receipts == nil || r.Receipts.Transfers != 0 {
		t.Errorf("none: got %+v", r.Receipts)
	}
	w.receipts = of(wire.Copied, wire.Copied, wire.Expired)
	r := w.look(t)
	if got := r.Receipts; r.Health != status.Healthy || got.Copied != 2 || got.Transfers != 3 || got.Bytes != 20 || got.Lag.P50 != 2 || got.Latest.Key != "k0" {
		t.Errorf("got %s, %+v", r.Health, got)
	}
	w.receipts = of(wire.Refused, wire.Copied, wire.Failed)
	if r := w.look(t); r.Health != status.Attention || len(r.Why) != 1 || !strings.HasPrefix(r.Why[0], "2 transfers of the last 10m0s were refused or failed") {
		t.Errorf("trouble: got %s, %q", r.Health, r.Why)
	}

	w.receipts = func(context.Context, time.Time, func(report.Receipt), ...wire.Outcome) (bool, error) {
		return true, errors.New("no")
	}
	if r := w.look(t); r.Health != status.Unreachable || !strings.Contains(r.Why[0], "read the receipts of the last 10m0s: no") {
		t.Errorf("unread: got %s, %q", r.Health, r.Why)
	}
}
