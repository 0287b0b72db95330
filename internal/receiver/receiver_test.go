package receiver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/metric/metrictest"
	"github.com/s3ferry/s3ferry/internal/receiver"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var key = wire.SigningKey{ID: "k1", Key: secret.New(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, ed25519.SeedSize)))}

// engine answers by the key of the object.
type engine struct {
	mu      sync.Mutex
	answers map[string]answer
	puts    map[string]bool // by key: whether it was called redelivered
	urls    []string

	segments []int // carried by PutSegment
	deleted  []string
	hang     string          // the key of a Put that lasts until its time is over
	tagged   map[string]bool // by key: whether it was called redelivered
}

type answer struct {
	result transfer.Result
	err    error
}

func (e *engine) Put(ctx context.Context, t *wire.Transfer, redelivered bool) (transfer.Result, error) {
	if e.hang != "" && e.hang == t.Source.Key {
		<-ctx.Done()
		return transfer.Result{}, &transfer.Unfinished{Err: ctx.Err()}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.puts[t.Source.Key] = redelivered
	e.urls = append(e.urls, t.URL.Reveal())
	a := e.answers[t.Source.Key]
	return a.result, a.err
}

func (e *engine) Delete(_ context.Context, t *wire.Transfer) (transfer.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deleted = append(e.deleted, t.Source.Key)
	a := e.answers[t.Source.Key]
	return a.result, a.err
}

func (e *engine) Tag(_ context.Context, t *wire.Transfer, redelivered bool) (transfer.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tagged[t.Source.Key] = redelivered
	e.urls = append(e.urls, t.URL.Reveal())
	a := e.answers[t.Source.Key]
	return a.result, a.err
}

type guardFunc func(*wire.Transfer) (secret.String, error)

func (g guardFunc) Rebuild(t *wire.Transfer) (secret.String, error) { return g(t) }

// queues records what is sent where.
type queues struct {
	mu      sync.Mutex
	sent    map[string][]*sqs.SendMessageInput // by queue URL
	hidden  map[string]int32                   // by receipt handle, the last visibility set
	refuse  string                             // a receipt with this text in it is refused
	sendErr error
	deleted []string // receipt handles
}

func (q *queues) SendMessage(_ context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sendErr != nil {
		return nil, q.sendErr
	}
	q.sent[*in.QueueUrl] = append(q.sent[*in.QueueUrl], in)
	return &sqs.SendMessageOutput{}, nil
}

func (q *queues) DeleteMessage(_ context.Context, in *sqs.DeleteMessageInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deleted = append(q.deleted, *in.ReceiptHandle)
	return &sqs.DeleteMessageOutput{}, nil
}

func (q *queues) SendMessageBatch(_ context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(in.Entries) > 10 {
		return nil, errors.New("TooManyEntriesInBatchRequest")
	}
	out := &sqs.SendMessageBatchOutput{}
	for _, e := range in.Entries {
		if q.refuse != "" && strings.Contains(*e.MessageBody, q.refuse) {
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, Code: aws.String("InternalError")})
			continue
		}
		q.sent[*in.QueueUrl] = append(q.sent[*in.QueueUrl], &sqs.SendMessageInput{MessageBody: e.MessageBody, MessageAttributes: e.MessageAttributes})
	}
	return out, nil
}

