package backlog_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	client "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/s3ferry/s3ferry/internal/backlog"
	"github.com/s3ferry/s3ferry/internal/courier"
	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/localcloud/lambda"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/sender"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// cloud is both sides in a bubble of virtual time: real queues, the real sender
// and courier, and a receiver that ends a given number of transfers a second.
type cloud struct {
	t      *testing.T
	server *sqs.Server
	keys   wire.PublicKeys
	quiet  *slog.Logger

	mu      sync.Mutex
	pace    backlog.Pace
	copied  map[string]bool // by key
	expired int
	idle    time.Duration // of the receiver, before it had copied everything
}

const urlLife = 10 * time.Minute

func newCloud(t *testing.T) *cloud {
	time.Sleep(time.Until(noon)) // a bubble begins before there was S3
	c := &cloud{
		t: t, server: sqs.New(sqs.Config{Endpoint: "http://sqs", Region: "us-east-1", Account: "000000000000"}),
		copied: map[string]bool{}, quiet: slog.New(slog.DiscardHandler),
	}
	for _, q := range []struct {
		name       string
		visibility string
		receives   int
	}{{"outbox", "360", 1000}, {"inbox", "5400", 20}, {"receipts", "120", 0}} {
		attributes := map[string]string{"VisibilityTimeout": q.visibility, "MessageRetentionPeriod": "1209600"}
		if q.receives > 0 {
			dead, err := c.server.Create(q.name+"-dead", nil)
			if err != nil {
				t.Fatal(err)
			}
			attributes["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, dead.ARN(), q.receives)
		}
		if _, err := c.server.Create(q.name, attributes); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cloud) queue(name string) *sqs.Queue {
	q, err := c.server.Queue("/" + name)
	if err != nil {
		c.t.Fatal(err)
	}
	return q
}

// RoundTrip serves the mailbox API at http://mailbox, and SQS everywhere else.
func (c *cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "mailbox" {
		for _, route := range door.Routes() {
			if route.Path != r.URL.Path || route.Method != r.Method {
				continue
			}
			var body bytes.Buffer
			if r.Body != nil {
				if _, err := body.ReadFrom(r.Body); err != nil {
					return nil, err
				}
			}
			request, err := route.Request("/"+string(route.Queue), body.Bytes())
			if err != nil {
				return nil, err
			}
			r = httptest.NewRequestWithContext(r.Context(), http.MethodPost, "http://sqs/", bytes.NewReader(request))
			r.Header.Set("X-Amz-Target", sqs.TargetPrefix+route.Action)
			break
		}
	}
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, r)
	return w.Result(), nil
}

func (c *cloud) Load(context.Context) (backlog.Pace, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pace, nil
}

func (c *cloud) Save(_ context.Context, pace backlog.Pace) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace = pace
	return nil
}

// HeadObject makes the cloud a source bucket that has every object.
func (c *cloud) HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	return &s3.HeadObjectOutput{ETag: aws.String(`"e"`), ContentLength: aws.Int64(1)}, nil
}

func (c *cloud) GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	panic("never asked")
}

func (c *cloud) GetObjectTagging(context.Context, *s3.GetObjectTaggingInput, ...func(*s3.Options)) (*s3.GetObjectTaggingOutput, error) {
	panic("never asked")
}

// invoke makes an invoker of a sender.
type invoke func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

func (f invoke) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var batch events.SQSEvent
	if err := json.Unmarshal(payload, &batch); err != nil {
		return nil, err
	}
	time.Sleep(300 * time.Millisecond) // across the border and back
	response, err := f(ctx, batch)
	if err != nil {
		return nil, err
	}
	return json.Marshal(response)
}

