package receiver_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/receiver"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// PutSegment answers like Put.
func (e *engine) PutSegment(_ context.Context, t *wire.Transfer, segment int) (transfer.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.segments = append(e.segments, segment)
	e.urls = append(e.urls, t.URL.Reveal())
	a := e.answers[t.Source.Key]
	return a.result, a.err
}

// asSegment marks the i-th message of event as a segment.
func asSegment(event events.SQSEvent, i int, index string) {
	event.Records[i].MessageAttributes = map[string]events.SQSMessageAttribute{
		receiver.SegmentAttribute: {DataType: "Number", StringValue: aws.String(index)},
	}
}

// inbox returns what was sent there: the segment of each message, "" for a whole.
func (b *bench) inbox() []string {
	var sent []string
	for _, m := range b.queues.sent["inbox"] {
		sent = append(sent, aws.ToString(m.MessageAttributes[receiver.SegmentAttribute].StringValue))
	}
	slices.Sort(sent)
	return sent
}

func TestSegmentsAreSentBeforeTheWholeIsAcknowledged(t *testing.T) {
	b := newBench(map[string]answer{"k": {result: transfer.Result{Segments: []int{0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13}}}})
	body := signed(t, "k", nil)
	b.queues.refuse = body[:20]
	if failed := b.handle(t, batch(body)); len(failed) != 1 {
		t.Error("the message was acknowledged although nobody carries its segments")
	}
	b.queues.refuse = ""
	if failed := b.handle(t, batch(body)); len(failed) > 0 {
		t.Error("the message was not acknowledged")
	}
	want := []string{"0", "11", "12", "13", "2", "3", "4", "5", "6", "7", "8", "9"}
	if diff := cmp.Diff(want, b.inbox()); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	for _, m := range b.queues.sent["inbox"] {
		if *m.MessageBody != body {
			t.Error("a segment is another message")
		}
	}
	if len(b.receipts(t)) > 0 {
		t.Error("a transfer that goes on got a receipt")
	}
}

func TestASegmentIsCarriedByItself(t *testing.T) {
	b := newBench(map[string]answer{"k": {result: transfer.Result{Segments: []int{transfer.Whole}}}})
	// Its parts may all be there, so that its URL does not matter.
	event := batch(signed(t, "k", func(t *wire.Transfer) { t.NotAfter = time.Now().Add(-time.Hour).UTC().Truncate(time.Second) }))
	asSegment(event, 0, "7")
	if failed := b.handle(t, event); len(failed) > 0 || !slices.Equal(b.engine.segments, []int{7}) || len(b.engine.puts) > 0 {
		t.Errorf("got failures %v, segments %v, puts %v", failed, b.engine.segments, b.engine.puts)
	}
	if diff := cmp.Diff([]string{""}, b.inbox()); diff != "" {
		t.Errorf("the whole again (-want +got):\n%s", diff)
	}
}

