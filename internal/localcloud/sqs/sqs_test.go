package sqs_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
)

// inProcess hands requests straight to a handler, so that a client may live in
// a bubble of virtual time.
type inProcess struct{ http.Handler }

func (p inProcess) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

func newServer() *sqs.Server {
	return sqs.New(sqs.Config{Endpoint: "http://127.0.0.1:9324", Region: "us-east-1", Account: "000000000000"})
}

func newClient(endpoint string, h aws.HTTPClient) *client.Client {
	return client.New(client.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint), HTTPClient: h,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
}

// bubble runs f in virtual time with a client of a new server.
func bubble(t *testing.T, f func(t *testing.T, c *client.Client)) {
	synctest.Test(t, func(t *testing.T) {
		f(t, newClient("http://127.0.0.1:9324", inProcess{newServer()}))
	})
}

func create(t *testing.T, c *client.Client, name string, attributes map[string]string) *string {
	t.Helper()
	out, err := c.CreateQueue(t.Context(), &client.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return out.QueueUrl
}

func send(t *testing.T, c *client.Client, queue *string, body string) {
	t.Helper()
	if _, err := c.SendMessage(t.Context(), &client.SendMessageInput{QueueUrl: queue, MessageBody: &body}); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *client.Client, in client.ReceiveMessageInput) []types.Message {
	t.Helper()
	if in.MaxNumberOfMessages == 0 {
		in.MaxNumberOfMessages = 10
	}
	in.MessageSystemAttributeNames = []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll}
	in.MessageAttributeNames = []string{"All"}
	out, err := c.ReceiveMessage(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Messages
}

func attributes(t *testing.T, c *client.Client, queue *string) map[string]string {
	t.Helper()
	out, err := c.GetQueueAttributes(t.Context(), &client.GetQueueAttributesInput{
		QueueUrl: queue, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Attributes
}

func wantCounts(t *testing.T, c *client.Client, queue *string, visible, inFlight, delayed string) {
	t.Helper()
	a := attributes(t, c, queue)
	got := []string{
		a["ApproximateNumberOfMessages"], a["ApproximateNumberOfMessagesNotVisible"], a["ApproximateNumberOfMessagesDelayed"],
	}
	if diff := cmp.Diff([]string{visible, inFlight, delayed}, got); diff != "" {
		t.Errorf("visible, in flight, delayed (-want +got):\n%s", diff)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code {
		t.Errorf("got error %v, want code %s", err, code)
	}
}

func TestMessageRoundTrip(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		q := create(t, c, "q", nil)
		body := "Grüße, \"你好\" \\ <&> \u2028\n"
		in := map[string]types.MessageAttributeValue{
			"reason": {DataType: aws.String("String"), StringValue: aws.String("坏 signature")},
			"n":      {DataType: aws.String("Number.int"), StringValue: aws.String("42")},
			"raw":    {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255, 1}},
		}
		sent, err := c.SendMessage(t.Context(), &client.SendMessageInput{QueueUrl: q, MessageBody: &body, MessageAttributes: in})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q})
		if len(got) != 1 {
			t.Fatalf("got %d messages, want 1", len(got))
		}
		m := got[0]
		if *m.Body != body || *m.MessageId != *sent.MessageId || *m.MD5OfMessageAttributes != *sent.MD5OfMessageAttributes {
			t.Errorf("got %+v, sent %+v", m, sent)
		}
		if diff := cmp.Diff(in, m.MessageAttributes, cmp.AllowUnexported(types.MessageAttributeValue{}), cmp.FilterPath(
			func(p cmp.Path) bool { return strings.HasSuffix(p.String(), "noSmithyDocumentSerde") }, cmp.Ignore())); diff != "" {
			t.Errorf("attributes (-sent +received):\n%s", diff)
		}
		for name, want := range map[string]string{
			"ApproximateReceiveCount": "1", "SenderId": "000000000000",
			"SentTimestamp":                    fmt.Sprint(time.Now().Add(-3 * time.Second).UnixMilli()),
			"ApproximateFirstReceiveTimestamp": fmt.Sprint(time.Now().UnixMilli()),
		} {
			if m.Attributes[name] != want {
				t.Errorf("%s = %q, want %q", name, m.Attributes[name], want)
			}
		}
	})
}