func (q *queues) ChangeMessageVisibilityBatch(_ context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range in.Entries {
		q.hidden[*e.ReceiptHandle] = e.VisibilityTimeout
	}
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

type bench struct {
	engine *engine
	queues *queues
	trust  link.Trust
	reads  int
	log    bytes.Buffer
	*receiver.Receiver
}

func newBench(answers map[string]answer) *bench {
	b := &bench{
		engine: &engine{answers: answers, puts: map[string]bool{}, tagged: map[string]bool{}},
		queues: &queues{sent: map[string][]*sqs.SendMessageInput{}, hidden: map[string]int32{}},
		trust: link.Trust{
			Keys:    wire.PublicKeys{key.ID: key.Key.Reveal().Public().(ed25519.PublicKey)},
			Sources: []link.Source{{Bucket: "source", Region: "us-east-1"}},
		},
	}
	logger := slog.New(slog.NewJSONHandler(&b.log, nil))
	b.Receiver = &receiver.Receiver{
		Engine: b.engine, MaxReceives: 20,
		Guard: guardFunc(func(t *wire.Transfer) (secret.String, error) {
			if strings.Contains(t.URL.Reveal(), "evil") {
				return secret.String{}, fault.Permanentf("url-refused", "got host evil, expected another")
			}
			return secret.New("rebuilt"), nil
		}),
		Trust: &link.Cache[link.Trust]{Life: time.Hour, Fetch: func(context.Context) (link.Trust, error) {
			b.reads++
			return b.trust, nil
		}},
		Inbox:       &settle.Queue{SQS: b.queues, URL: "inbox", DeadLetterURL: "dead", Log: logger},
		SQS:         b.queues,
		ReceiptsURL: "receipts",
		Log:         logger,
		Name:        "stack-Receiver",
	}
	return b
}

func signed(t *testing.T, name string, change func(*wire.Transfer)) string {
	t.Helper()
	transfer := &wire.Transfer{
		Op: wire.OpPut,
		Source: wire.Source{
			Region: "us-east-1", Bucket: "source", Key: name, ETag: "abc", Size: 5, Sequencer: "0A",
			EventTime: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC),
		},
		URL:      secret.New("https://source/" + name + "?X-Amz-Signature=topsecret"),
		NotAfter: time.Now().Add(time.Hour).UTC().Truncate(time.Second),
	}
	if change != nil {
		change(transfer)
	}
	transfer.ID = wire.ID(transfer.Op, transfer.Source)
	message, err := wire.Sign(transfer, key)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func batch(bodies ...string) events.SQSEvent {
	var event events.SQSEvent
	for i, body := range bodies {
		event.Records = append(event.Records, events.SQSMessage{
			MessageId: "m" + strconv.Itoa(i), ReceiptHandle: "h" + strconv.Itoa(i), Body: body,
			Attributes: map[string]string{"ApproximateReceiveCount": "1"},
		})
	}
	return event
}

func (b *bench) handle(t *testing.T, event events.SQSEvent) (failed []string) {
	t.Helper()
	response, err := b.Handle(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range response.BatchItemFailures {
		failed = append(failed, f.ItemIdentifier)
	}
	return failed
}

func (b *bench) receipts(t *testing.T) map[string]wire.Receipt {
	t.Helper()
	byKey := map[string]wire.Receipt{}
	for _, m := range b.queues.sent["receipts"] {
		r, err := wire.DecodeReceipt(*m.MessageBody)
		if err != nil {
			t.Fatal(err)
		}
		byKey[r.Source.Key] = r
	}
	return byKey
}

// dead returns the classes of the dead letters, sorted.
func (b *bench) dead() (classes []string) {
	for _, m := range b.queues.sent["dead"] {
		classes = append(classes, *m.MessageAttributes[settle.ClassAttribute].StringValue)
	}
	slices.Sort(classes)
	return classes
}

func TestEveryOutcomeHasItsReceipt(t *testing.T) {
	outcomes := []wire.Outcome{wire.Copied, wire.Skipped, wire.Superseded, wire.Gone, wire.Expired}
	answers := map[string]answer{}
	var bodies []string
	for _, o := range outcomes {
		a := answer{result: transfer.Result{Outcome: o}}
		if o == wire.Copied {
			a.result.Bytes, a.result.Verified = 5, wire.ByFullObject
		}
		answers[string(o)] = a
		bodies = append(bodies, signed(t, string(o), nil))
	}
	b := newBench(answers)
	if failed := b.handle(t, batch(bodies...)); len(failed) > 0 {
		t.Errorf("got failures %v", failed)
	}
	receipts := b.receipts(t)
	for _, o := range outcomes {
		if r := receipts[string(o)]; r.Outcome != o || r.Attempts != 1 {
			t.Errorf("got receipt %+v, want outcome %s", r, o)
		}
	}
	measured, _ := metrictest.Read(t, b.log.String(), "stack-Receiver")
	for _, o := range outcomes {
		if got := measured[metric.Outcome(string(o)).Name+" in Count"]; !cmp.Equal(got, []float64{1}) {
			t.Errorf("measured %v of %s, expected 1", got, o)
		}
	}
	if memory := measured["Memory in Bytes"]; len(memory) != 1 || memory[0] < 1<<20 || memory[0] > 1<<40 {
		t.Errorf("measured memory %v", memory)
	}
	if !cmp.Equal(measured["Bytes in Bytes"], []float64{5}) {
		t.Errorf("measured bytes %v, expected those of the one object copied", measured["Bytes in Bytes"])
	}
	if r := receipts["copied"]; r.Bytes != 5 || r.Verified != wire.ByFullObject {
		t.Errorf("got %+v", r)
	}
	if !cmp.Equal(slices.Repeat([]string{"rebuilt"}, len(outcomes)), b.engine.urls) {
		t.Errorf("the engine was given %v, not the rebuilt URLs", b.engine.urls)
	}
	if n := b.queues.hidden["h0"]; time.Duration(n)*time.Second != settle.DefaultLease {
		t.Errorf("the message was leased for %d s, want %v", n, settle.DefaultLease)
	}
}

func TestBadMessagesGoToTheDeadLetterQueueAlone(t *testing.T) {
	b := newBench(map[string]answer{
		"good":   {result: transfer.Result{Outcome: wire.Copied, Bytes: 5, Verified: wire.ByETag}},
		"denied": {err: fault.Permanentf("source-denied", "get: 403")},
		"busy":   {err: fault.Transientf("destination-busy", "put: 503")},
	})
	good := signed(t, "good", nil)
	parts := strings.Split(good, ".")
	stranger := key
	stranger.ID = "k2"
	sneaky := &wire.Transfer{
		Op: wire.OpPut, Source: wire.Source{Region: "r", Bucket: "b", Key: "k", ETag: "e", Sequencer: "1", EventTime: time.Now()},
		URL: secret.New("u"), NotAfter: time.Now().UTC(),
	}
	sneaky.ID = wire.ID(sneaky.Op, sneaky.Source)
	unknown, err := wire.Sign(sneaky, stranger)
	if err != nil {
		t.Fatal(err)
	}
	failed := b.handle(t, batch(
		"not a JWS",
		parts[0]+"."+parts[1]+"."+strings.Split(signed(t, "other", nil), ".")[2],
		unknown,
		signed(t, "elsewhere", func(t *wire.Transfer) { t.Source.Bucket = "private" }),
		signed(t, "evil", nil),
		signed(t, "denied", nil),
		signed(t, "busy", nil),
		good,
	))
	if diff := cmp.Diff([]string{"m6"}, failed); diff != "" {
		t.Errorf("only the transient one is to be tried again: %s", diff)
	}
	want := []string{"bad-signature", "malformed-transfer", "source-denied", "unknown-key", "unknown-source", "url-refused"}
	if diff := cmp.Diff(want, b.dead()); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	got := map[string]wire.Outcome{}
	for name, r := range b.receipts(t) {
		got[name] = r.Outcome
	}
	if diff := cmp.Diff(map[string]wire.Outcome{
		"good": wire.Copied, "denied": wire.Failed, "evil": wire.Refused, "elsewhere": wire.Refused,
	}, got); diff != "" {
		t.Errorf("receipts (-want +got):\n%s", diff)
	}
	if strings.Contains(b.log.String(), "topsecret") {
		t.Error("a signed URL is in the log")
	}
	pulled := slices.Sorted(maps.Keys(b.engine.puts))
	if diff := cmp.Diff([]string{"busy", "denied", "good"}, pulled); diff != "" {
		t.Errorf("the engine was called for what was refused: %s", diff)
	}
}

func TestAnExpiredTransferIsNotPulled(t *testing.T) {
	b := newBench(nil)
	b.handle(t, batch(signed(t, "late", func(t *wire.Transfer) { t.NotAfter = time.Now().Add(-time.Second).UTC().Truncate(time.Second) })))
	if r := b.receipts(t)["late"]; r.Outcome != wire.Expired || len(b.engine.puts) > 0 {
		t.Errorf("got receipt %+v after pulls %v", r, b.engine.puts)
	}
}

func TestANewKeyAndANewSourceAreFound(t *testing.T) {
	b := newBench(map[string]answer{"k": {result: transfer.Result{Outcome: wire.Skipped}}})
	linked := b.trust
	b.trust = link.Trust{}
	if _, err := b.Trust.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.trust = linked
	if failed := b.handle(t, batch(signed(t, "k", nil))); len(failed) > 0 || len(b.dead()) > 0 {
		t.Errorf("got failures %v and dead letters %v for a key that was linked a moment ago", failed, b.dead())
	}
}

// A key that was removed, or whose time is over, signs nothing that is pulled
// once the trust document at hand has had its life.
func TestARemovedKeyIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(map[string]answer{"k": {result: transfer.Result{Outcome: wire.Skipped}}})
		b.Trust.Life = time.Minute
		b.handle(t, batch(signed(t, "k", nil)))
		if len(b.dead()) > 0 || !maps.Equal(b.engine.puts, map[string]bool{"k": false}) {
			t.Fatalf("before the key was removed: got dead letters %v after pulls %v", b.dead(), b.engine.puts)
		}
		clear(b.engine.puts)
		b.trust = link.Trust{Keys: wire.PublicKeys{}, Sources: b.trust.Sources}
		time.Sleep(time.Minute)
		if failed := b.handle(t, batch(signed(t, "k", nil))); len(failed) > 0 || len(b.engine.puts) > 0 {
			t.Errorf("got failures %v and pulls %v for a key that was removed", failed, b.engine.puts)
		}
		if diff := cmp.Diff([]string{"unknown-key"}, b.dead()); diff != "" {
			t.Errorf("dead letters (-want +got):\n%s", diff)
		}
	})
}