func TestAnUnfinishedSegmentGoesOnAsOne(t *testing.T) {
	b := newBench(map[string]answer{"k": {err: &transfer.Unfinished{Parts: 1, Remaining: 1}}})
	event := batch(signed(t, "k", nil))
	asSegment(event, 0, "7")
	b.handle(t, event)
	if diff := cmp.Diff([]string{"7"}, b.inbox()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestASegmentsLastTryStartsOver(t *testing.T) {
	b := newBench(map[string]answer{"k": {err: fault.Transientf("destination-busy", "503")}})
	for _, down := range []bool{false, true} {
		event := batch(signed(t, "k", nil))
		asSegment(event, 0, "7")
		event.Records[0].Attributes["ApproximateReceiveCount"] = "19"
		if down {
			b.queues.sendErr = errors.New("SQS is down")
		}
		if failed := b.handle(t, event); (len(failed) == 1) != down {
			t.Errorf("down %v: got failures %v", down, failed)
		}
	}
	if diff := cmp.Diff([]string{"7"}, b.inbox()); diff != "" || len(b.receipts(t)) > 0 || len(b.dead()) > 0 {
		t.Errorf("the segment again (-want +got):\n%s\nreceipts %v, dead letters %v, want none", diff, b.receipts(t), b.dead())
	}
}

func TestASegmentThatIsNoNumberIsADeadLetter(t *testing.T) {
	for _, index := range []string{"-1", "x", ""} {
		b := newBench(nil)
		event := batch(signed(t, "k", nil))
		asSegment(event, 0, index)
		if failed := b.handle(t, event); len(failed) > 0 || len(b.queues.sent["dead"]) != 1 || len(b.engine.segments) > 0 {
			t.Errorf("%q: got failures %v, dead letters %v", index, failed, b.queues.sent["dead"])
		}
	}
}

func TestOneSegmentOfABatchIsCarriedHere(t *testing.T) {
	for _, tc := range []struct {
		receives []string // of segments 0, 1, ...
		here     []int
		back     []string
	}{
		{[]string{"1"}, []int{0}, nil},
		{[]string{"1", "1", "1"}, []int{0}, []string{"1", "2"}},
		{[]string{"1", "3", "2"}, []int{1, 2}, []string{"0"}},
	} {
		b := newBench(map[string]answer{"k": {}})
		bodies := slices.Repeat([]string{signed(t, "k", nil)}, len(tc.receives)+1)
		bodies[len(tc.receives)] = signed(t, "small", nil)
		event := batch(bodies...)
		for i, receives := range tc.receives {
			asSegment(event, i, string(rune('0'+i)))
			event.Records[i].Attributes["ApproximateReceiveCount"] = receives
		}
		if failed := b.handle(t, event); len(failed) > 0 {
			t.Errorf("%v: failed %v", tc.receives, failed)
		}
		slices.Sort(b.engine.segments)
		if diff := cmp.Diff(tc.here, b.engine.segments); diff != "" {
			t.Errorf("%v: carried here (-want +got):\n%s", tc.receives, diff)
		}
		if diff := cmp.Diff(tc.back, b.inbox()); diff != "" {
			t.Errorf("%v: put back (-want +got):\n%s", tc.receives, diff)
		}
		if len(b.queues.deleted) != len(tc.back) {
			t.Errorf("%v: deleted %v, want each that was put back", tc.receives, b.queues.deleted)
		}
		if _, ok := b.engine.puts["small"]; !ok {
			t.Error("what is no segment was put back")
		}
	}
}

func TestASegmentThatCannotBePutBackStays(t *testing.T) {
	b := newBench(map[string]answer{"k": {}})
	b.queues.sendErr = errors.New("SQS is down")
	event := batch(slices.Repeat([]string{signed(t, "k", nil)}, 2)...)
	asSegment(event, 0, "0")
	asSegment(event, 1, "1")
	if failed := b.handle(t, event); !slices.Equal(failed, []string{"m1"}) || len(b.queues.deleted) > 0 {
		t.Errorf("got failures %v, deleted %v, want m1 to be tried again", failed, b.queues.deleted)
	}
}

func TestWhatIsToldIsToldBeforeTheJournalForgets(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error // of the engine
		refuse string
		forget error
		told   bool
		failed int
		dead   int
	}{
		"receipt sent":          {nil, "", nil, true, 0, 0},
		"receipt not sent":      {nil, `"gone"`, nil, false, 1, 0},
		"forget fails for now":  {nil, "", fault.Transientf("journal-busy", "503"), true, 1, 0},
		"forget is denied":      {nil, "", fault.Permanentf("journal-denied", "403"), true, 0, 0},
		"dead letter":           {fault.Permanentf("source-denied", "403"), "", nil, true, 0, 1},
		"dead letter not told":  {fault.Permanentf("source-denied", "403"), `"failed"`, nil, false, 1, 0},
		"dead letter forgotten": {fault.Permanentf("source-denied", "403"), "", errors.New("503"), true, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(nil)
			told := false
			result := transfer.Result{Told: func(context.Context) error {
				told = true
				if len(b.receipts(t)) != 1 {
					t.Error("the receipt was not there yet")
				}
				if len(b.queues.sent["dead"]) != tc.dead {
					t.Error("the dead letter was not there yet")
				}
				return tc.forget
			}}
			if tc.err == nil {
				result.Outcome = wire.Gone
			}
			b.engine.answers = map[string]answer{"k": {result: result, err: tc.err}}
			b.queues.refuse = tc.refuse
			event := batch(signed(t, "k", nil))
			asSegment(event, 0, "0")
			failed := b.handle(t, event)
			if told != tc.told || len(failed) != tc.failed || len(b.queues.sent["dead"]) != tc.dead {
				t.Errorf("told %v, %d failed, %d dead letters, want %v, %d, %d", told, len(failed), len(b.queues.sent["dead"]), tc.told, tc.failed, tc.dead)
			}
		})
	}
}
