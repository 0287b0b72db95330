package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/mailbox/mailboxtest"
	"github.com/s3ferry/s3ferry/internal/secret"
)

func newClient(s *mailboxtest.Server) *Client {
	return &Client{HTTP: NewHTTPClient(), URL: s.URL, Key: secret.New(s.Key), Pause: time.Millisecond}
}

func transfers(n int) []string {
	messages := make([]string, n)
	for i := range messages {
		messages[i] = fmt.Sprintf("head.body%d.signature", i)
	}
	return messages
}

// classes is the class of each error, with an exclamation mark if permanent.
func classes(errs []error) []string {
	out := make([]string, len(errs))
	for i, err := range errs {
		switch {
		case err == nil:
		case fault.IsPermanent(err):
			out[i] = fault.Class(err) + "!"
		default:
			out[i] = fault.Class(err)
		}
	}
	return out
}

func TestSendInTens(t *testing.T) {
	server := mailboxtest.New(t)
	want := transfers(23)
	for i, err := range newClient(server).Send(t.Context(), want) {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if diff := cmp.Diff(want, server.Inbox()); diff != "" {
		t.Errorf("inbox (-want +got):\n%s", diff)
	}
	if n := len(server.Requests()); n != 3 {
		t.Errorf("got %d requests for 23 messages, expected 3", n)
	}
}

func TestDepth(t *testing.T) {
	all := map[string]string{
		"ApproximateNumberOfMessages": "1200", "ApproximateNumberOfMessagesNotVisible": "30", "ApproximateNumberOfMessagesDelayed": "4",
	}
	for name, tc := range map[string]struct {
		change map[string]string
		want   Depth
		fails  bool
	}{
		"as it is":    {nil, Depth{Waiting: 1200, Begun: 34}, false},
		"empty":       {map[string]string{"ApproximateNumberOfMessages": "0"}, Depth{Begun: 34}, false},
		"one missing": {map[string]string{"ApproximateNumberOfMessagesDelayed": ""}, Depth{}, true},
		"negative":    {map[string]string{"ApproximateNumberOfMessages": "-1"}, Depth{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := mailboxtest.New(t)
			server.Attributes = maps.Clone(all)
			maps.Copy(server.Attributes, tc.change)
			got, err := newClient(server).Depth(t.Context())
			if got != tc.want || (err != nil) != tc.fails || err != nil && fault.Class(err) != Border {
				t.Errorf("got %+v, %v; expected %+v", got, err, tc.want)
			}
		})
	}
}

func TestSendNothing(t *testing.T) {
	server := mailboxtest.New(t)
	if errs := newClient(server).Send(t.Context(), nil); len(errs) != 0 || len(server.Requests()) != 0 {
		t.Errorf("got %v and %d requests", errs, len(server.Requests()))
	}
}

func TestSendSomeRefusedByTheQueue(t *testing.T) {
	server := mailboxtest.New(t)
	messages := transfers(4)
	server.Refuse = func(entry string) (string, bool) {
		switch entry {
		case messages[1]:
			return "InternalError", false
		case messages[2]:
			return "InvalidMessageContents", true
		}
		return "", false
	}
	got := classes(newClient(server).Send(t.Context(), messages))
	if diff := cmp.Diff([]string{"", "border", "refused-by-api!", ""}, got); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
}

// The model of the API refuses a request as a whole.
func TestOneBadMessageDoesNotHurtTheRest(t *testing.T) {
	server := mailboxtest.New(t)
	messages := transfers(10)
	messages[3] = "not a JWS"
	got := classes(newClient(server).Send(t.Context(), messages))
	want := make([]string, 10)
	want[3] = "refused-by-api!"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
	if n := len(server.Inbox()); n != 9 {
		t.Errorf("inbox has %d messages, expected 9", n)
	}
}

func TestAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer   mailboxtest.Answer
		times    int // 0: always
		class    string
		text     string
		requests int
	}{
		"throttled, then fine":   {mailboxtest.Answer{Status: 429, Body: `{"message":"Too Many Requests"}`}, 2, "", "", 3},
		"throttled":              {mailboxtest.Answer{Status: 429, Body: `{"message":"Limit Exceeded"}`}, 0, "border", "Limit Exceeded", tries},
		"unavailable, then fine": {mailboxtest.Answer{Status: 503}, 1, "", "", 2},
		"unavailable":            {mailboxtest.Answer{Status: 503, Body: `{"message":"mailbox unavailable"}`}, 0, "border", "503", tries},
		"internal error":         {mailboxtest.Answer{Status: 500}, 0, "border", "500", tries},
		"gateway timeout":        {mailboxtest.Answer{Status: 504}, 0, "border", "504", tries},
		"waits, then fine":       {mailboxtest.Answer{Status: 429, RetryAfter: "0"}, 1, "", "", 2},
		"long wait":              {mailboxtest.Answer{Status: 503, RetryAfter: "600"}, 0, "border", "503", 1},
		"redirect":               {mailboxtest.Answer{Status: 302}, 0, "border", "302", tries},
		"not the API":            {mailboxtest.Answer{Status: 200, Body: "<html>"}, 0, "border", "html", tries},
		"wrong key":              {mailboxtest.Answer{Status: 403, Body: `{"message":"Forbidden"}`}, 0, "link-denied", "s3ferry link", 1},
		"no ICP":                 {mailboxtest.Answer{Status: 403, Body: `{"Message":null}`}, 0, "link-denied", "ICP", 1},
		"unauthorized":           {mailboxtest.Answer{Status: 401}, 0, "link-denied", "401", 1},
		"bad request":            {mailboxtest.Answer{Status: 400, Body: `{"message":"Invalid request body"}`}, 0, "refused-by-api!", "Invalid request body", 1},
		"too large":              {mailboxtest.Answer{Status: 413}, 0, "refused-by-api!", "413", 1},
		"media type":             {mailboxtest.Answer{Status: 415}, 0, "refused-by-api!", "415", 1},
		"empty batch answer":     {mailboxtest.Answer{Status: 200, Body: `{}`}, 0, "border", "does not mention entry 0", 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := mailboxtest.New(t)
			var asked atomic.Int32
			server.Fault = func(string, []byte) *mailboxtest.Answer {
				if n := asked.Add(1); tc.times == 0 || int(n) <= tc.times {
					return &tc.answer
				}
				return nil
			}
			err := newClient(server).Send(t.Context(), transfers(1))[0]
			if got := classes([]error{err})[0]; got != tc.class {
				t.Errorf("class %q, expected %q (%v)", got, tc.class, err)
			}
			if err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %q, expected it to name %q", err, tc.text)
			}
			if errors.Is(err, ErrDenied) != (tc.class == Denied) {
				t.Errorf("errors.Is(ErrDenied) is wrong for %v", err)
			}
			if err != nil && strings.Contains(err.Error(), server.Key) {
				t.Errorf("the API key is in %q", err)
			}
			if got := len(server.Requests()); got != tc.requests {
				t.Errorf("got %d requests, expected %d", got, tc.requests)
			}
		})
	}
}

