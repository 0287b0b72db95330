package apigw

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/secret"
)

// upstream is an SQS that keeps the last request.
type upstream struct{ got []byte }

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	u.got, _ = io.ReadAll(r.Body)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

// FuzzBody looks for a body that comes through to SQS though it is no batch of
// transfers, or that becomes something else on the way.
func FuzzBody(f *testing.F) {
	const entry = `{"Id":"a","MessageBody":"aa.bb.cc"}`
	for _, seed := range []string{
		`{"entries":[` + entry + `]}`, `{"entries":[` + entry + `,` + entry + `],"entries":[]}`, `{"entries":[` + strings.Repeat(entry+",", 10) + entry + `]}`,
		`{"entries":[{"Id":"a","MessageBody":"aa.bb.cc","DelaySeconds":900}]}`, `{"entries":[{"Id":"a\"","MessageBody":"aa.bb.cc"}],"QueueUrl":"x"}`,
		strings.Repeat(`{"entries":[`, 50), `[]`, `{"entries":[` + entry + `]} x`, `{"Entries":[` + entry + `],"entries":[` + entry + `]}`,
	} {
		f.Add([]byte(seed))
	}
	const queue = "http://sqs/000000000000/inbox"
	handler, err := New(Config{Stage: "v1", Key: secret.New("k"), SQS: "http://sqs", Queues: map[door.Queue]string{door.Inbox: queue, door.Receipts: "http://sqs/r"}})
	if err != nil {
		f.Fatal(err)
	}
	sqs := &upstream{}
	handler.(*api).client.Transport = sqs
	jws := regexp.MustCompile(`^[\w-]+\.[\w-]+\.[\w-]+$`)
	id := regexp.MustCompile(`^[\w-]{1,80}$`)
	f.Fuzz(func(t *testing.T, body []byte) {
		sqs.got = nil
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/transfers", bytes.NewReader(body))
		r.Header.Set(door.KeyHeader, "k")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == http.StatusBadRequest && sqs.got == nil {
			return
		}
		if w.Code != http.StatusOK || sqs.got == nil {
			t.Fatalf("%q: got %d with a request to SQS of %q", body, w.Code, sqs.got)
		}
		var request struct {
			QueueURL string `json:"QueueUrl"`
			Entries  []struct {
				ID   string `json:"Id"`
				Body string `json:"MessageBody"`
			}
		}
		dec := json.NewDecoder(bytes.NewReader(sqs.got))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&request); err != nil || request.QueueURL != queue || len(request.Entries) < 1 || len(request.Entries) > door.MaxEntries {
			t.Fatalf("%q became %q (%v)", body, sqs.got, err)
		}
		for _, e := range request.Entries {
			if !id.MatchString(e.ID) || !jws.MatchString(e.Body) || len(e.Body) > door.MaxMessage {
				t.Fatalf("%q became %q", body, sqs.got)
			}
		}
	})
}
