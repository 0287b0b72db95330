package apigw_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/localcloud/apigw"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/secret"
)

const key = "local-key"

// serve serves the API over queues at upstream.
func serve(t *testing.T, upstream string, change func(*apigw.Config)) string {
	t.Helper()
	c := apigw.Config{
		Stage: "prod", Key: secret.New(key), SQS: upstream,
		Queues: map[door.Queue]string{door.Inbox: upstream + "/000000000000/inbox", door.Receipts: upstream + "/000000000000/receipts"},
	}
	if change != nil {
		change(&c)
	}
	api, err := apigw.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return server.URL + "/prod"
}

// queues serves SQS with the mailbox's queues.
func queues(t *testing.T) (url string, inbox, receipts *sqs.Queue) {
	t.Helper()
	s := sqs.New(sqs.Config{Region: "cn-north-1", Account: "000000000000"})
	inbox, err := s.Create("inbox", nil)
	if err != nil {
		t.Fatal(err)
	}
	if receipts, err = s.Create("receipts", nil); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL, inbox, receipts
}

type request struct {
	method, path, key, contentType, body string
}

func (r request) do(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, url+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if r.key != "" {
		req.Header.Set(door.KeyHeader, r.key)
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(body))
}

const entry = `{"Id":"a","MessageBody":"aa.bb.cc"}`

func TestWhatTheAPIRefuses(t *testing.T) {
	upstream, inbox, _ := queues(t)
	url := serve(t, upstream, nil)
	ok := request{"POST", "/transfers", key, "application/json", `{"entries":[` + entry + `]}`}
	with := func(change func(*request)) request { r := ok; change(&r); return r }
	for name, tc := range map[string]struct {
		request request
		status  int
		message string
	}{
		"no key":             {with(func(r *request) { r.key = "" }), 403, "Forbidden"},
		"another key":        {with(func(r *request) { r.key = key + "x" }), 403, "Forbidden"},
		"another path":       {with(func(r *request) { r.path = "/transfer" }), 403, "Missing Authentication Token"},
		"a path below":       {with(func(r *request) { r.path = "/transfers/1" }), 403, "Missing Authentication Token"},
		"a double slash":     {with(func(r *request) { r.path = "//transfers" }), 403, "Missing Authentication Token"},
		"another method":     {with(func(r *request) { r.method = "PUT" }), 403, "Missing Authentication Token"},
		"a form":             {with(func(r *request) { r.contentType = "application/x-www-form-urlencoded" }), 415, "Unsupported Media Type"},
		"no JSON":            {with(func(r *request) { r.body = "{" }), 400, "Invalid request body"},
		"no body":            {with(func(r *request) { r.body = "" }), 400, "Invalid request body"},
		"not the model":      {with(func(r *request) { r.body = `{"entries":[]}` }), 400, "Invalid request body"},
		"a queue of its own": {with(func(r *request) { r.body = `{"entries":[` + entry + `],"QueueUrl":"x"}` }), 400, "Invalid request body"},
		"more than 10 MB":    {with(func(r *request) { r.body = strings.Repeat(" ", 10<<20+1) }), 413, "Request Too Long"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := tc.request.do(t, url)
			if want := fmt.Sprintf(`{"message":%q}`, tc.message); status != tc.status || body != want {
				t.Errorf("got %d %s, want %d %s", status, body, tc.status, want)
			}
		})
	}
	if n := inbox.Counts().Visible; n != 0 {
		t.Errorf("%d refused messages are in the inbox", n)
	}
	for name, r := range map[string]request{
		"as it should be": ok,
		"with a charset":  with(func(r *request) { r.contentType = "application/json; charset=utf-8" }),
		"without a type":  with(func(r *request) { r.contentType = "" }),
	} {
		if status, body := r.do(t, url); status != 200 {
			t.Errorf("%s: got %d %s", name, status, body)
		}
	}
}