func TestLongRetryAfterReachesTheQueue(t *testing.T) {
	server := mailboxtest.New(t)
	server.Fault = func(string, []byte) *mailboxtest.Answer { return &mailboxtest.Answer{Status: 429, RetryAfter: "600"} }
	err := newClient(server).Send(t.Context(), transfers(1))[0]
	if got := fault.RetryAfter(err); got != 10*time.Minute {
		t.Errorf("got %s, expected 10m", got)
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "x": 0, "99999999": 24 * time.Hour,
		"Sun, 06 Nov 1994 08:49:37 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("%q: got %s, expected %s", value, got, want)
		}
	}
	soon := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	if got := retryAfter(http.Header{"Retry-After": {soon}}); got < 50*time.Minute || got > time.Hour {
		t.Errorf("%q: got %s, expected about 1h", soon, got)
	}
}

func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	c := &Client{HTTP: NewHTTPClient(), URL: "http://" + listener.Addr().String(), Key: secret.New("k"), Pause: time.Millisecond}
	_, err = c.Receive(t.Context())
	if fault.Class(err) != Border || fault.IsPermanent(err) {
		t.Errorf("got class %q of %v, expected border", fault.Class(err), err)
	}
}

func TestConnectionBreaks(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
			return
		}
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	c := &Client{HTTP: NewHTTPClient(), URL: server.URL, Key: secret.New("k"), Pause: time.Millisecond}
	if got, err := c.Receive(t.Context()); err != nil || len(got) != 0 || asked.Load() != 2 {
		t.Errorf("got %v, %v after %d requests, expected none after 2", got, err, asked.Load())
	}
}