func TestTrustThatCannotBeReadIsNotTheMessagesFault(t *testing.T) {
	b := newBench(nil)
	b.Trust.Fetch = func(context.Context) (link.Trust, error) { return link.Trust{}, errors.New("SSM is down") }
	body := signed(t, "k", nil)
	if failed := b.handle(t, batch(body)); len(failed) != 1 || len(b.dead()) > 0 {
		t.Errorf("got failures %v and dead letters %v", failed, b.dead())
	}
	event := batch(body)
	event.Records[0].Attributes["ApproximateReceiveCount"] = "19"
	if failed := b.handle(t, event); len(failed) > 0 || len(b.queues.sent["inbox"]) != 1 || *b.queues.sent["inbox"][0].MessageBody != body {
		t.Errorf("before SQS gives it up: got failures %v, sent %v, want it to start over", failed, b.queues.sent)
	}
}

func TestALastTryWithoutProgressIsHandedBack(t *testing.T) {
	b := newBench(map[string]answer{"k": {err: &transfer.Unfinished{Remaining: 7}}})
	event := batch(signed(t, "k", nil))
	event.Records[0].Attributes["ApproximateReceiveCount"] = "19"
	if failed := b.handle(t, event); len(failed) > 0 || !b.receipts(t)["k"].Retry {
		t.Errorf("got failures %v, receipt %+v", failed, b.receipts(t)["k"])
	}
}