// What an API key alone can send: none of it reaches the queue.
func TestAbusiveBodies(t *testing.T) {
	upstream, inbox, _ := queues(t)
	url := serve(t, upstream, nil)
	many := `{"entries":[` + strings.Repeat(entry+",", 9_999) + entry + `]}`
	for name, tc := range map[string]struct {
		body   string
		status int
	}{
		"10 MB of blanks":          {strings.Repeat(" ", 10<<20), 400},
		"10 MB in one message":     {`{"entries":[{"Id":"a","MessageBody":"aa.bb.` + strings.Repeat("c", 10<<20-100) + `"}]}`, 400},
		"10 MB in one name":        {`{"entries":[` + entry + `],"` + strings.Repeat("x", 10<<20-100) + `":1}`, 400},
		"a byte more than 10 MB":   {strings.Repeat(" ", 10<<20+1), 413},
		"10,000 entries":           {many, 400},
		"a million lists deep":     {strings.Repeat("[", 1_000_000), 400},
		"a deep and complete list": {strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000), 400},
		"deep objects":             {strings.Repeat(`{"entries":`, 500_000), 400},
		"deep in an entry":         {`{"entries":[{"Id":"a","MessageBody":` + strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000) + `}]}`, 400},
		"a huge number":            {`{"entries":[{"Id":1e999999999,"MessageBody":"aa.bb.cc"}]}`, 400},
		"no UTF-8":                 {"{\"entries\":[{\"Id\":\"\xff\",\"MessageBody\":\"aa.bb.cc\"}]}", 400},
		"a null byte":              {`{"entries":[{"Id":"a\u0000","MessageBody":"aa.bb.cc"}]}`, 400},
		"a template's reference":   {`{"entries":[{"Id":"a","MessageBody":"$input.body"}]}`, 400},
		"a quote that ends a text": {`{"entries":[{"Id":"a","MessageBody":"aa.bb.cc\",\"DelaySeconds\":900,\"x\":\""}]}`, 400},
	} {
		status, body := request{"POST", "/transfers", key, "application/json", tc.body}.do(t, url)
		if status != tc.status {
			t.Errorf("%s: got %d %.100s, want %d", name, status, body, tc.status)
		}
	}
	if n := inbox.Counts().Visible; n != 0 {
		t.Errorf("%d messages are in the inbox", n)
	}
}