// run starts both sides, with so many environments of the sender, and returns
// what ends them.
func (c *cloud) run(gate *backlog.Gate, senders int, perSecond float64) (stop func()) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.keys = wire.PublicKeys{"k": public}
	here := &http.Client{Transport: c}
	linked := &link.Cache[link.Secret]{Life: time.Hour, Fetch: func(context.Context) (link.Secret, error) {
		return link.Secret{APIURL: "http://mailbox", APIKey: secret.New("key"), SigningKey: wire.SigningKey{ID: "k", Key: secret.New(private)}}, nil
	}}
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "s", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
	})
	queues := client.New(client.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://sqs"), HTTPClient: here, Credentials: credentials,
	})
	outbox := &settle.Queue{SQS: queues, URL: "/outbox", DeadLetterURL: "/outbox-dead", MaxDelay: time.Hour, Log: c.quiet}

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range senders { // each with a gate of its own, as environments have
		s := &sender.Sender{
			Link: linked, Source: &sender.Source{S3: c}, HTTP: here, Outbox: outbox, Log: c.quiet,
			Signer: &sender.Signer{Presign: s3.NewPresignClient(s3.New(s3.Options{Region: "us-east-1"})), Credentials: credentials, Life: urlLife},
			Gate:   &backlog.Gate{Life: gate.Life, Senders: senders, Pace: gate.Pace, Log: c.quiet},
		}
		mapping := lambda.Mapping{Queue: c.queue("outbox"), Function: invoke(s.Handle), Log: c.quiet}
		wg.Go(func() { mapping.Run(ctx) })
	}
	if perSecond > 0 {
		wg.Go(func() { c.receive(ctx, perSecond) })
	}
	wg.Go(func() {
		if perSecond == 0 {
			return // no receipts
		}
		rounds := &courier.Courier{Link: linked, HTTP: here, SQS: queues, Pace: c, Outbox: outbox, Log: c.quiet}
		for ctx.Err() == nil {
			if err := rounds.Handle(context.WithoutCancel(ctx)); err != nil {
				c.t.Error(err)
			}
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// receive is the receiver.
func (c *cloud) receive(ctx context.Context, perSecond float64) {
	inbox, receipts := c.queue("inbox"), c.queue("receipts")
	for ctx.Err() == nil {
		from := time.Now()
		batch := inbox.Receive(ctx, sqs.ReceiveOptions{Max: 10, Wait: new(20 * time.Second)})
		c.mu.Lock()
		c.idle += time.Since(from)
		c.mu.Unlock()
		for _, message := range batch {
			t, err := wire.Verify(message.Body, c.keys)
			if err != nil {
				c.t.Error(err)
				return
			}
			receipt := wire.Receipt{ID: t.ID, Op: t.Op, Source: t.Source, Attempts: 1}
			if time.Now().Before(t.NotAfter) {
				time.Sleep(time.Duration(float64(time.Second) / perSecond))
				receipt.Outcome, receipt.Bytes, receipt.Verified = wire.Copied, 1, wire.ByLength
			} else {
				receipt.Outcome = wire.Expired
			}
			c.mu.Lock()
			if receipt.Outcome == wire.Copied {
				c.copied[t.Source.Key] = true
			} else {
				c.expired++
			}
			c.mu.Unlock()
			receipt.At = time.Now().UTC()
			body, err := wire.EncodeReceipt(receipt)
			if err == nil {
				_, err = receipts.Send(sqs.Message{Body: body})
			}
			if err == nil {
				err = inbox.Delete(message.ReceiptHandle)
			}
			if err != nil {
				c.t.Error(err)
			}
		}
	}
}

// put puts objects at a rate, whose events go into the outbox.
func (c *cloud) put(objects int, perSecond float64) {
	for i := range objects {
		body := event.Encode(wire.OpPut, wire.Source{
			Region: "us-east-1", Bucket: "source", Key: fmt.Sprintf("k%06d", i), ETag: "e", Size: 1,
			Sequencer: "00", EventTime: time.Now().UTC(),
		})
		if _, err := c.queue("outbox").Send(sqs.Message{Body: body}); err != nil {
			c.t.Fatal(err)
		}
		time.Sleep(time.Duration(float64(time.Second) / perSecond))
	}
}

// arrive waits, for hours at most, until all objects have arrived.
func (c *cloud) arrive(objects int) {
	for range 24 * 60 {
		time.Sleep(time.Minute)
		c.mu.Lock()
		n := len(c.copied)
		c.mu.Unlock()
		if n == objects {
			return
		}
	}
}

// Ten times what the receiver can pull comes for minutes. Hardly anything is
// signed twice, nothing is lost and the receiver does not run dry; without a gate
// the URLs die in the inbox.
func TestTenfoldOverload(t *testing.T) {
	const perSecond, objects = 2, 4_000
	for name, tc := range map[string]struct {
		senders int
		gated   bool
	}{"one sender": {1, true}, "five senders": {5, true}, "no gate": {2, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(t)
				gate := &backlog.Gate{Life: urlLife, Pace: c.Load}
				if !tc.gated { // to which all inboxes look empty
					gate.Pace = func(context.Context) (backlog.Pace, error) { return backlog.Pace{PerSecond: 1e9}, nil }
				}
				stop := c.run(gate, tc.senders, perSecond)
				start := time.Now()
				c.put(objects, 10*perSecond)
				c.arrive(objects)
				took := time.Since(start)
				stop()

				t.Logf("%d objects in %s, %d signed again, receiver idle for %s, pace %.2f/s",
					len(c.copied), took, c.expired, c.idle, c.pace.PerSecond)
				if !tc.gated {
					if c.expired < objects/10 {
						t.Errorf("%d signed again: this load does not need a gate, so the test shows nothing", c.expired)
					}
					return
				}
				if len(c.copied) != objects {
					t.Errorf("%d of %d objects arrived", len(c.copied), objects)
				}
				if c.expired >= objects/100 {
					t.Errorf("%d of %d signed again, expected less than 1 %%", c.expired, objects)
				}
				if c.idle > took/10 {
					t.Errorf("the receiver had nothing to do for %s of %s", c.idle, took)
				}
				for _, dead := range []string{"outbox-dead", "inbox-dead"} {
					if n := c.queue(dead).Counts(); n != (sqs.Counts{}) {
						t.Errorf("%s has %+v, such as because of %s", dead, n, *c.queue(dead).Receive(t.Context(), sqs.ReceiveOptions{Max: 1})[0].Attributes[settle.ReasonAttribute].StringValue)
					}
				}
			})
		})
	}
}

// Waiting never looks like failing: an event may be held back for as long as the
// outbox keeps it.
func TestHeldForTwoWeeks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		for i := range 1001 { // which no receiver takes out
			if _, err := c.queue("inbox").Send(sqs.Message{Body: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		stop := c.run(&backlog.Gate{Life: time.Second, Pace: c.Load}, 1, 0)
		defer stop()
		c.put(1, 1)
		time.Sleep(14*24*time.Hour - 2*time.Hour)
		outbox := c.queue("outbox")
		deadline := time.Now().Add(90 * time.Minute)
		for time.Now().Before(deadline) {
			if c.queue("outbox-dead").Counts() != (sqs.Counts{}) {
				t.Fatal("the event became a dead letter")
			}
			time.Sleep(time.Minute)
		}
		if n := outbox.Counts(); n.Visible+n.InFlight != 1 {
			t.Errorf("the outbox has %+v, expected the event", n)
		}
	})
}
