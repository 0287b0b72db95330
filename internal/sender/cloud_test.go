package sender

import (
	"bytes"
	"crypto/ed25519"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/mailbox/mailboxtest"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// cloud is the part of AWS that a Sender talks to, as far as it does.
type cloud struct {
	t *testing.T

	mu         sync.Mutex
	objects    map[string]object // by key, and version after a NUL
	asked      []string          // requests to S3
	sessions   int               // times the signer role was assumed
	signerLife time.Duration
	link       func() string // the link secret; "" has no value
	pace       string        // the pace parameter
	dead       []deadLetter
	hidden     map[string]int // seconds by receipt handle
	logs       bytes.Buffer
}

type object struct {
	status int    // 0 is 200
	code   string // of the error that a GET gets
	header map[string]string
	tags   map[string]string
}

type deadLetter struct{ Body, Class, Reason string }

// newCloud starts a cloud, and a Sender in it that is linked to api.
func newCloud(t *testing.T, api *mailboxtest.Server) (*cloud, *Sender, ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	document, err := link.EncodeSecret(link.Secret{
		APIURL: api.URL, APIKey: secret.New(api.Key), SigningKey: wire.SigningKey{ID: "k1", Key: secret.New(private)},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{
		t: t, objects: map[string]object{}, hidden: map[string]int{}, signerLife: time.Hour, pace: "{}",
		link: func() string { return string(document) },
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
		"AWS_ACCESS_KEY_ID": "AKIDSENDER", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none",
		"S3FERRY_OUTBOX_URL": server.URL + "/outbox", "S3FERRY_OUTBOX_DLQ_URL": server.URL + "/dead",
		"S3FERRY_LINK_SECRET": "the-link", "S3FERRY_SIGNER_ROLE": "arn:aws:iam::111122223333:role/signer",
		"S3FERRY_URL_LIFE": "45m", "S3FERRY_NAME": "stack-Sender", "S3FERRY_CONCURRENCY": "2", "S3FERRY_PACE_PARAMETER": "/pace", "S3FERRY_TEST_SOURCE_ENDPOINT": "http://127.0.0.2:9000",
	} {
		t.Setenv(name, value)
	}
	s, err := FromEnvironment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Link.Pause = 0
	s.Log = slog.New(obs.Scrub(slog.NewJSONHandler(&c.logs, nil)))
	s.Outbox.Log, s.Gate.Log = s.Log, s.Log
	t.Cleanup(func() {
		for _, leak := range []string{"X-Amz-Signature", "X-Amz-Security-Token", api.Key} {
			if strings.Contains(c.logs.String(), leak) {
				t.Errorf("%s is in the log:\n%s", leak, c.logs.String())
			}
		}
	})
	return c, s, public
}

// put stores an object and returns what an event says of it.
func (c *cloud) put(key, version string, o object) wire.Source {
	if o.header == nil {
		o.header = map[string]string{}
	}
	if o.header["ETag"] == "" {
		o.header["ETag"] = `"e1"`
	}
	c.objects[key+"\x00"+version] = o
	return wire.Source{
		Region: "us-east-1", Bucket: "source", Key: key, VersionID: version, ETag: "e1", Size: 7,
		Sequencer: "0061", EventTime: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
	}
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch target := r.Header.Get("X-Amz-Target"); {
	case target == "secretsmanager.GetSecretValue":
		c.secretsManager(w)
	case target == "AmazonSSM.GetParameter":
		_ = json.NewEncoder(w).Encode(map[string]any{"Parameter": map[string]string{"Value": c.pace}})
	case strings.HasPrefix(target, "AmazonSQS."):
		c.sqs(w, strings.TrimPrefix(target, "AmazonSQS."), body)
	case bytes.Contains(body, []byte("Action=AssumeRole")):
		c.sessions++
		expires := time.Now().Add(c.signerLife).UTC().Format(time.RFC3339)
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
			<AccessKeyId>ASIASIGNER</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>signer-token</SessionToken>
			<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, expires)
	default:
		c.s3(w, r)
	}
}

func (c *cloud) secretsManager(w http.ResponseWriter) {
	value := c.link()
	if value == "" {
		w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": value})
}

func (c *cloud) sqs(w http.ResponseWriter, action string, body []byte) {
	var in struct {
		MessageBody       string
		MessageAttributes map[string]struct{ StringValue string }
		Entries           []struct {
			Id, ReceiptHandle string
			VisibilityTimeout int
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		c.t.Error(err)
	}
	switch action {
	case "SendMessage":
		c.dead = append(c.dead, deadLetter{
			in.MessageBody, in.MessageAttributes[settle.ClassAttribute].StringValue, in.MessageAttributes[settle.ReasonAttribute].StringValue,
		})
		sum := md5.Sum([]byte(in.MessageBody))
		_ = json.NewEncoder(w).Encode(map[string]string{"MessageId": "m", "MD5OfMessageBody": hex.EncodeToString(sum[:])})
	case "ChangeMessageVisibilityBatch":
		for _, e := range in.Entries {
			c.hidden[e.ReceiptHandle] = e.VisibilityTimeout
		}
		_, _ = io.WriteString(w, `{"Successful":[],"Failed":[]}`)
	default:
		c.t.Errorf("unexpected SQS action %s", action)
	}
}

func (c *cloud) s3(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/source/")
	query := r.URL.Query()
	c.asked = append(c.asked, r.Method+" "+key)
	o, ok := c.objects[key+"\x00"+query.Get("versionId")]
	if !ok {
		o = object{status: http.StatusNotFound, code: "NoSuchKey"}
	}
	if o.status == -1 { // the network breaks
		panic(http.ErrAbortHandler)
	}
	if o.status != 0 {
		w.WriteHeader(o.status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<Error><Code>%s</Code><Message>%s</Message></Error>`, o.code, o.header["message"])
		}
		return
	}
	if query.Has("tagging") {
		var set strings.Builder
		for k, v := range o.tags {
			fmt.Fprintf(&set, `<Tag><Key>%s</Key><Value>%s</Value></Tag>`, k, v)
		}
		fmt.Fprintf(w, `<Tagging><TagSet>%s</TagSet></Tagging>`, set.String())
		return
	}
	if r.Header.Get("X-Amz-Checksum-Mode") != "ENABLED" {
		c.t.Errorf("%s %s without checksum mode", r.Method, key)
	}
	w.Header().Set("Content-Length", "7")
	for name, value := range o.header {
		w.Header().Set(name, value)
	}
	if len(o.tags) > 0 {
		w.Header().Set("X-Amz-Tagging-Count", fmt.Sprint(len(o.tags)))
	}
}

// batch makes a batch of the outbox out of message bodies.
func batch(bodies ...string) events.SQSEvent {
	var b events.SQSEvent
	for i, body := range bodies {
		b.Records = append(b.Records, events.SQSMessage{
			MessageId: fmt.Sprintf("m%d", i), ReceiptHandle: fmt.Sprintf("h%d", i), Body: body,
			Attributes: map[string]string{"ApproximateReceiveCount": "1"},
		})
	}
	return b
}

// told makes one message a source.
func told(sources ...wire.Source) []string {
	var bodies []string
	for _, s := range sources {
		bodies = append(bodies, event.Encode(wire.OpPut, s))
	}
	return bodies
}

// failures returns the IDs of the messages that stay.
func failures(r events.SQSEventResponse) []string {
	var ids []string
	for _, f := range r.BatchItemFailures {
		ids = append(ids, f.ItemIdentifier)
	}
	return ids
}

// transfers opens what arrived in the inbox.
func transfers(t *testing.T, api *mailboxtest.Server, key ed25519.PublicKey) []*wire.Transfer {
	t.Helper()
	var all []*wire.Transfer
	for _, message := range api.Inbox() {
		transfer, err := wire.Verify(message, wire.PublicKeys{"k1": key})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, transfer)
	}
	return all
}

func parseURL(t *testing.T, s secret.String) *url.URL {
	t.Helper()
	u, err := url.Parse(s.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return u
}