func TestDeadlineBoundsTheRetries(t *testing.T) {
	server := mailboxtest.New(t)
	server.Fault = func(string, []byte) *mailboxtest.Answer { return &mailboxtest.Answer{Status: 503} }
	c := newClient(server)
	c.Pause = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	_, err := c.Receive(ctx)
	if fault.Class(err) != Border || time.Since(start) > 30*time.Second {
		t.Errorf("got %v after %s, expected the border's error at once", err, time.Since(start))
	}
}

func TestReceiveAndDelete(t *testing.T) {
	server := mailboxtest.New(t)
	c := newClient(server)
	var bodies []string
	for i := range 12 {
		bodies = append(bodies, fmt.Sprintf(`{"n":%d,"key":"数据 \"x\""}`, i))
	}
	server.Put(bodies...)
	first, err := c.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got, handles []string
	for _, r := range append(first, second...) {
		got, handles = append(got, r.Body), append(handles, r.Handle)
	}
	if diff := cmp.Diff(bodies, got); diff != "" || len(first) != 10 {
		t.Errorf("%d receipts first, all (-want +got):\n%s", len(first), diff)
	}
	if third, err := c.Receive(t.Context()); err != nil || len(third) != 0 {
		t.Errorf("got %v, %v from an empty queue", third, err)
	}
	server.Refuse = func(entry string) (string, bool) {
		if entry == handles[11] {
			return "ReceiptHandleIsInvalid", true
		}
		return "", false
	}
	if err := c.Delete(t.Context(), handles); err == nil || !strings.Contains(err.Error(), "ReceiptHandleIsInvalid") {
		t.Errorf("got %v, expected the one that was refused", err)
	}
	if diff := cmp.Diff(bodies[11:], server.Left()); diff != "" {
		t.Errorf("receipts left (-want +got):\n%s", diff)
	}
}

func TestReceiveRefusesAMessageItCouldNotDelete(t *testing.T) {
	server := mailboxtest.New(t)
	server.Fault = func(string, []byte) *mailboxtest.Answer {
		return &mailboxtest.Answer{Status: 200, Body: `{"Messages":[{"Body":"b"}]}`}
	}
	if got, err := newClient(server).Receive(t.Context()); err == nil {
		t.Errorf("got %v without a receipt handle", got)
	}
}

func TestKeyStaysSecret(t *testing.T) {
	c := &Client{URL: "https://api", Key: secret.New("top secret key")}
	var text strings.Builder
	slog.New(slog.NewJSONHandler(&text, nil)).Info("client", "client", c)
	if all := fmt.Sprintf("%v %+v %#v", c, *c, c) + text.String(); strings.Contains(all, "top secret") {
		t.Errorf("the API key is in %s", all)
	}
	bad := &Client{HTTP: NewHTTPClient(), URL: "http://127.0.0.1:1", Key: secret.New("bad\nkey"), Pause: time.Millisecond}
	if _, err := bad.Receive(t.Context()); err == nil || strings.Contains(err.Error(), "bad\nkey") {
		t.Errorf("got %v", err)
	}
}
