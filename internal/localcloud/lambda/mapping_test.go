package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/localcloud/lambda"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
)

type invokerFunc func(payload []byte) ([]byte, error)

func (f invokerFunc) Invoke(_ context.Context, payload []byte) ([]byte, error) { return f(payload) }

// handler is an Invoker that decodes the event.
func handler(t *testing.T, f func(events.SQSEvent) (string, error)) invokerFunc {
	return func(payload []byte) ([]byte, error) {
		var event events.SQSEvent
		if err := json.Unmarshal(payload, &event); err != nil {
			t.Error(err)
		}
		response, err := f(event)
		return []byte(response), err
	}
}

func newQueue(t *testing.T) *sqs.Queue {
	t.Helper()
	q, err := sqs.New(sqs.Config{Endpoint: "http://x", Region: "us-east-1", Account: "000000000000"}).
		Create("inbox", map[string]string{"VisibilityTimeout": "60"})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func put(t *testing.T, q *sqs.Queue, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if _, err := q.Send(sqs.Message{Body: body}); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs m until all is quiet, then ends it.
func run(t *testing.T, m lambda.Mapping, during func()) {
	t.Helper()
	m.Log, m.Region = slog.New(slog.DiscardHandler), "us-east-1"
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	synctest.Wait()
	during()
	cancel()
	wg.Wait()
}

func TestMappingEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		id, err := q.Send(sqs.Message{Body: "b", Attributes: map[string]sqs.Attribute{
			"why": {DataType: "String", StringValue: new("坏")}, "raw": {DataType: "Binary", BinaryValue: []byte{1}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		var got events.SQSEvent
		run(t, lambda.Mapping{Queue: q, Function: handler(t, func(e events.SQSEvent) (string, error) { got = e; return "", nil })}, func() {})
		now := fmt.Sprint(time.Now().UnixMilli())
		want := events.SQSEvent{Records: []events.SQSMessage{{
			MessageId: id, Body: "b", Md5OfBody: "92eb5ffee6ae2fec3ad71c777531578f",
			Md5OfMessageAttributes: "23cddb7e810ba1e4c2036d815aa0963f",
			ReceiptHandle:          got.Records[0].ReceiptHandle, EventSource: "aws:sqs",
			EventSourceARN: "arn:aws:sqs:us-east-1:000000000000:inbox", AWSRegion: "us-east-1",
			Attributes: map[string]string{
				"ApproximateReceiveCount": "1", "SenderId": "000000000000", "SentTimestamp": now, "ApproximateFirstReceiveTimestamp": now,
			},
			MessageAttributes: map[string]events.SQSMessageAttribute{
				"why": {DataType: "String", StringValue: new("坏"), StringListValues: []string{}, BinaryListValues: [][]byte{}},
				"raw": {DataType: "Binary", BinaryValue: []byte{1}, StringListValues: []string{}, BinaryListValues: [][]byte{}},
			},
		}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
		if q.Counts() != (sqs.Counts{}) {
			t.Errorf("%+v left", q.Counts())
		}
	})
}

func TestMappingDeletesWhatIsSettled(t *testing.T) {
	for name, tc := range map[string]struct {
		respond func(events.SQSEvent) (string, error)
		left    int
	}{
		"no answer":   {func(events.SQSEvent) (string, error) { return "", nil }, 0},
		"null":        {func(events.SQSEvent) (string, error) { return "null", nil }, 0},
		"no failures": {func(events.SQSEvent) (string, error) { return `{"batchItemFailures":[]}`, nil }, 0},
		"one failure": {func(e events.SQSEvent) (string, error) {
			return fmt.Sprintf(`{"batchItemFailures":[{"itemIdentifier":%q}]}`, e.Records[1].MessageId), nil
		}, 1},
		"an unknown failure": {func(events.SQSEvent) (string, error) {
			return `{"batchItemFailures":[{"itemIdentifier":"someone else"}]}`, nil
		}, 3},
		"a nameless failure": {func(events.SQSEvent) (string, error) { return `{"batchItemFailures":[{"id":"x"}]}`, nil }, 3},
		"no JSON":            {func(events.SQSEvent) (string, error) { return `{`, nil }, 3},
		"an error":           {func(events.SQSEvent) (string, error) { return "", errors.New("crashed") }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t)
				put(t, q, "a", "b", "c")
				run(t, lambda.Mapping{Queue: q, Function: handler(t, tc.respond)}, func() {
					if got := (q.Counts()); got != (sqs.Counts{InFlight: tc.left}) {
						t.Errorf("%+v left, want %d in flight", got, tc.left)
					}
				})
			})
		})
	}
}

func TestMappingRetriesAfterTheVisibilityTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		put(t, q, "m")
		var times []time.Time
		var counts []string
		run(t, lambda.Mapping{Queue: q, Function: handler(t, func(e events.SQSEvent) (string, error) {
			times, counts = append(times, time.Now()), append(counts, e.Records[0].Attributes["ApproximateReceiveCount"])
			if len(times) == 1 {
				return "", errors.New("not now")
			}
			return "", nil
		})}, func() { time.Sleep(5 * time.Minute) })
		if diff := cmp.Diff([]string{"1", "2"}, counts); diff != "" {
			t.Fatalf("receive counts (-want +got):\n%s", diff)
		}
		if got := times[1].Sub(times[0]); got != time.Minute {
			t.Errorf("tried again after %v, want the queue's minute", got)
		}
	})
}

func TestMappingBatchesAndConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		for i := range 45 {
			put(t, q, fmt.Sprint(i))
		}
		var (
			mu            sync.Mutex
			running, most int
			sizes         []int
			took          time.Duration
			start         = time.Now()
		)
		run(t, lambda.Mapping{Queue: q, Concurrency: 2, Function: handler(t, func(e events.SQSEvent) (string, error) {
			mu.Lock()
			running++
			most, sizes = max(most, running), append(sizes, len(e.Records))
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			took = time.Since(start)
			mu.Unlock()
			return "", nil
		})}, func() {
			for q.Counts() != (sqs.Counts{}) {
				time.Sleep(100 * time.Millisecond)
			}
		})
		if diff := cmp.Diff([]int{10, 10, 10, 10, 5}, sizes); diff != "" || most != 2 {
			t.Errorf("%d at once, batches (-want +got):\n%s", most, diff)
		}
		if took != 3*time.Second {
			t.Errorf("five batches, two at once, took %v, want 3s", took)
		}
	})
}

func TestMappingWindowCollects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		var sizes []int
		run(t, lambda.Mapping{Queue: q, Window: 2 * time.Second, Function: handler(t, func(e events.SQSEvent) (string, error) {
			sizes = append(sizes, len(e.Records))
			return "", nil
		})}, func() {
			for range 5 { // at 0, 1, 2, 3 and 4 s
				put(t, q, "m")
				time.Sleep(time.Second)
				synctest.Wait()
			}
			time.Sleep(10 * time.Second)
		})
		total := 0
		for _, n := range sizes {
			total += n
		}
		if total != 5 || len(sizes) > 3 {
			t.Errorf("five messages came in batches of %v, want at most three", sizes)
		}
	})
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []events.CloudWatchEvent
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		lambda.Schedule{
			Name: "courier", Interval: 2 * time.Second, Region: "us-east-1", Account: "000000000000", Log: slog.New(slog.DiscardHandler),
			Function: invokerFunc(func(payload []byte) ([]byte, error) {
				var e events.CloudWatchEvent
				err := json.Unmarshal(payload, &e)
				got = append(got, e)
				return nil, err
			}),
		}.Run(ctx)
		if len(got) != 3 {
			t.Fatalf("%d invocations in 7 s, want 3", len(got))
		}
		if e := got[0]; e.DetailType != "Scheduled Event" || e.Source != "aws.events" || e.Resources[0] != "arn:aws:events:us-east-1:000000000000:rule/courier" {
			t.Errorf("event %+v", e)
		}
	})
}