// The digest comes from the rule's text, worked out by hand with another tool.
func TestMD5OfAttributes(t *testing.T) {
	got := sqs.MD5OfAttributes(map[string]sqs.Attribute{
		"b": {DataType: "Binary", BinaryValue: []byte{1, 2}},
		"a": {DataType: "String", StringValue: aws.String("x")},
	})
	if want := "3e9b4c785db2deb306cf4009ae214dab"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVisibilityTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		q := create(t, c, "q", map[string]string{"VisibilityTimeout": "60"})
		send(t, c, q, "m")
		first := receive(t, c, client.ReceiveMessageInput{QueueUrl: q})[0]
		wantCounts(t, c, q, "0", "1", "0")

		time.Sleep(59 * time.Second)
		if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q}); len(got) != 0 {
			t.Fatal("a message in flight was received")
		}
		time.Sleep(time.Second)
		wantCounts(t, c, q, "1", "0", "0")
		second := receive(t, c, client.ReceiveMessageInput{QueueUrl: q})[0]
		if second.Attributes["ApproximateReceiveCount"] != "2" {
			t.Errorf("receive count %q, want 2", second.Attributes["ApproximateReceiveCount"])
		}
		if *first.ReceiptHandle == *second.ReceiptHandle {
			t.Error("two receives have one receipt handle")
		}
		_, err := c.ChangeMessageVisibility(t.Context(), &client.ChangeMessageVisibilityInput{
			QueueUrl: q, ReceiptHandle: first.ReceiptHandle, VisibilityTimeout: 0,
		})
		wantCode(t, err, "InvalidParameterValue")
		wantCounts(t, c, q, "0", "1", "0")
		if _, err := c.DeleteMessage(t.Context(), &client.DeleteMessageInput{QueueUrl: q, ReceiptHandle: first.ReceiptHandle}); err != nil {
			t.Errorf("delete by a stale handle: %v", err)
		}
		wantCounts(t, c, q, "0", "1", "0")

		if _, err := c.ChangeMessageVisibility(t.Context(), &client.ChangeMessageVisibilityInput{
			QueueUrl: q, ReceiptHandle: second.ReceiptHandle, VisibilityTimeout: 0,
		}); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, c, q, "1", "0", "0")
		_, err = c.ChangeMessageVisibility(t.Context(), &client.ChangeMessageVisibilityInput{
			QueueUrl: q, ReceiptHandle: second.ReceiptHandle, VisibilityTimeout: 5,
		})
		if _, ok := errors.AsType[*types.MessageNotInflight](err); !ok {
			t.Errorf("got %v, want MessageNotInflight", err)
		}
		// Visible again, yet not received again: the handle still deletes.
		if _, err := c.DeleteMessage(t.Context(), &client.DeleteMessageInput{QueueUrl: q, ReceiptHandle: second.ReceiptHandle}); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, c, q, "0", "0", "0")
	})
}

func TestDelay(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		q := create(t, c, "q", map[string]string{"DelaySeconds": "5"})
		send(t, c, q, "the queue's delay")
		body := "its own"
		if _, err := c.SendMessage(t.Context(), &client.SendMessageInput{QueueUrl: q, MessageBody: &body, DelaySeconds: 9}); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, c, q, "0", "0", "2")
		start := time.Now()
		for _, want := range []time.Duration{5 * time.Second, 9 * time.Second} {
			if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q, WaitTimeSeconds: 20}); len(got) != 1 {
				t.Fatalf("got %d messages, want 1", len(got))
			}
			if got := time.Since(start); got != want {
				t.Errorf("received after %v, want %v", got, want)
			}
		}
	})
}

