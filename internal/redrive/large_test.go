package redrive_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/redrive"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// far is a dead-letter queue far away, in virtual time.
type far struct {
	again int // how often each batch comes again before the next one

	mu      sync.Mutex
	letters []*farLetter
	handles map[string]*farLetter
	last    []*farLetter
	left    int // of again
}

type farLetter struct {
	id, handle, body string
	shows            time.Time
}

func newFar(n int) *far {
	f := &far{handles: map[string]*farLetter{}}
	for i := range n {
		f.letters = append(f.letters, &farLetter{id: strconv.Itoa(i), body: event.Encode(wire.OpPut, source(fmt.Sprintf("k%06d", i)))})
	}
	return f
}

// call takes a call's time.
func call(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const latency = 250 * time.Millisecond

func (f *far) take(visibility time.Duration) (out []types.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left < 0 || len(f.last) == 0 {
		f.last, f.left = nil, f.again
		for _, l := range f.letters {
			if len(f.last) < 10 && !l.shows.After(time.Now()) {
				f.last = append(f.last, l)
			}
		}
	}
	for _, l := range f.last {
		delete(f.handles, l.handle)
		l.handle, l.shows = l.handle+"x", time.Now().Add(visibility)
		f.handles[l.id+l.handle] = l
		out = append(out, types.Message{MessageId: &l.id, ReceiptHandle: aws.String(l.id + l.handle), Body: &l.body})
	}
	return out
}

func (f *far) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	err := call(ctx, latency)
	out := &sqs.ReceiveMessageOutput{Messages: f.take(time.Duration(in.VisibilityTimeout) * time.Second)}
	if len(out.Messages) == 0 && err == nil {
		err = call(ctx, time.Duration(in.WaitTimeSeconds)*time.Second)
	}
	return out, err
}

func (f *far) DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	panic("never asked")
}

func (f *far) ChangeMessageVisibilityBatch(ctx context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	if err := call(ctx, latency); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, entry := range in.Entries {
		if l := f.handles[*entry.ReceiptHandle]; l != nil {
			l.shows = time.Now()
		}
	}
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

func (f *far) visible() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.letters {
		if !l.shows.After(time.Now()) {
			n++
		}
	}
	return n
}

func (f *far) GetQueueAttributes(ctx context.Context, _ *sqs.GetQueueAttributesInput, _ ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	n := f.visible()
	return &sqs.GetQueueAttributesOutput{Attributes: map[string]string{
		"ApproximateNumberOfMessages": strconv.Itoa(n), "ApproximateNumberOfMessagesNotVisible": strconv.Itoa(len(f.letters) - n),
	}}, call(ctx, latency)
}

func (f *far) list(ctx context.Context) (redrive.Summary, error) {
	return redrive.Run(ctx, []redrive.Queue{{Name: "outbox", SQS: f, Read: redrive.Events}}, redrive.Options{})
}

// However many letters there are, those that stay show again.
func TestManyLettersAreShownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := newFar(10_000)
		summary, err := queue.list(t.Context())
		if err != nil || summary[redrive.Listed] != 10_000 || queue.visible() != 10_000 {
			t.Errorf("got %v and %v, %d are visible", summary, err, queue.visible())
		}
	})
}

// An operator who wants to stop does not wait for all of them.
func TestManyLettersAndAnInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := newFar(10_000)
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(14*time.Second, interrupt)
		begin := time.Now()
		summary, err := queue.list(ctx)
		if took := time.Since(begin); !errors.Is(err, context.Canceled) || took > 30*time.Second {
			t.Errorf("got %v and %v after %s", summary, err, took)
		}
		if n := queue.visible(); n < 5000 {
			t.Errorf("%d are visible", n)
		}
	})
}

// Letters that come again do not hide those that did not come yet.
func TestLettersThatComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := newFar(500)
		queue.again = 4
		summary, err := queue.list(t.Context())
		if err != nil || summary[redrive.Listed] != 500 || queue.visible() != 500 {
			t.Errorf("got %v and %v, %d are visible", summary, err, queue.visible())
		}
	})
}

// Whoever else holds letters, or SQS, which hides 120,000 at most and then gives
// none without a word, does not make a run look complete.
func TestHiddenLettersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := newFar(50)
		if n := len(queue.take(time.Hour)); n != 10 {
			t.Fatalf("hid %d", n)
		}
		queue.left = 0
		summary, err := queue.list(t.Context())
		if err == nil || !strings.Contains(err.Error(), "redrive the outbox: 10 letters were hidden or not looked at: run it again") || summary[redrive.Listed] != 40 {
			t.Errorf("got %v and %v", summary, err)
		}
	})
}

// What EventBridge could not put into the outbox says why in its own words, which
// end with the letter.
func TestLettersOfEventBridge(t *testing.T) {
	queue := newLetters(t)
	queue.add(t, event.Encode(wire.OpPut, source("a")), map[string]string{
		"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "no access to the key", "RULE_ARN": "arn", "TARGET_ARN": "arn",
		"EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts", "RETRY_ATTEMPTS": "185", "theirs": "kept",
	})
	to := &sink{}
	var got redrive.Letter
	_, err := redrive.Run(t.Context(), []redrive.Queue{{Name: "outbox", SQS: queue, URL: queue.url, Read: redrive.Events}}, redrive.Options{
		Outbox: to, Found: func(l redrive.Letter) error { got = l; return nil },
	})
	if err != nil || got.Class != "NO_PERMISSIONS" || got.Reason != "no access to the key" {
		t.Errorf("got %+v and %v", got, err)
	}
	if len(to.taken) != 1 || len(to.taken[0].Attributes) != 1 || to.taken[0].Attributes["theirs"].StringValue == nil {
		t.Errorf("put %+v", to.taken)
	}
}
