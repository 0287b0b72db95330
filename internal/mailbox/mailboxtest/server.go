// Package mailboxtest serves the mailbox API to tests, as strictly as its models
// say and with whatever faults the test wants.
package mailboxtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/s3ferry/s3ferry/internal/door"
)

// Answer is what the server says instead of doing what it was asked.
type Answer struct {
	Status     int
	Body       string
	RetryAfter string
}

// Server is a mailbox API. Set its fields before the first request.
type Server struct {
	URL string
	Key string // the right API key

	// Fault, if set, is asked before every request and may answer it.
	Fault func(route string, body []byte) *Answer
	// Refuse, if set, names the entries, by transfer or receipt handle, that the
	// queue refuses, and with which code.
	Refuse func(entry string) (code string, senderFault bool)
	// Attributes is what the inbox says of itself; at first that it is empty.
	Attributes map[string]string

	mu       sync.Mutex
	inbox    []string
	receipts []receipt
	next     int
	requests []string
}

type receipt struct {
	Body, ReceiptHandle string
	hidden              bool
}

// New starts a server that ends with t.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{Key: "api-key-of-the-tests", Attributes: map[string]string{door.Visible: "0", door.InFlight: "0", door.Delayed: "0"}}
	mux := http.NewServeMux()
	for _, route := range door.Routes() {
		mux.Handle(route.Method+" "+route.Path, s.handler(t, route))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Inbox returns the transfers taken so far.
func (s *Server) Inbox() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.inbox...)
}

// Put adds receipts to be received.
func (s *Server) Put(bodies ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, body := range bodies {
		s.next++
		s.receipts = append(s.receipts, receipt{Body: body, ReceiptHandle: fmt.Sprintf("handle-%d", s.next)})
	}
}

// Left returns the receipts that nobody has deleted.
func (s *Server) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []string
	for _, r := range s.receipts {
		left = append(left, r.Body)
	}
	return left
}

// Requests returns the names of the routes asked so far, in order.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

func (s *Server) handler(t testing.TB, route door.Route) http.Handler {
	model := compile(t, route)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.requests = append(s.requests, route.Name)
		s.mu.Unlock()
		if s.Fault != nil {
			if a := s.Fault(route.Name, body); a != nil {
				if a.RetryAfter != "" {
					w.Header().Set("Retry-After", a.RetryAfter)
				}
				answer(w, a.Status, a.Body)
				return
			}
		}
		switch {
		case r.Header.Get(door.KeyHeader) != s.Key:
			answer(w, http.StatusForbidden, `{"message":"Forbidden"}`)
		case model != nil && r.Header.Get("Content-Type") != "application/json":
			answer(w, http.StatusUnsupportedMediaType, `{"message":"Unsupported Media Type"}`)
		case model != nil && !valid(model, body):
			answer(w, http.StatusBadRequest, `{"message":"Invalid request body"}`)
		default:
			out, err := json.Marshal(s.serve(route, body))
			if err != nil {
				panic(err)
			}
			answer(w, http.StatusOK, string(out))
		}
	})
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// serve does what the SQS action behind route does.
func (s *Server) serve(route door.Route, body []byte) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if route.Action == "GetQueueAttributes" {
		return map[string]any{"Attributes": s.Attributes}
	}
	if route.Action == "ReceiveMessage" {
		var messages []map[string]string
		for i := range s.receipts {
			if r := &s.receipts[i]; !r.hidden && len(messages) < door.MaxEntries {
				r.hidden = true
				messages = append(messages, map[string]string{"Body": r.Body, "ReceiptHandle": r.ReceiptHandle, "MessageId": "m"})
			}
		}
		if messages == nil {
			return map[string]any{}
		}
		return map[string]any{"Messages": messages}
	}
	var in struct {
		Entries []struct{ Id, MessageBody, ReceiptHandle string } `json:"entries"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		panic(err)
	}
	var successful, failed []map[string]any
	for _, e := range in.Entries {
		if s.Refuse != nil {
			if code, sender := s.Refuse(e.MessageBody + e.ReceiptHandle); code != "" {
				failed = append(failed, map[string]any{"Id": e.Id, "Code": code, "SenderFault": sender, "Message": "no"})
				continue
			}
		}
		successful = append(successful, map[string]any{"Id": e.Id})
		if route.Action == "SendMessageBatch" {
			s.inbox = append(s.inbox, e.MessageBody)
			continue
		}
		for i, r := range s.receipts {
			if r.ReceiptHandle == e.ReceiptHandle {
				s.receipts = append(s.receipts[:i], s.receipts[i+1:]...)
				break
			}
		}
	}
	return map[string]any{"Successful": successful, "Failed": failed}
}

// compile returns the schema of route's body, or nil if it takes none.
func compile(t testing.TB, route door.Route) *jsonschema.Schema {
	t.Helper()
	if route.Entries == nil {
		return nil
	}
	text, err := json.Marshal(route.Model())
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("model.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("model.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func valid(model *jsonschema.Schema, body []byte) bool {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	return err == nil && model.Validate(document) == nil
}