func TestLongPoll(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		q := create(t, c, "q", nil)
		start := time.Now()
		if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q, WaitTimeSeconds: 7}); len(got) != 0 || time.Since(start) != 7*time.Second {
			t.Errorf("an empty poll gave %d messages after %v, want none after 7s", len(got), time.Since(start))
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(2 * time.Second)
			send(t, c, q, "m")
		})
		start = time.Now()
		if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q, WaitTimeSeconds: 20}); len(got) != 1 || time.Since(start) != 2*time.Second {
			t.Errorf("a poll gave %d messages after %v, want one after 2s", len(got), time.Since(start))
		}
		wg.Wait()
	})
}

func TestAPollThatWasGivenUpTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := newServer().Create("q", nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []sqs.Received
		var wg sync.WaitGroup
		wg.Go(func() { got = q.Receive(ctx, sqs.ReceiveOptions{Max: 1, Wait: new(20 * time.Second)}) })
		synctest.Wait()
		cancel()
		if _, err := q.Send(sqs.Message{Body: "m"}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if len(got) != 0 || q.Counts().Visible != 1 {
			t.Errorf("got %d messages, %+v left", len(got), q.Counts())
		}
	})
}

func TestRedrive(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		dlq := create(t, c, "dlq", nil)
		arn := attributes(t, c, dlq)["QueueArn"]
		q := create(t, c, "q", map[string]string{
			"VisibilityTimeout": "1", "RedrivePolicy": `{"deadLetterTargetArn":"` + arn + `","maxReceiveCount":"2"}`,
		})
		body := "poison"
		if _, err := c.SendMessage(t.Context(), &client.SendMessageInput{
			QueueUrl: q, MessageBody: &body,
			MessageAttributes: map[string]types.MessageAttributeValue{"why": {DataType: aws.String("String"), StringValue: aws.String("x")}},
		}); err != nil {
			t.Fatal(err)
		}
		sent := time.Now()
		for range 2 {
			if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q}); len(got) != 1 {
				t.Fatalf("got %d messages, want 1", len(got))
			}
			time.Sleep(time.Second)
		}
		if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q}); len(got) != 0 {
			t.Fatal("a message was received more often than maxReceiveCount allows")
		}
		wantCounts(t, c, q, "0", "0", "0")
		got := receive(t, c, client.ReceiveMessageInput{QueueUrl: dlq})
		if len(got) != 1 {
			t.Fatalf("the dead-letter queue gives %d messages, want 1", len(got))
		}
		m := got[0]
		if *m.Body != body || *m.MessageAttributes["why"].StringValue != "x" ||
			m.Attributes["ApproximateReceiveCount"] != "3" || m.Attributes["DeadLetterQueueSourceArn"] != attributes(t, c, q)["QueueArn"] ||
			m.Attributes["SentTimestamp"] != fmt.Sprint(sent.UnixMilli()) {
			t.Errorf("got %+v", m)
		}
	})
}

func TestRetention(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		q := create(t, c, "q", map[string]string{"MessageRetentionPeriod": "60"})
		send(t, c, q, "m")
		time.Sleep(59 * time.Second)
		wantCounts(t, c, q, "1", "0", "0")
		time.Sleep(time.Second)
		wantCounts(t, c, q, "0", "0", "0")
		if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q}); len(got) != 0 {
			t.Error("a message outlived its retention")
		}
	})
}

