package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/outbox"
)

// queue takes what refuse does not refuse.
type queue struct {
	refuse func(body string, try int) bool
	err    error
	silent bool // answers without a word about its messages

	mu    sync.Mutex
	tries map[string]int
	taken []string
	sizes []int
}

func (q *queue) SendMessageBatch(_ context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := &sqs.SendMessageBatchOutput{}
	bytes := 0
	for _, entry := range in.Entries {
		body := aws.ToString(entry.MessageBody)
		bytes += len(body)
		if q.err != nil || q.silent {
			continue
		}
		q.tries[body]++
		if q.refuse != nil && q.refuse(body, q.tries[body]) {
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: entry.Id, Code: aws.String("InternalError"), Message: aws.String("not now")})
			continue
		}
		q.taken = append(q.taken, body)
		out.Successful = append(out.Successful, types.SendMessageBatchResultEntry{Id: entry.Id})
	}
	if len(in.Entries) > 10 || bytes > 256<<10 {
		return nil, fmt.Errorf("%d entries of %d bytes are too much", len(in.Entries), bytes)
	}
	q.sizes = append(q.sizes, len(in.Entries))
	return out, q.err
}

func put(t *testing.T, q *queue, bodies ...string) ([]error, error) {
	t.Helper()
	q.tries = map[string]int{}
	messages := make([]outbox.Message, len(bodies))
	for i, body := range bodies {
		messages[i].Body = body
	}
	return (&outbox.Outbox{SQS: q, URL: "u"}).Put(t.Context(), messages)
}

func TestPut(t *testing.T) {
	for name, tc := range map[string]struct {
		bodies []string
		sizes  []int
	}{
		"none":             {nil, nil},
		"tens":             {numbered(23, ""), []int{3, 10, 10}},
		"at most 256 KiB":  {numbered(7, strings.Repeat("x", 60<<10)), []int{3, 4}},
		"one that is wide": {numbered(1, strings.Repeat("x", 255<<10)), []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			q := &queue{}
			errs, err := put(t, q, tc.bodies...)
			if err != nil || len(errs) != len(tc.bodies) || slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
				t.Fatalf("got %v and %v", err, errs)
			}
			slices.Sort(q.taken)
			slices.Sort(q.sizes)
			if diff := cmp.Diff(tc.bodies, q.taken); diff != "" {
				t.Error("not what was put")
			}
			if diff := cmp.Diff(tc.sizes, q.sizes); diff != "" {
				t.Errorf("calls of (-want +got):\n%s", diff)
			}
		})
	}
}

func numbered(n int, tail string) []string {
	var bodies []string
	for i := range n {
		bodies = append(bodies, fmt.Sprintf("%03d%s", i, tail))
	}
	return bodies
}

func TestWhatWasNotTakenIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{refuse: func(body string, try int) bool { return body == "001" && try < 4 || body == "002" }}
		errs, err := put(t, q, numbered(3, "")...)
		if errs[0] != nil || errs[1] != nil || errs[2] == nil || err == nil || !strings.Contains(err.Error(), "put 1 of 3 events into the outbox: InternalError: not now") {
			t.Errorf("got %v and %v", errs, err)
		}
		if diff := cmp.Diff([]string{"000", "001"}, q.taken); diff != "" {
			t.Errorf("each once (-want +got):\n%s", diff)
		}
	})
}

func TestNoAnswerIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		if errs, err := put(t, &queue{err: broken}, "a"); !errors.Is(errs[0], broken) || !errors.Is(err, broken) {
			t.Errorf("got %v and %v", errs, err)
		}
		if errs, err := put(t, &queue{silent: true}, "a"); errs[0] == nil || err == nil {
			t.Errorf("got %v and %v", errs, err)
		}
	})
}
