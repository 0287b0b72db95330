package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// roles are those of the callers, as the reviewed inventories name them. "signer"
// is whoever uses a signed URL: it works with what the signer role may do.
var roles = map[string]string{
	"sender": "SenderSenderRole", "courier": "SenderCourierRole", "receiver": "ReceiverRole", "signer": "SenderSignerRole",
}

// resources are what the laptop cloud has in place of those of the templates.
var resources = map[string]string{
	"source": "${SenderSourceBucket.Arn}", "destination": "${ReceiverDestinationBucket.Arn}", "journal": "${ReceiverJournalBucket.Arn}",
	"outbox": "${SenderOutbox.Arn}", "outbox-dlq": "${SenderOutboxDeadLetters.Arn}",
	"inbox": "${MailboxInbox.Arn}", "inbox-dlq": "${MailboxInboxDeadLetters.Arn}", "receipts": "${MailboxReceipts.Arn}",
	"s3ferry-link": "${SenderLinkSecret}", "signer": "${SenderSignerRole.Arn}",
	"trust": "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/${ReceiverTrust}",
	"pace":  "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/${SenderPace}",
}

// unseen are permissions that no call of a function on a laptop can need, each
// with the reason why it is there.
var unseen = map[*regexp.Regexp]string{
	regexp.MustCompile(`^\w+ logs:(CreateLogStream|PutLogEvents) `): "Lambda writes the function's log as its role",
	regexp.MustCompile(`^(SenderSenderRole sqs:(ReceiveMessage|DeleteMessage|GetQueueAttributes) on \$\{SenderOutbox.Arn\}` +
		`|ReceiverRole sqs:(ReceiveMessage|DeleteMessage|GetQueueAttributes) on \$\{MailboxInbox.Arn\})$`): "Lambda reads the queue of an event source mapping as the function's role",
}

// recorder stands between the functions and everything of AWS that they call,
// and notes the permission that each call needs.
type recorder struct {
	url string
	// meddle may answer a call in place of AWS.
	meddle func(w http.ResponseWriter, r *http.Request, caller, operation, key string) bool

	ready    chan struct{} // closed once there is a cloud
	cloud    *local
	mu       sync.Mutex
	needed   map[string]bool // role, action, "on", resource
	problems []string
}

func startRecorder(t *testing.T) *recorder {
	t.Helper()
	rec := &recorder{ready: make(chan struct{}), needed: map[string]bool{}}
	server := httptest.NewServer(rec)
	t.Cleanup(server.Close)
	rec.url = server.URL
	return rec
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	<-rec.ready
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	caller := "signer"
	if !r.URL.Query().Has("X-Amz-Signature") {
		_, app, _ := strings.Cut(r.UserAgent(), "app/")
		caller, _, _ = strings.Cut(app, " ")
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	target, operation := rec.cloud.SQS.Endpoint, gate.ByTarget(r)
	isS3 := r.Header.Get("X-Amz-Target") == "" && bucket != ""
	if isS3 {
		operation = gate.ByS3(r)
		target = rec.cloud.Destination.Endpoint
		if bucket == "source" {
			target = rec.cloud.Source.Endpoint
		}
	}
	status := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	if rec.meddle == nil || !rec.meddle(status, r, caller, operation, key) {
		to, err := url.Parse(target)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		(&httputil.ReverseProxy{
			// The Host header is signed, so it stays as it came.
			Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to); p.Out.Host = p.In.Host },
		}).ServeHTTP(status, r)
	}
	if isS3 {
		rec.noteS3(r, caller, operation, bucket, status.status)
	} else {
		rec.noteService(caller, operation, body)
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (rec *recorder) note(caller, action, resource string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if roles[caller] == "" || resource == "" {
		rec.problems = append(rec.problems, fmt.Sprintf("%s by %q on %q: this test knows one of them not", action, caller, resource))
		return
	}
	rec.needed[roles[caller]+" "+action+" on "+resource] = true
}

// noteS3 notes what S3 would ask for.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
func (rec *recorder) noteS3(r *http.Request, caller, operation, bucket string, status int) {
	ofVersion := func(action string) string {
		if r.URL.Query().Get("versionId") != "" {
			return strings.Replace(action, "Object", "ObjectVersion", 1)
		}
		return action
	}
	arn := resources[bucket]
	switch operation {
	case "ListMultipartUploads":
		rec.note(caller, "s3:ListBucketMultipartUploads", arn)
		return
	case "ListObjectsV2":
		rec.note(caller, "s3:ListBucket", arn)
		return
	}
	action := map[string]string{
		"HeadObject": ofVersion("GetObject"), "GetObject": ofVersion("GetObject"), "GetObjectTagging": ofVersion("GetObjectTagging"),
		"PutObject": "PutObject", "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject", "CompleteMultipartUpload": "PutObject",
		"AbortMultipartUpload": "AbortMultipartUpload", "ListParts": "ListMultipartUploadParts", "DeleteObject": "DeleteObject",
	}[operation]
	if action == "" {
		action = "of " + operation // and so not allowed
	}
	rec.note(caller, "s3:"+action, arn+"/*")
	if r.Header.Get("X-Amz-Tagging") != "" {
		rec.note(caller, "s3:PutObjectTagging", arn+"/*")
	}
	// A conditional overwrite also asks to read, and without ListBucket what is
	// not there is answered with 403.
	if r.Header.Get("If-Match") != "" && r.Method == http.MethodPut {
		rec.note(caller, "s3:GetObject", arn+"/*")
	}
	if status == http.StatusNotFound && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		rec.note(caller, "s3:ListBucket", arn)
	}
}

