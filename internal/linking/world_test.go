package linking_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/localcloud/apigw"
	"github.com/s3ferry/s3ferry/internal/localcloud/control"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

const (
	trustName = "/ferry/trust"
	nobody    = `{"keys":[],"sources":[]}`
	apiKey    = "hunter2-hunter2-hunter2"
)

var source = link.Source{Bucket: "my-source", Region: "us-east-1"}

// world is two accounts with both stacks deployed, and a receiver that answers
// no-ops. Hooks are set before the first call.
type world struct {
	t         *testing.T
	control   *control.Server
	inbox     *sqs.Queue
	receipts  *sqs.Queue
	secretARN string
	api       string // URL of the stage
	events    string // output SourceEvents
	accessKey link.Credentials

	fault   func(region, action string) *control.Error
	knock   func(http.ResponseWriter) bool // answers in place of the API
	receive func(message string) (answer bool)
	outcome wire.Outcome // of what is trusted; "": linked

	mu      sync.Mutex
	actions []string // of the control plane, in order
	refused []string // messages that the receiver did not trust
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, link.Credentials{})
}

// newWorldWith is newWorld where requests to the mailbox have to be signed with
// the access key, unless it is zero.
func newWorldWith(t *testing.T, accessKey link.Credentials) *world {
	t.Helper()
	w := &world{t: t, accessKey: accessKey}
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { handler.ServeHTTP(rw, r) }))
	t.Cleanup(server.Close)
	queues := sqs.New(sqs.Config{Endpoint: server.URL, Region: "cn-north-1", Account: "000000000000"})
	w.inbox, w.receipts = w.queue(queues, "inbox"), w.queue(queues, "receipts")
	w.control = control.New(control.Config{Region: "us-east-1", Account: "000000000000", SQS: queues, Fault: func(region, action string) *control.Error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.actions = append(w.actions, action)
		if w.fault == nil {
			return nil
		}
		return w.fault(region, action)
	}})
	handler = w.control

	gateway, err := apigw.New(apigw.Config{
		Stage: "v1", Key: secret.New(apiKey), AccessKey: accessKey, SQS: server.URL,
		Queues: map[door.Queue]string{door.Inbox: w.inbox.URL(), door.Receipts: w.receipts.URL()},
	})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.knock == nil || !w.knock(rw) {
			gateway.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(api.Close)
	w.api = api.URL + "/v1"

	w.secretARN = w.control.CreateSecret("link")
	w.setTrust(nobody)
	w.control.PutAPIKey("key-id", apiKey)
	w.buckets(control.Bucket{}, control.Bucket{})
	w.stacks("CREATE_COMPLETE", "UPDATE_COMPLETE")
	w.profiles(server.URL)
	return w
}

func (w *world) queue(server *sqs.Server, name string) *sqs.Queue {
	q, err := server.Create(name, map[string]string{"VisibilityTimeout": "120"})
	if err != nil {
		w.t.Fatal(err)
	}
	return q
}

// buckets are those of both sides, with what is given of them, and one more.
func (w *world) buckets(from, to control.Bucket) {
	from.Name, to.Name = source.Bucket, "my-destination"
	if from.Region == "" {
		from.Region, from.EventBridge = source.Region, true
	}
	to.Region = cmp.Or(to.Region, "cn-north-1")
	for _, b := range []control.Bucket{from, to, {Name: "photos", Region: source.Region, EventBridge: true}} {
		w.control.PutBucket(b)
	}
}

func (w *world) stacks(global, china string) {
	w.control.PutStack(control.Stack{Region: "us-east-1", Name: linking.GlobalStack, Status: global, Outputs: map[string]string{
		"LinkSecretArn": w.secretARN, "SourceBucketName": source.Bucket, "SourceBucketRegion": source.Region,
		"OutboxUrl": "https://sqs.us-east-1.amazonaws.com/000000000000/outbox", "SourceEvents": w.events,
	}})
	outputs := map[string]string{
		"MailboxUrl": w.api + "/", "MailboxApiKeyId": "key-id", "TrustParameterName": trustName, "InboxUrl": w.inbox.URL(),
		"DestinationBucketName": "my-destination", "DestinationBucketRegion": "cn-north-1",
	}
	if k := w.accessKey; k.AccessKeyID != "" {
		outputs["MailboxAccessKeySecretArn"] = w.control.CreateSecret("access-key")
		if err := w.control.PutSecret("access-key", `{"accessKeyId":"`+k.AccessKeyID+`","secretAccessKey":"`+k.SecretAccessKey.Reveal()+`"}`); err != nil {
			w.t.Fatal(err)
		}
	}
	w.control.PutStack(control.Stack{Region: "cn-north-1", Name: linking.ChinaStack, Status: china, Outputs: outputs})
}