func TestWhatIsLeftBehindIsLogged(t *testing.T) {
	residue := errors.New("abort denied")
	for name, a := range map[string]answer{
		"done":   {result: transfer.Result{Outcome: wire.Gone, Residue: residue}},
		"failed": {result: transfer.Result{Residue: residue}, err: fault.Permanentf("source-denied", "403")},
		"again":  {result: transfer.Result{Residue: residue}, err: fault.Transientf("border", "reset")},
	} {
		b := newBench(map[string]answer{"k": a})
		b.handle(t, batch(signed(t, "k", nil)))
		if !strings.Contains(b.log.String(), "abort denied") {
			t.Errorf("%s: not in the log: %s", name, b.log.String())
		}
	}
}

func TestWhatWasDoneIsToldBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(map[string]answer{"done": {result: transfer.Result{Outcome: wire.Skipped}}})
		b.engine.hang = "stuck"
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		response, err := b.Handle(ctx, batch(signed(t, "done", nil), signed(t, "stuck", nil)))
		deadline, _ := ctx.Deadline()
		if left := time.Until(deadline); left < 20*time.Second {
			t.Errorf("%s were left for the receipts", left)
		}
		if err != nil || len(response.BatchItemFailures) != 1 || b.receipts(t)["done"].Outcome != wire.Skipped {
			t.Errorf("got %v, %v, receipts %v", response, err, b.receipts(t))
		}
	})
}

func TestRedeliveryIsToldToTheEngine(t *testing.T) {
	b := newBench(map[string]answer{"k": {result: transfer.Result{Outcome: wire.Skipped}}})
	event := batch(signed(t, "k", nil))
	event.Records[0].Attributes["ApproximateReceiveCount"] = "3"
	b.handle(t, event)
	if !b.engine.puts["k"] || b.receipts(t)["k"].Attempts != 3 {
		t.Errorf("redelivered=%v, receipt %+v", b.engine.puts["k"], b.receipts(t)["k"])
	}
}

func TestUnfinishedGoesOnInANewMessage(t *testing.T) {
	b := newBench(map[string]answer{
		"some": {err: &transfer.Unfinished{Parts: 3, Remaining: 7}},
		"none": {err: &transfer.Unfinished{Parts: 0, Remaining: 7}},
	})
	some := signed(t, "some", nil)
	failed := b.handle(t, batch(some, signed(t, "none", nil)))
	if diff := cmp.Diff([]string{"m1"}, failed); diff != "" {
		t.Errorf("no progress is a failure, progress is not: %s", diff)
	}
	if sent := b.queues.sent["inbox"]; len(sent) != 1 || *sent[0].MessageBody != some {
		t.Errorf("got %d continuations, want the same message once", len(sent))
	}
	if len(b.receipts(t)) > 0 {
		t.Error("an unfinished transfer got a receipt")
	}
}