func TestBatchesFailByEntry(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		q := create(t, c, "q", nil)
		out, err := c.SendMessageBatch(t.Context(), &client.SendMessageBatchInput{QueueUrl: q, Entries: []types.SendMessageBatchRequestEntry{
			{Id: aws.String("good"), MessageBody: aws.String("m")},
			{Id: aws.String("control"), MessageBody: aws.String("a\x00b")},
			{Id: aws.String("late"), MessageBody: aws.String("m"), DelaySeconds: 901},
		}})
		if err != nil {
			t.Fatal(err)
		}
		codes := map[string]string{}
		for _, f := range out.Failed {
			codes[*f.Id] = *f.Code
		}
		if diff := cmp.Diff(map[string]string{"control": "InvalidMessageContents", "late": "InvalidParameterValue"}, codes); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
		if len(out.Successful) != 1 || *out.Successful[0].Id != "good" {
			t.Errorf("successful: %+v", out.Successful)
		}

		handle := receive(t, c, client.ReceiveMessageInput{QueueUrl: q})[0].ReceiptHandle
		changed, err := c.ChangeMessageVisibilityBatch(t.Context(), &client.ChangeMessageVisibilityBatchInput{
			QueueUrl: q, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
				{Id: aws.String("a"), ReceiptHandle: handle, VisibilityTimeout: 90},
				{Id: aws.String("b"), ReceiptHandle: aws.String("nonsense"), VisibilityTimeout: 90},
			},
		})
		if err != nil || len(changed.Successful) != 1 || len(changed.Failed) != 1 || *changed.Failed[0].Code != "ReceiptHandleIsInvalid" {
			t.Errorf("change visibility: %+v, %v", changed, err)
		}
		deleted, err := c.DeleteMessageBatch(t.Context(), &client.DeleteMessageBatchInput{
			QueueUrl: q, Entries: []types.DeleteMessageBatchRequestEntry{
				{Id: aws.String("a"), ReceiptHandle: handle},
				{Id: aws.String("b"), ReceiptHandle: aws.String("nonsense")},
			},
		})
		if err != nil || len(deleted.Successful) != 1 || len(deleted.Failed) != 1 {
			t.Errorf("delete: %+v, %v", deleted, err)
		}
		wantCounts(t, c, q, "0", "0", "0")
	})
}