// profiles writes what an operator has in ~/.aws.
func (w *world) profiles(endpoint string) {
	dir := w.t.TempDir()
	var file, keys strings.Builder
	for profile, region := range map[string]string{"global": "us-east-1", "china": "cn-north-1", "empty": "us-west-2", "nowhere": ""} {
		fmt.Fprintf(&file, "[profile %s]\nendpoint_url = %s\n", profile, endpoint)
		if region != "" {
			fmt.Fprintf(&file, "region = %s\n", region)
		}
		fmt.Fprintf(&keys, "[%s]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = example\n", profile)
	}
	for name, text := range map[string]string{"AWS_CONFIG_FILE": file.String(), "AWS_SHARED_CREDENTIALS_FILE": keys.String()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.t.Setenv(name, path)
	}
	w.t.Setenv("AWS_REGION", "eu-west-1") // of neither side
	w.t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// run starts the receiver, until the test ends.
func (w *world) run() *world {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			for _, m := range w.inbox.Receive(ctx, sqs.ReceiveOptions{Max: 10, Wait: new(20 * time.Second)}) {
				w.handle(m.Body)
				_ = w.inbox.Delete(m.ReceiptHandle)
			}
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return w
}

// handle does what the receiver does with a no-op.
func (w *world) handle(body string) {
	trust, err := link.DecodeTrust([]byte(w.trust()), time.Now())
	if err != nil {
		return
	}
	t, err := wire.Verify(body, trust.Keys)
	if err != nil || !trust.Allows(t.Source.Bucket, t.Source.Region) {
		w.mu.Lock()
		w.refused = append(w.refused, body)
		w.mu.Unlock()
		return
	}
	if w.receive != nil && !w.receive(body) {
		return
	}
	r := wire.Receipt{ID: t.ID, Op: t.Op, Outcome: wire.Linked, Source: t.Source, Attempts: 1, At: time.Now().UTC()}
	if w.outcome != "" {
		r.Outcome, r.Class, r.Reason = w.outcome, "some-class", "some reason"
	}
	receipt, err := wire.EncodeReceipt(r)
	if err != nil {
		w.t.Error(err)
	}
	if _, err := w.receipts.Send(sqs.Message{Body: receipt}); err != nil {
		w.t.Error(err)
	}
}

func (w *world) trust() string {
	text, _ := w.control.Parameter(trustName)
	return text
}

func (w *world) setTrust(text string) {
	w.t.Helper()
	if err := w.control.PutParameter(trustName, text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) trusted() link.Trust {
	w.t.Helper()
	trust, err := link.DecodeTrust([]byte(w.trust()), time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return trust
}

// secret is the link secret as the functions read it.
func (w *world) secret() (link.Secret, error) {
	return link.DecodeSecret([]byte(w.control.Secret(w.secretARN, "AWSCURRENT")))
}

func (w *world) setSecret(text string) {
	w.t.Helper()
	if err := w.control.PutSecret(w.secretARN, text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) linker() *linking.Linker {
	return &linking.Linker{Times: linking.Times{
		Settle: time.Millisecond, Proof: 20 * time.Second, Poll: 5 * time.Millisecond,
		Switch: 20 * time.Millisecond, Quiet: 20 * time.Millisecond,
	}}
}

func (w *world) open(global, china string) (*linking.Global, *linking.China) {
	w.t.Helper()
	g, err := linking.OpenGlobal(w.t.Context(), linking.Side{Profile: global, Stack: linking.GlobalStack, Other: linking.ChinaStack})
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := linking.OpenChina(w.t.Context(), linking.Side{Profile: china, Stack: linking.ChinaStack, Other: linking.GlobalStack})
	if err != nil {
		w.t.Fatal(err)
	}
	return g, c
}

func (w *world) link(o linking.Options) (*linking.Result, error) {
	w.t.Helper()
	g, c := w.open("global", "china")
	return w.linker().Link(w.t.Context(), g, c, o)
}

func (w *world) mustLink(o linking.Options) *linking.Result {
	w.t.Helper()
	result, err := w.link(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

// writes are the calls so far that changed something, in order.
func (w *world) writes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var writes []string
	for _, action := range w.actions {
		if strings.HasPrefix(action, "Put") {
			writes = append(writes, action)
		}
	}
	return writes
}

func (w *world) refusals() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.refused)
}