func TestAContinuationThatCannotBeSentFailsTheMessage(t *testing.T) {
	b := newBench(map[string]answer{"k": {err: &transfer.Unfinished{Parts: 3, Remaining: 7}}})
	b.queues.sendErr = errors.New("SQS is down")
	if failed := b.handle(t, batch(signed(t, "k", nil))); len(failed) != 1 {
		t.Error("the message was acknowledged although nobody goes on")
	}
}

func TestAMessageIsKeptUntilItsReceiptIsSent(t *testing.T) {
	b := newBench(map[string]answer{
		"a": {result: transfer.Result{Outcome: wire.Skipped}},
		"b": {result: transfer.Result{Outcome: wire.Gone}},
		"c": {err: fault.Permanentf("source-denied", "403")},
	})
	b.queues.refuse = `"gone"`
	failed := b.handle(t, batch(signed(t, "a", nil), signed(t, "b", nil), signed(t, "c", nil)))
	if diff := cmp.Diff([]string{"m1"}, failed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if measured, _ := metrictest.Read(t, b.log.String(), "stack-Receiver"); measured["Gone in Count"] != nil || measured["GivenUp in Count"] == nil {
		t.Errorf("measured %v, expected what was told and no more", measured)
	}
	b.queues.refuse = `"failed"`
	if failed := b.handle(t, batch(signed(t, "c", nil))); len(failed) != 1 {
		t.Error("a message was dead-lettered without telling the sender")
	}
}

func TestANoopIsAnsweredAndChangesNothing(t *testing.T) {
	b := newBench(nil)
	noop := func(t *wire.Transfer) { t.Op, t.URL = wire.OpNoop, secret.String{} }
	failed := b.handle(t, batch(signed(t, "probe", noop), signed(t, "foreign", func(t *wire.Transfer) {
		noop(t)
		t.Source.Bucket = "private"
	})))
	receipts := b.receipts(t)
	if len(failed) > 0 || receipts["probe"].Outcome != wire.Linked || receipts["foreign"].Outcome != wire.Refused {
		t.Errorf("got failures %v and receipts %+v", failed, receipts)
	}
	if len(b.engine.puts) > 0 {
		t.Error("a noop reached the engine")
	}
}

func deletion(t *wire.Transfer) {
	t.Op, t.URL, t.Source.ETag, t.Source.Size = wire.OpDelete, secret.String{}, "", 0
}

func TestADeletionIsCarriedWhereDeletesAreOn(t *testing.T) {
	late := func(t *wire.Transfer) { // it needs no URL
		deletion(t)
		t.NotAfter = time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	}
	b := newBench(map[string]answer{"k": {result: transfer.Result{Outcome: wire.Deleted}}})
	b.Deletes = true
	if failed := b.handle(t, batch(signed(t, "k", late))); len(failed) > 0 {
		t.Errorf("got failures %v", failed)
	}
	if r := b.receipts(t)["k"]; r.Outcome != wire.Deleted || r.Op != wire.OpDelete || len(b.engine.puts) > 0 {
		t.Errorf("got receipt %+v, puts %v", r, b.engine.puts)
	}

	b = newBench(nil)
	b.handle(t, batch(signed(t, "k", late)))
	if r := b.receipts(t)["k"]; r.Outcome != wire.Refused || r.Class != "deletes-off" || len(b.engine.deleted) > 0 {
		t.Errorf("deletes off: got receipt %+v, deleted %v", r, b.engine.deleted)
	}
	if diff := cmp.Diff([]string{"deletes-off"}, b.dead()); diff != "" {
		t.Errorf("dead letters: %s", diff)
	}
}

func retagging(t *wire.Transfer) {
	t.Op, t.Source.Size, t.Source.Sequencer = wire.OpTag, 0, ""
}

func TestTagsAreCarriedWhereTagChangesAreOn(t *testing.T) {
	b := newBench(map[string]answer{"k": {result: transfer.Result{Outcome: wire.Tagged}}})
	b.TagChanges = true
	late := signed(t, "late", func(t *wire.Transfer) {
		retagging(t)
		t.NotAfter = time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	})
	evil := signed(t, "evil", func(t *wire.Transfer) {
		retagging(t)
		t.URL = secret.New("https://evil/")
	})
	b.handle(t, batch(signed(t, "k", retagging), late, evil))
	receipts := b.receipts(t)
	if receipts["k"].Outcome != wire.Tagged || receipts["late"].Outcome != wire.Expired || receipts["evil"].Class != "url-refused" {
		t.Errorf("got receipts %+v", receipts)
	}
	if diff := cmp.Diff([]string{"rebuilt"}, b.engine.urls); diff != "" || len(b.engine.puts) > 0 {
		t.Errorf("pulled from (-want +got):\n%s", diff)
	}

	b = newBench(nil)
	b.handle(t, batch(signed(t, "k", retagging)))
	if r := b.receipts(t)["k"]; r.Outcome != wire.Refused || r.Class != "tag-changes-off" || len(b.engine.tagged) > 0 {
		t.Errorf("tag changes off: got receipt %+v, tagged %v", r, b.engine.tagged)
	}
}

func TestTagsThatMayBeWrongAreAskedFor(t *testing.T) {
	source := wire.Source{Region: "us-east-1", Bucket: "source", Key: "k", ETag: "e", EventTime: time.Now().UTC()}
	b := newBench(map[string]answer{"k": {result: transfer.Result{Outcome: wire.Copied, Verified: wire.ByETag, Retag: &source}}})
	b.handle(t, batch(signed(t, "k", nil)))
	var asked []wire.Receipt
	for _, m := range b.queues.sent["receipts"] {
		r, err := wire.DecodeReceipt(*m.MessageBody)
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, r)
	}
	if len(asked) != 2 || asked[0].Op != wire.OpTag || asked[0].Outcome != wire.Expired || !cmp.Equal(asked[0].Source, source) || asked[1].Outcome != wire.Copied {
		t.Errorf("got receipts %+v, want one that asks for the tags, then that of the copy", asked)
	}
}