func TestRefusedRequests(t *testing.T) {
	c := newClient("http://127.0.0.1:9324", inProcess{newServer()})
	q := create(t, c, "q", nil)
	entries := func(n int, id func(int) string, body string) *client.SendMessageBatchInput {
		in := &client.SendMessageBatchInput{QueueUrl: q}
		for i := range n {
			in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: aws.String(id(i)), MessageBody: &body})
		}
		return in
	}
	number := func(i int) string { return fmt.Sprint(i) }
	for _, tc := range []struct {
		name, code string
		do         func() error
	}{
		{"no such queue", "AWS.SimpleQueueService.NonExistentQueue", func() error {
			_, err := c.GetQueueUrl(t.Context(), &client.GetQueueUrlInput{QueueName: aws.String("nope")})
			return err
		}},
		{"no entries", "AWS.SimpleQueueService.EmptyBatchRequest", func() error {
			_, err := c.SendMessageBatch(t.Context(), &client.SendMessageBatchInput{QueueUrl: q, Entries: []types.SendMessageBatchRequestEntry{}})
			return err
		}},
		{"eleven entries", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", func() error {
			_, err := c.SendMessageBatch(t.Context(), entries(11, number, "m"))
			return err
		}},
		{"one id twice", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", func() error {
			_, err := c.SendMessageBatch(t.Context(), entries(2, func(int) string { return "a" }, "m"))
			return err
		}},
		{"a bad id", "AWS.SimpleQueueService.InvalidBatchEntryId", func() error {
			_, err := c.SendMessageBatch(t.Context(), entries(1, func(int) string { return "a b" }, "m"))
			return err
		}},
		{"a batch over 256 KiB", "AWS.SimpleQueueService.BatchRequestTooLong", func() error {
			_, err := c.SendMessageBatch(t.Context(), entries(2, number, strings.Repeat("x", sqs.MaxBytes/2+1)))
			return err
		}},
		{"a message over 256 KiB", "InvalidParameterValue", func() error {
			_, err := c.SendMessage(t.Context(), &client.SendMessageInput{QueueUrl: q, MessageBody: aws.String(strings.Repeat("x", sqs.MaxBytes+1))})
			return err
		}},
		{"eleven messages", "InvalidParameterValue", func() error {
			_, err := c.ReceiveMessage(t.Context(), &client.ReceiveMessageInput{QueueUrl: q, MaxNumberOfMessages: 11})
			return err
		}},
		{"an unknown attribute", "InvalidAttributeName", func() error {
			_, err := c.SetQueueAttributes(t.Context(), &client.SetQueueAttributesInput{QueueUrl: q, Attributes: map[string]string{"Colour": "red"}})
			return err
		}},
		{"a redrive to nowhere", "InvalidParameterValue", func() error {
			_, err := c.SetQueueAttributes(t.Context(), &client.SetQueueAttributesInput{QueueUrl: q, Attributes: map[string]string{
				"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:none","maxReceiveCount":3}`}})
			return err
		}},
		{"the same name with other attributes", "QueueAlreadyExists", func() error {
			_, err := c.CreateQueue(t.Context(), &client.CreateQueueInput{QueueName: aws.String("q"), Attributes: map[string]string{"DelaySeconds": "1"}})
			return err
		}},
		{"an action that is not there", "InvalidAction", func() error {
			_, err := c.StartMessageMoveTask(t.Context(), &client.StartMessageMoveTaskInput{SourceArn: aws.String("x")})
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) { wantCode(t, tc.do(), tc.code) })
	}
	exact := strings.Repeat("x", sqs.MaxBytes)
	send(t, c, q, exact)
	if got := receive(t, c, client.ReceiveMessageInput{QueueUrl: q}); len(got) != 1 || *got[0].Body != exact {
		t.Error("a message of exactly 256 KiB did not come through")
	}
}

func TestListAndPurge(t *testing.T) {
	bubble(t, func(t *testing.T, c *client.Client) {
		q := create(t, c, "inbox", nil)
		create(t, c, "inbox-dlq", nil)
		create(t, c, "outbox", nil)
		out, err := c.ListQueues(t.Context(), &client.ListQueuesInput{QueueNamePrefix: aws.String("inbox")})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{
			"http://127.0.0.1:9324/000000000000/inbox", "http://127.0.0.1:9324/000000000000/inbox-dlq",
		}, out.QueueUrls); diff != "" {
			t.Errorf("queues (-want +got):\n%s", diff)
		}
		send(t, c, q, "m")
		if _, err := c.PurgeQueue(t.Context(), &client.PurgeQueueInput{QueueUrl: q}); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, c, q, "0", "0", "0")
	})
}

// Over a real socket, with consumers and producers at once: every message is
// delivered to exactly one consumer.
func TestConcurrentConsumersShareTheMessages(t *testing.T) {
	const messages, consumers = 1000, 8
	accepted := 0
	server := sqs.New(sqs.Config{Region: "us-east-1", Account: "000000000000", Accepted: func(string, string) { accepted++ }})
	web := httptest.NewServer(server)
	defer web.Close()
	c := newClient(web.URL, web.Client())
	q := create(t, c, "q", nil)

	var (
		mu   sync.Mutex
		seen = map[string]int{}
		wg   sync.WaitGroup
	)
	done := func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == messages }
	for range consumers {
		wg.Go(func() {
			for !done() {
				for _, m := range receive(t, c, client.ReceiveMessageInput{QueueUrl: q, WaitTimeSeconds: 1}) {
					mu.Lock()
					seen[*m.Body]++
					mu.Unlock()
					if _, err := c.DeleteMessage(t.Context(), &client.DeleteMessageInput{QueueUrl: q, ReceiptHandle: m.ReceiptHandle}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for i := range messages {
		send(t, c, q, fmt.Sprint(i))
	}
	wg.Wait()
	for body, n := range seen {
		if n != 1 {
			t.Errorf("message %s was delivered %d times", body, n)
		}
	}
	if accepted != messages {
		t.Errorf("Accepted saw %d messages, want %d", accepted, messages)
	}
}
