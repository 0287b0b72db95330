package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
)

// hangTime bounds waits that only end late when something is broken.
const hangTime = 2 * time.Minute

// inbox is a queue on a real SQS endpoint, and a client of it.
func inbox(t *testing.T, bodies ...string) (*sqs.Queue, *awssqs.Client) {
	t.Helper()
	s := sqs.New(sqs.Config{Region: "cn-north-1", Account: "000000000000"})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	queue, err := s.Create("inbox", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		if _, err := queue.Send(sqs.Message{Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	return queue, awssqs.New(awssqs.Options{
		Region: "cn-north-1", BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	})
}

type handler func(ctx context.Context, m events.SQSMessage) (stays bool, err error)

// start runs a worker and returns what ends it and returns its error.
func start(t *testing.T, w Worker, handle handler) (stop func() error) {
	t.Helper()
	var mu sync.Mutex
	var log bytes.Buffer
	w.Log = slog.New(slog.NewJSONHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil))
	w.Handle = func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		if len(e.Records) != 1 {
			t.Errorf("%d messages at once", len(e.Records))
		}
		stays, err := handle(ctx, e.Records[0])
		var r events.SQSEventResponse
		if stays {
			r.BatchItemFailures = []events.SQSBatchItemFailure{{ItemIdentifier: e.Records[0].MessageId}}
		}
		return r, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(hangTime):
			return errors.New("the worker did not end")
		}
	})
	t.Cleanup(func() {
		_ = stop()
		if t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			t.Logf("%s", &log)
		}
	})
	return stop
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(hangTime); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", hangTime, what)
		}
	}
}

func TestEveryMessageIsHandledAloneAndDeleted(t *testing.T) {
	var bodies []string
	for i := range 25 {
		bodies = append(bodies, fmt.Sprint("m", i))
	}
	queue, client := inbox(t, bodies...)
	var mu sync.Mutex
	seen := map[string]events.SQSMessage{}
	var at, most atomic.Int32
	stop := start(t, Worker{SQS: client, QueueURL: queue.URL(), Concurrency: 4}, func(_ context.Context, m events.SQSMessage) (bool, error) {
		if n := at.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer at.Add(-1)
		mu.Lock()
		defer mu.Unlock()
		seen[m.Body] = m
		return false, nil
	})
	eventually(t, "an empty queue", func() bool { return queue.Counts() == (sqs.Counts{}) })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if len(seen) != 25 || most.Load() > 4 {
		t.Errorf("%d messages seen, %d at once; expected 25, and at most 4", len(seen), most.Load())
	}
	if m := seen["m7"]; m.MessageId == "" || m.ReceiptHandle == "" || m.Attributes["ApproximateReceiveCount"] != "1" {
		t.Errorf("got %+v", m)
	}
}

// What the handler leaves, and what it fails on, is not deleted.
func TestWhatStays(t *testing.T) {
	queue, client := inbox(t, "stays", "fails", "goes")
	var handled atomic.Int32
	stop := start(t, Worker{SQS: client, QueueURL: queue.URL()}, func(_ context.Context, m events.SQSMessage) (bool, error) {
		defer handled.Add(1)
		if m.Body == "fails" {
			return false, errors.New("no")
		}
		return m.Body == "stays", nil
	})
	eventually(t, "three messages handled, one gone", func() bool { return handled.Load() == 3 && queue.Counts().InFlight == 2 })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if c := queue.Counts(); c.Visible+c.InFlight != 2 {
		t.Errorf("%+v left, expected two messages", c)
	}
}

// A stop lets what runs end, and deletes it then.
func TestStopLetsWorkEnd(t *testing.T) {
	queue, client := inbox(t, "one")
	begun, goOn := make(chan struct{}), make(chan struct{})
	stop := start(t, Worker{SQS: client, QueueURL: queue.URL()}, func(ctx context.Context, _ events.SQSMessage) (bool, error) {
		close(begun)
		<-goOn
		return false, ctx.Err()
	})
	<-begun
	ended := make(chan error)
	go func() { ended <- stop() }()
	select {
	case err := <-ended:
		t.Fatalf("the worker ended before its message: %v", err)
	case <-time.After(50 * time.Millisecond): // a wrong worker has ended by then, a slow one passes
	}
	close(goOn)
	if err := <-ended; err != nil || queue.Counts() != (sqs.Counts{}) {
		t.Errorf("got %v, and %+v left", err, queue.Counts())
	}
}

func TestGraceEnds(t *testing.T) {
	queue, client := inbox(t, "stuck")
	begun := make(chan struct{})
	stop := start(t, Worker{SQS: client, QueueURL: queue.URL(), Grace: time.Millisecond}, func(ctx context.Context, _ events.SQSMessage) (bool, error) {
		close(begun)
		<-ctx.Done()
		return true, nil
	})
	<-begun
	if err := stop(); err != nil {
		t.Error(err)
	}
	if queue.Counts().InFlight != 1 {
		t.Errorf("%+v: the message that was cut short is gone", queue.Counts())
	}
}

func TestAQueueThatIsNotThereIsAnError(t *testing.T) {
	_, client := inbox(t)
	w := Worker{SQS: client, QueueURL: "http://127.0.0.1/000000000000/other", Log: slog.New(slog.DiscardHandler)}
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "receive from http://127.0.0.1/000000000000/other") {
		t.Errorf("got %v", err)
	}
}

// flaky fails the second poll.
type flaky struct {
	*awssqs.Client
	polls atomic.Int32
}

func (f *flaky) ReceiveMessage(ctx context.Context, in *awssqs.ReceiveMessageInput, o ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	if f.polls.Add(1) == 2 {
		return nil, errors.New("not now")
	}
	return f.Client.ReceiveMessage(ctx, in, o...)
}

// silent answers no poll but the first.
type silent struct {
	SQS
	polls atomic.Int64
}

func (s *silent) ReceiveMessage(ctx context.Context, _ *awssqs.ReceiveMessageInput, _ ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	if s.polls.Add(1) > 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &awssqs.ReceiveMessageOutput{}, nil
}

func TestAPollThatIsNeverAnsweredIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &silent{}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		w := Worker{SQS: s, Log: slog.New(slog.DiscardHandler)}
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := s.polls.Load(); n < 10 {
			t.Errorf("%d polls in ten minutes", n)
		}
	})
}

func TestALaterPollIsTriedAgain(t *testing.T) {
	queue, client := inbox(t, "one")
	f := &flaky{Client: client}
	var handled atomic.Int32
	stop := start(t, Worker{SQS: f, QueueURL: queue.URL(), Concurrency: 1}, func(context.Context, events.SQSMessage) (bool, error) {
		if handled.Add(1) == 1 {
			if _, err := queue.Send(sqs.Message{Body: "two"}); err != nil {
				t.Error(err)
			}
		}
		return false, nil
	})
	eventually(t, "the second message", func() bool { return handled.Load() == 2 })
	if err := stop(); err != nil || f.polls.Load() < 3 {
		t.Errorf("got %v after %d polls", err, f.polls.Load())
	}
}