func TestWhatWasUndoneIsAskedForBeforeTheMessageIsDone(t *testing.T) {
	source := wire.Source{Region: "us-east-1", Bucket: "source", Key: "newer", ETag: "e", Sequencer: "9", EventTime: time.Now().UTC()}
	answers := map[string]answer{"k": {result: transfer.Result{Outcome: wire.Superseded, Again: &source}}}
	b := newBench(answers)
	if failed := b.handle(t, batch(signed(t, "k", nil))); len(failed) > 0 {
		t.Errorf("got failures %v", failed)
	}
	if r := b.receipts(t)["newer"]; r.Outcome != wire.Expired || !cmp.Equal(r.Source, source) {
		t.Errorf("got receipt %+v, want one that asks for %+v", r, source)
	}
	if r := b.receipts(t)["k"]; r.Outcome != wire.Superseded {
		t.Errorf("got receipt %+v", r)
	}

	b = newBench(answers)
	b.queues.sendErr = errors.New("no queue")
	if diff := cmp.Diff([]string{"m0"}, b.handle(t, batch(signed(t, "k", nil)))); diff != "" || len(b.receipts(t)) > 0 {
		t.Errorf("nobody was asked: failures %s, receipts %v", diff, b.receipts(t))
	}
}

func TestALastTryIsHandedBackInstead(t *testing.T) {
	b := newBench(map[string]answer{"k": {err: fault.Transientf("destination-busy", "put https://source/k?X-Amz-Signature=topsecret: 503")}})
	for receives, want := range map[string]bool{"18": false, "19": true, "20": true} {
		event := batch(signed(t, "k", func(t *wire.Transfer) { t.Round = 3 }))
		event.Records[0].Attributes = map[string]string{"ApproximateReceiveCount": receives}
		failed := b.handle(t, event)
		if (len(failed) == 0) != want {
			t.Errorf("receive %s: got failures %v", receives, failed)
		}
		r, told := b.receipts(t)["k"]
		if strings.Contains(r.Reason, "topsecret") {
			t.Errorf("receive %s: the receipt has a signature: %q", receives, r.Reason)
		}
		if told != want || want && (r.Outcome != wire.Failed || !r.Retry || r.Class != "destination-busy" || r.Round != 3) {
			t.Errorf("receive %s: got receipt %+v", receives, r)
		}
		b.queues.sent = map[string][]*sqs.SendMessageInput{}
	}
	if len(b.dead()) > 0 {
		t.Errorf("dead letters: %v", b.dead())
	}
}
