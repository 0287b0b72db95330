package redrive_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/link"
	localsqs "github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/outbox"
	"github.com/s3ferry/s3ferry/internal/redrive"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// letters is a dead-letter queue.
type letters struct {
	*sqs.Client
	url   string
	queue *localsqs.Queue
}

func newLetters(t *testing.T) *letters {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	queues := localsqs.New(localsqs.Config{Endpoint: "http://" + server.Listener.Addr().String(), Region: "us-east-1", Account: "000000000000"})
	server.Config.Handler = queues
	server.Start()
	t.Cleanup(server.Close)
	queue, err := queues.Create("dead", nil)
	if err != nil {
		t.Fatal(err)
	}
	return &letters{url: queue.URL(), queue: queue, Client: sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})}
}

func (l *letters) add(t *testing.T, body string, attributes map[string]string) {
	t.Helper()
	in := &sqs.SendMessageInput{QueueUrl: &l.url, MessageBody: &body, MessageAttributes: map[string]types.MessageAttributeValue{}}
	for name, value := range attributes {
		in.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
	}
	if _, err := l.SendMessage(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// left is how many letters are there, and how many of them show.
func (l *letters) left() (all, visible int) {
	counts := l.queue.Counts()
	return counts.Visible + counts.InFlight + counts.Delayed, counts.Visible
}

func source(key string) wire.Source {
	return wire.Source{
		Region: "us-east-1", Bucket: "b", Key: key, ETag: "e", Size: 1, Sequencer: "01",
		EventTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// sink takes events, except those about a key with "refused" in it.
type sink struct {
	mu    sync.Mutex
	taken []outbox.Message
}

var errRefused = errors.New("refused")

func (s *sink) Put(_ context.Context, messages []outbox.Message) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(messages))
	for i, m := range messages {
		if strings.Contains(m.Body, "refused") {
			errs[i] = errRefused
			continue
		}
		s.taken = append(s.taken, m)
	}
	return errs, errors.Join(errs...)
}

func (s *sink) keys(t *testing.T) (keys []string) {
	t.Helper()
	for _, m := range s.taken {
		told, err := event.Parse(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, told.Events[0].Source.Key)
	}
	slices.Sort(keys)
	return keys
}

func TestEventsGoBackAsTheyAre(t *testing.T) {
	queue := newLetters(t)
	var want []string
	for i := range 35 {
		key := fmt.Sprintf("报告/%02d", i)
		want = append(want, key)
		queue.add(t, event.Encode(wire.OpPut, source(key)), map[string]string{
			"s3ferry-class": "access-denied", "s3ferry-reason": "no", "s3ferry-rounds": "3", "theirs": "kept",
		})
	}
	to := &sink{}
	summary, err := redrive.Run(t.Context(), []redrive.Queue{{Name: "outbox", SQS: queue, URL: queue.url, Read: redrive.Events}}, redrive.Options{Outbox: to})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(redrive.Summary{redrive.Redriven: 35}, summary); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, to.keys(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	first := to.taken[0]
	if len(first.Attributes) != 1 || aws.ToString(first.Attributes["theirs"].StringValue) != "kept" {
		t.Errorf("got attributes %v", first.Attributes)
	}
	if all, _ := queue.left(); all != 0 {
		t.Errorf("%d letters are left", all)
	}
}

// A letter goes only when its event is in the outbox. All that stay can be seen
// at once by whoever comes next.
func TestLettersThatStay(t *testing.T) {
	queue := newLetters(t)
	for _, body := range []string{
		"not JSON", `{"Records":[]}`, `{"Event":"s3:TestEvent"}`,
		event.Encode(wire.OpPut, source("refused")), event.Encode(wire.OpPut, source("other")), event.Encode(wire.OpPut, source("good")),
	} {
		class := "malformed-event"
		if strings.Contains(body, "other") {
			class = "too-large"
		}
		queue.add(t, body, map[string]string{"s3ferry-class": class, "s3ferry-reason": "why"})
	}
	to := &sink{}
	found := map[string]string{}
	summary, err := redrive.Run(t.Context(), []redrive.Queue{{Name: "outbox", SQS: queue, URL: queue.url, Read: redrive.Events}}, redrive.Options{
		Outbox: to, Classes: []string{"malformed-event"},
		Found: func(l redrive.Letter) error { found[l.Body] = l.Fate; return nil },
	})
	if !errors.Is(err, errRefused) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(redrive.Summary{redrive.Redriven: 1, redrive.Kept: 4, redrive.Passed: 1}, summary); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found["not JSON"] != redrive.Kept || found[event.Encode(wire.OpPut, source("refused"))] != redrive.Kept || found[event.Encode(wire.OpPut, source("good"))] != redrive.Redriven || len(found) != 5 {
		t.Errorf("found %v", found)
	}
	if all, visible := queue.left(); all != 5 || visible != 5 {
		t.Errorf("%d letters, %d of them visible, want 5 and 5", all, visible)
	}
}

func TestAListChangesNothing(t *testing.T) {
	queue := newLetters(t)
	queue.add(t, event.Encode(wire.OpPut, source("a")), map[string]string{"s3ferry-class": "archived", "s3ferry-reason": "restore it"})
	queue.add(t, event.Encode(wire.OpPut, source("b")), nil)
	var got []redrive.Letter
	_, err := redrive.Run(t.Context(), []redrive.Queue{{Name: "outbox", SQS: queue, URL: queue.url, Read: redrive.Events}}, redrive.Options{
		Found: func(l redrive.Letter) error { got = append(got, l); return nil },
	})
	if err != nil || len(got) != 2 {
		t.Fatalf("got %+v and %v", got, err)
	}
	slices.SortFunc(got, func(a, b redrive.Letter) int { return strings.Compare(a.Keys[0], b.Keys[0]) })
	for i, want := range []redrive.Letter{
		{Class: "archived", Reason: "restore it", Keys: []string{"a"}},
		{Class: "crashed", Keys: []string{"b"}},
	} {
		l := got[i]
		if l.Queue != "outbox" || l.Class != want.Class || l.Reason != want.Reason || !slices.Equal(l.Keys, want.Keys) ||
			l.Fate != redrive.Listed || l.Message == "" || time.Since(l.Sent) > time.Minute {
			t.Errorf("got %+v, want %+v", l, want)
		}
	}
	if all, visible := queue.left(); all != 2 || visible != 2 {
		t.Errorf("%d letters, %d of them visible, want 2 and 2", all, visible)
	}
}

// broken fails in one call.
type broken struct {
	redrive.SQS
	remove, receive error
}

func (b *broken) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, o ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	if b.receive != nil {
		return nil, b.receive
	}
	return b.SQS.ReceiveMessage(ctx, in, o...)
}

func (b *broken) DeleteMessageBatch(ctx context.Context, in *sqs.DeleteMessageBatchInput, o ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	if b.remove != nil {
		return nil, b.remove
	}
	return b.SQS.DeleteMessageBatch(ctx, in, o...)
}

func TestALetterThatCannotBeDeletedIsTold(t *testing.T) {
	queue := newLetters(t)
	queue.add(t, event.Encode(wire.OpPut, source("a")), nil)
	down := errors.New("down")
	to := &sink{}
	_, err := redrive.Run(t.Context(), []redrive.Queue{{Name: "outbox", SQS: &broken{SQS: queue, remove: down}, URL: queue.url, Read: redrive.Events}}, redrive.Options{Outbox: to})
	if !errors.Is(err, down) || len(to.taken) != 1 {
		t.Errorf("got %v and %d events", err, len(to.taken))
	}
	if all, visible := queue.left(); all != 1 || visible != 1 {
		t.Errorf("%d letters, %d of them visible, want 1 and 1", all, visible)
	}
}

func TestOneQueueThatIsDownLeavesTheOther(t *testing.T) {
	queue := newLetters(t)
	queue.add(t, event.Encode(wire.OpPut, source("a")), nil)
	down := errors.New("down")
	to := &sink{}
	_, err := redrive.Run(t.Context(), []redrive.Queue{
		{Name: "inbox", SQS: &broken{SQS: queue, receive: down}, URL: queue.url, Read: redrive.Events},
		{Name: "outbox", SQS: queue, URL: queue.url, Read: redrive.Events},
	}, redrive.Options{Outbox: to})
	if !errors.Is(err, down) || !strings.Contains(err.Error(), "redrive the inbox") || len(to.taken) != 1 {
		t.Errorf("got %v and %d events", err, len(to.taken))
	}
}

func TestTransfers(t *testing.T) {
	public, private, _ := ed25519.GenerateKey(nil)
	_, stranger, _ := ed25519.GenerateKey(nil)
	trust := link.Trust{Keys: wire.PublicKeys{"k": public}, Sources: []link.Source{{Bucket: "b", Region: "us-east-1"}}}
	sign := func(s wire.Source, op wire.Op, key ed25519.PrivateKey, id string) string {
		transfer := &wire.Transfer{ID: wire.ID(op, s), Op: op, Source: s, NotAfter: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
		if op == wire.OpPut {
			transfer.URL = secret.New("https://example.com/")
		}
		message, err := wire.Sign(transfer, wire.SigningKey{ID: id, Key: secret.New(key)})
		if err != nil {
			t.Fatal(err)
		}
		return message
	}
	other := source("k")
	other.Bucket = "c"
	for name, tc := range map[string]struct {
		body string
		want string // "" is the event again
	}{
		"signed":          {sign(source("a b/报告"), wire.OpPut, private, "k"), ""},
		"by nobody":       {"text", "malformed transfer"},
		"by a stranger":   {sign(source("a"), wire.OpPut, stranger, "k"), "signature does not verify"},
		"by an old key":   {sign(source("a"), wire.OpPut, private, "old"), "unknown key"},
		"a no-op":         {sign(source("a"), wire.OpNoop, private, "k"), `asks for "noop"`},
		"of other bucket": {sign(other, wire.OpPut, private, "k"), "c in us-east-1, is not linked"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := redrive.Transfers(trust)(tc.body)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) || got.Body != "" {
					t.Errorf("got %+v and %v, want %q in it", got, err, tc.want)
				}
				return
			}
			if want := source("a b/报告"); err != nil || got.Body != event.Encode(wire.OpPut, want) || got.Keys[0] != want.Key {
				t.Errorf("got %+v and %v", got, err)
			}
		})
	}
}

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern, key string
		want         bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "a/b/c", true}, {"*.txt", "a/b.txt", true}, {"*.txt", "a/btxt", false},
		{"a?c", "a/c", true}, {"a?c", "a报c", true}, {"a?c", "ac", false}, {"[a]+", "[a]+", true}, {"[a]+", "a", false}, {"*", "a\nb", true},
	} {
		if got := redrive.Pattern(tc.pattern)(tc.key); got != tc.want {
			t.Errorf("%q of %q: got %v", tc.pattern, tc.key, got)
		}
	}
}