func TestTheMailboxClientGetsThrough(t *testing.T) {
	upstream, inbox, receipts := queues(t)
	client := mailbox.Client{HTTP: mailbox.NewHTTPClient(), URL: serve(t, upstream, nil), Key: secret.New(key)}

	var messages []string
	for i := range 23 {
		messages = append(messages, fmt.Sprintf("aa.bb.%d", i))
	}
	for i, err := range client.Send(t.Context(), messages) {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if n := inbox.Counts().Visible; n != len(messages) {
		t.Errorf("%d messages in the inbox, want %d", n, len(messages))
	}

	inbox.Receive(t.Context(), sqs.ReceiveOptions{Max: 5})
	if depth, err := client.Depth(t.Context()); err != nil || depth != (mailbox.Depth{Waiting: 18, Begun: 5}) {
		t.Errorf("the inbox has %+v, %v", depth, err)
	}

	body := `{"outcome":"copied","key":"\"你好\" \\"}`
	if _, err := receipts.Send(sqs.Message{Body: body}); err != nil {
		t.Fatal(err)
	}
	got, err := client.Receive(t.Context())
	if err != nil || len(got) != 1 || got[0].Body != body {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := client.Delete(t.Context(), []string{got[0].Handle}); err != nil {
		t.Fatal(err)
	}
	if c := receipts.Counts(); c != (sqs.Counts{}) {
		t.Errorf("%+v left", c)
	}
}

var accessKey = link.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: secret.New("example"), Region: "cn-north-1"}

// iamOnly is an API whose methods' authorization is IAM.
func iamOnly(c *apigw.Config) { c.AccessKey = accessKey }

// What the mailbox client signs is let in, and nothing that was changed on its
// way or signed otherwise.
func TestIAM(t *testing.T) {
	upstream, inbox, receipts := queues(t)
	url := serve(t, upstream, iamOnly)
	transport := &tampering{}
	client := mailbox.Client{
		HTTP: &http.Client{Transport: transport}, URL: url, Key: secret.New(key), Credentials: accessKey,
	}
	if _, err := receipts.Send(sqs.Message{Body: "{}"}); err != nil {
		t.Fatal(err)
	}
	if err := client.Send(t.Context(), []string{"aa.bb.cc", "aa.bb.dd"})[0]; err != nil {
		t.Error(err)
	}
	if got, err := client.Receive(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	} else if err := client.Delete(t.Context(), []string{got[0].Handle}); err != nil {
		t.Error(err)
	}

	taken := inbox.Counts().Visible
	for name, tc := range map[string]struct {
		credentials func(*link.Credentials)
		key         string
		tamper      func(*http.Request)
		says        string
	}{
		"not signed":      {func(c *link.Credentials) { *c = link.Credentials{} }, key, nil, "Missing Authentication Token"},
		"another user":    {func(c *link.Credentials) { c.AccessKeyID = "AKIAOTHER" }, key, nil, "security token"},
		"another secret":  {func(c *link.Credentials) { c.SecretAccessKey = secret.New("x") }, key, nil, "does not match"},
		"another region":  {func(c *link.Credentials) { c.Region = "us-east-1" }, key, nil, "does not match"},
		"without API key": {nil, "", nil, "Forbidden"},
		"another body": {nil, key, func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"entries":[{"Id":"0","MessageBody":"aa.bb.xx"}]}`))
		}, "does not match"},
		"another API key":  {nil, key, func(r *http.Request) { r.Header.Set(door.KeyHeader, key+"x") }, "does not match"},
		"another query":    {nil, key, func(r *http.Request) { r.URL.RawQuery = "a=b" }, "does not match"},
		"another method":   {nil, key, func(r *http.Request) { r.URL.Path = "/prod/receipts/delete" }, "does not match"},
		"another host":     {nil, key, func(r *http.Request) { r.Host = "elsewhere" }, "does not match"},
		"an old signature": {nil, key, func(r *http.Request) { resign(t, r, -6*time.Minute, door.SigningName) }, "expired"},
		"a future one":     {nil, key, func(r *http.Request) { resign(t, r, 6*time.Minute, door.SigningName) }, "expired"},
		"another service":  {nil, key, func(r *http.Request) { resign(t, r, 0, "sqs") }, "does not match"},
		"another date": {nil, key, func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().UTC().Add(-time.Minute).Format("20060102T150405Z"))
		}, "does not match"},
		"no signature": {nil, key, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, "not that of a signed request"},
	} {
		transport.tamper = tc.tamper
		c := client
		c.Key = secret.New(tc.key)
		if tc.credentials != nil {
			tc.credentials(&c.Credentials)
		}
		if err := c.Send(t.Context(), []string{"aa.bb.cc"})[0]; !errors.Is(err, mailbox.ErrDenied) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, expected a denial with %q", name, err, tc.says)
		}
	}
	if n := inbox.Counts().Visible; n != taken {
		t.Errorf("%d refused messages are in the inbox", n-taken)
	}
	transport.tamper = func(r *http.Request) { resign(t, r, -4*time.Minute, door.SigningName) }
	if err := client.Send(t.Context(), []string{"aa.bb.cc"})[0]; err != nil {
		t.Errorf("a clock that is 4 minutes slow: %v", err)
	}
}

// tampering changes requests after they were signed.
type tampering struct{ tamper func(*http.Request) }

func (p *tampering) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.tamper != nil {
		r = r.Clone(r.Context())
		p.tamper(r)
		if r.ContentLength >= 0 {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// resign signs the request again, as if it were another time or for another service.
func resign(t *testing.T, r *http.Request, ahead time.Duration, service string) {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	digest := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{
		AccessKeyID: accessKey.AccessKeyID, SecretAccessKey: accessKey.SecretAccessKey.Reveal(),
	}, r, hex.EncodeToString(digest[:]), service, accessKey.Region, time.Now().Add(ahead))
	if err != nil {
		t.Error(err)
	}
}

// Ten entries of the largest size are one request; what SQS then fails by entry
// is passed through as it is.
func TestSQSAnswersPassThrough(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if got, want := r.Header.Get("X-Amz-Target")+" "+string(body), `AmazonSQS.SendMessageBatch {"Entries":[`+entry+`],"QueueUrl":"http://q/inbox"}`; got != want {
			t.Errorf("integration request %s, want %s", got, want)
		}
		_, _ = io.WriteString(w, `{"Failed":[{"Id":"a"}]}`)
	}))
	defer upstream.Close()
	url := serve(t, upstream.URL, func(c *apigw.Config) { c.Queues[door.Inbox] = "http://q/inbox" })
	status, body := request{"POST", "/transfers", key, "application/json", `{"entries":[` + entry + `]}`}.do(t, url)
	if status != 200 || body != `{"Failed":[{"Id":"a"}]}` {
		t.Errorf("got %d %s", status, body)
	}
}

func TestSQSErrorsBecomeUnavailable(t *testing.T) {
	for _, code := range []int{400, 403, 500, 503} {
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		url := serve(t, upstream.URL, nil)
		if status, body := (request{method: "GET", path: "/receipts", key: key}).do(t, url); status != 503 || body != `{"message":"Service Unavailable"}` {
			t.Errorf("SQS says %d: got %d %s", code, status, body)
		}
		upstream.Close()
		if status, _ := (request{method: "GET", path: "/receipts", key: key}).do(t, url); status != 500 {
			t.Errorf("SQS is gone: got %d, want 500", status)
		}
	}
}

func TestQuota(t *testing.T) {
	upstream, inbox, _ := queues(t)
	url := serve(t, upstream, func(c *apigw.Config) { c.Quota = 2 })
	send := request{method: "POST", path: "/transfers", key: key, body: `{"entries":[` + entry + `]}`}
	(request{method: "POST", path: "/transfers", key: "other", body: send.body}).do(t, url) // strangers use up nothing
	for i, want := range []int{200, 200, 429, 429} {
		if status, body := send.do(t, url); status != want || want == 429 && body != `{"message":"Limit Exceeded"}` {
			t.Errorf("request %d: got %d %s, want %d", i+1, status, body, want)
		}
	}
	if n := inbox.Counts().Visible; n != 2 {
		t.Errorf("%d messages are in the inbox, want 2", n)
	}
}

func TestThrottle(t *testing.T) {
	upstream, _, _ := queues(t)
	url := serve(t, upstream, func(c *apigw.Config) { c.Rate, c.Burst = 1e-9, 3 })
	get := request{method: "GET", path: "/receipts", key: key}
	// Strangers do not use up what the key's owner may do.
	for range 5 {
		(request{method: "GET", path: "/receipts", key: "other"}).do(t, url)
	}
	var got []int
	for range 5 {
		status, body := get.do(t, url)
		got = append(got, status)
		if status == 429 && body != `{"message":"Too Many Requests"}` {
			t.Errorf("got %s", body)
		}
	}
	if diff := cmp.Diff([]int{200, 200, 200, 429, 429}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestEveryRouteNeedsAQueue(t *testing.T) {
	if _, err := apigw.New(apigw.Config{Key: secret.New(key)}); err == nil || !strings.Contains(err.Error(), "inbox") {
		t.Errorf("got %v, want an error that names the queue", err)
	}
}

func BenchmarkSend(b *testing.B) {
	s := sqs.New(sqs.Config{})
	for _, name := range []string{"inbox", "receipts"} {
		if _, err := s.Create(name, nil); err != nil {
			b.Fatal(err)
		}
	}
	upstream := httptest.NewServer(s)
	defer upstream.Close()
	api, err := apigw.New(apigw.Config{Key: secret.New(key), SQS: upstream.URL, Queues: map[door.Queue]string{
		door.Inbox: upstream.URL + "/0/inbox", door.Receipts: upstream.URL + "/0/receipts",
	}})
	if err != nil {
		b.Fatal(err)
	}
	body, _ := json.Marshal(map[string]any{"entries": []map[string]string{{"Id": "a", "MessageBody": "a.b." + strings.Repeat("c", 4096)}}})
	for b.Loop() {
		r := httptest.NewRequestWithContext(context.Background(), "POST", "//transfers", strings.NewReader(string(body)))
		r.Header.Set(door.KeyHeader, key)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}