func (rec *recorder) noteService(caller, operation string, body []byte) {
	if operation == "POST /" { // the query protocol
		form, _ := url.ParseQuery(string(body))
		arn := form.Get("RoleArn")
		rec.note(caller, "sts:"+form.Get("Action"), resources[arn[strings.LastIndex(arn, "/")+1:]])
		return
	}
	var in struct{ QueueURL, SecretID, Name string }
	_ = json.Unmarshal(body, &in) // no name is a problem of its own
	service, action, _ := strings.Cut(operation, ".")
	service = map[string]string{"AmazonSQS": "sqs", "AmazonSSM": "ssm"}[service] + map[string]string{"secretsmanager": "secretsmanager"}[service]
	name := in.QueueURL + in.SecretID + in.Name
	// The batches are not actions of their own.
	rec.note(caller, service+":"+strings.TrimSuffix(action, "Batch"), resources[name[strings.LastIndex(name, "/")+1:]])
}

// granted returns what the templates allow the given roles, as reviewed.
func granted(t *testing.T, roles ...string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, stack := range []string{"GlobalSender", "ChinaReceiver"} {
		data, err := os.ReadFile("../../infra/testdata/" + stack + ".iam.txt")
		if err != nil {
			t.Fatal(err)
		}
		role := ""
		for line := range strings.Lines(string(data)) {
			statement, _, _ := strings.Cut(strings.TrimSpace(line), "  # ")
			statement, _, _ = strings.Cut(statement, " if ")
			allowed, isGrant := strings.CutPrefix(statement, "Allow ")
			switch {
			case !strings.HasPrefix(line, " "):
				role = statement
			case isGrant && slices.Contains(roles, role):
				found[role+" "+allowed] = true
			}
		}
	}
	return found
}

