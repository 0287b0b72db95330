package sqs_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
)

// disturbed runs f in virtual time with a queue of ten messages that hides what
// is received for a minute.
func disturbed(t *testing.T, f func(t *testing.T, q *sqs.Queue, random *rand.Rand)) {
	synctest.Test(t, func(t *testing.T) {
		q, err := newServer().Create("q", map[string]string{"VisibilityTimeout": "60"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if _, err := q.Send(sqs.Message{Body: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		f(t, q, rand.New(rand.NewPCG(1, 2)))
	})
}

func bodies(t *testing.T, q *sqs.Queue) (got []string) {
	for {
		batch := q.Receive(t.Context(), sqs.ReceiveOptions{Max: 10})
		for _, m := range batch {
			got = append(got, m.Body)
		}
		if len(batch) == 0 {
			return got
		}
	}
}

func TestRedeliver(t *testing.T) {
	disturbed(t, func(t *testing.T, q *sqs.Queue, random *rand.Rand) {
		if n := q.Redeliver(random, 3); n != 0 {
			t.Errorf("%d messages were in flight", n)
		}
		bodies(t, q)
		if n := q.Redeliver(random, 3); n != 3 {
			t.Errorf("met %d messages", n)
		}
		again := q.Receive(t.Context(), sqs.ReceiveOptions{Max: 10})
		if len(again) != 3 || again[0].System["ApproximateReceiveCount"] != "2" {
			t.Errorf("got %v", again)
		}
	})
}

func TestDuplicate(t *testing.T) {
	disturbed(t, func(t *testing.T, q *sqs.Queue, random *rand.Rand) {
		if n := q.Duplicate(random, 4, time.Second); n != 4 {
			t.Errorf("met %d messages", n)
		}
		time.Sleep(2 * time.Second)
		got := bodies(t, q)
		slices.Sort(got)
		if len(got) != 14 || len(slices.Compact(got)) != 10 {
			t.Errorf("got %v", got)
		}
	})
}

func TestScatter(t *testing.T) {
	disturbed(t, func(t *testing.T, q *sqs.Queue, random *rand.Rand) {
		q.Purge()
		first, second := q.Scatter(random, 3, time.Second), q.Scatter(random, 6, time.Second)
		for i := range 10 {
			if _, err := q.Send(sqs.Message{Body: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if first() != 3 || second() != 6 {
			t.Errorf("met %d and %d messages", first(), second())
		}
		if got := bodies(t, q); len(got) != 1 || got[0] != "9" {
			t.Errorf("got %v at once, want the last alone", got)
		}
		time.Sleep(time.Second)
		if got := bodies(t, q); len(got) != 9 || slices.IsSorted(got) {
			t.Errorf("got %v", got)
		}
	})
}

func TestPassAndIdle(t *testing.T) {
	disturbed(t, func(t *testing.T, q *sqs.Queue, _ *rand.Rand) {
		if idle, _ := q.Idle(); idle {
			t.Error("idle with ten messages")
		}
		first := q.Receive(t.Context(), sqs.ReceiveOptions{Max: 1})[0]
		time.Sleep(10 * time.Second)
		rest := bodies(t, q)
		if idle, wait := q.Idle(); !idle || wait != 50*time.Second {
			t.Errorf("idle %v for %v, want 50s", idle, wait)
		}
		if n := q.Pass(50 * time.Second); n != 10 {
			t.Errorf("met %d messages", n)
		}
		if got := bodies(t, q); len(got) != 1 || got[0] != first.Body || len(rest) != 9 {
			t.Errorf("got %v, want only %s", got, first.Body)
		}
		q.Purge()
		if idle, wait := q.Idle(); !idle || wait != 0 {
			t.Errorf("an empty queue is idle %v for %v", idle, wait)
		}
	})
}