// Every call of the functions is allowed to the role that makes it, and nothing
// is allowed that no call needs.
func TestRolesMayDoWhatFunctionsDo(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	args := []string{"--presign-endpoint", rec.url, "--env", "S3FERRY_SEGMENT_SIZE=16777216"}
	for _, service := range []string{"S3", "SQS", "SECRETS_MANAGER", "SSM", "STS"} {
		args = append(args, "--env", "AWS_ENDPOINT_URL_"+service+"="+rec.url)
	}
	first := map[string]string{} // signature of a key's first URL
	var mu sync.Mutex
	refuse := func(w http.ResponseWriter, status int, code, message string) bool {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
		return true
	}
	rec.meddle = func(w http.ResponseWriter, r *http.Request, caller, operation, key string) bool {
		mu.Lock()
		defer mu.Unlock()
		begins := strings.HasPrefix(r.Header.Get("Range"), "bytes=0-")
		switch {
		case caller == "sender" && operation == "HeadObject" && key == "busy" && !rec.has("SenderSenderRole sqs:ChangeMessageVisibility on "+resources["outbox"]):
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case caller != "signer":
		case key == "vanishes":
			version := r.URL.Query().Get("versionId")
			_, _ = rec.cloud.source.DeleteObject(r.Context(), &s3.DeleteObjectInput{Bucket: aws.String("source"), Key: &key, VersionId: &version})
		case key == "changes" && !begins:
			return refuse(w, http.StatusPreconditionFailed, "PreconditionFailed", "it was changed")
		case key == "expires":
			signature := r.URL.Query().Get("X-Amz-Signature")
			if first[key] == "" {
				first[key] = signature
			}
			if first[key] == signature && !begins {
				return refuse(w, http.StatusForbidden, "AccessDenied", "Request has expired")
			}
		}
		return false
	}
	rec.cloud = startLocal(t, args...)
	close(rec.ready)
	l := rec.cloud

	put := func(key string, size int) *s3.PutObjectOutput {
		t.Helper()
		out, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &l.Source.Bucket, Key: &key, Body: bytes.NewReader(body(size)), Tagging: aws.String("a=b"),
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	send := func(queue, message string) {
		t.Helper()
		if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: &message}); err != nil {
			t.Fatal(err)
		}
	}
	tell := func(key, etag, sequencer string, size int64) {
		send(l.SQS.Queues.Outbox, event.Encode(wire.OpPut, wire.Source{
			Region: l.Source.Region, Bucket: l.Source.Bucket, Key: key, ETag: strings.Trim(etag, `"`), Size: size, Sequencer: sequencer, EventTime: time.Now(),
		}))
	}
	small := put("small", 10)
	l.arrived(t, "small", *small.ETag)
	tell("small", *small.ETag, "FFFF", 10) // as of a bucket without versions
	tell("never", "etag", "1", 10)
	put("vanishes", 10)
	put("busy", 10)
	expires := put("expires", 12<<20)
	put("changes", 12<<20)
	segments := put("segments", 40<<20)
	send(l.SQS.Queues.Outbox, "garbage")
	send(l.SQS.Queues.Inbox, "garbage")
	send(l.SQS.Queues.Receipts, "garbage")
	l.arrived(t, "expires", *expires.ETag)
	l.arrived(t, "segments", *segments.ETag)

	allowed := granted(t, slices.Collect(maps.Values(roles))...)
	missing := func() (unused []string) {
		for permission := range allowed {
			if !rec.has(permission) && !slices.ContainsFunc(slices.Collect(maps.Keys(unseen)), func(r *regexp.Regexp) bool { return r.MatchString(permission) }) {
				unused = append(unused, permission)
			}
		}
		slices.Sort(unused)
		return unused
	}
	for deadline := time.Now().Add(patience); len(missing()) > 0 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
	}
	for _, permission := range missing() {
		t.Errorf("allowed, but no call needs it: %s", permission)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, permission := range slices.Sorted(maps.Keys(rec.needed)) {
		if !allowed[permission] {
			t.Errorf("a call needs it, but it is not allowed: %s", permission)
		}
	}
	for _, problem := range rec.problems {
		t.Error(problem)
	}
	t.Logf("%d permissions were needed of %d", len(rec.needed), len(allowed))
}

func (rec *recorder) has(permission string) bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.needed[permission]
}

// The same of API Gateway, whose calls are those of the routes.
func TestTheAPIMayDoWhatItsRoutesDo(t *testing.T) {
	t.Parallel()
	const role = "MailboxApiRole"
	needed := map[string]bool{}
	for _, route := range door.Routes() {
		needed[role+" sqs:"+strings.TrimSuffix(route.Action, "Batch")+" on "+resources[string(route.Queue)]] = true
	}
	if diff := cmp.Diff(needed, granted(t, role)); diff != "" {
		t.Errorf("the routes need (-), the template allows (+):\n%s", diff)
	}
}
