// Package control answers for the small services that functions and operators
// ask: Secrets Manager, Systems Manager parameters, the token service, and what
// CloudFormation, API Gateway, S3 and CloudWatch tell of deployed stacks, API keys,
// buckets and metrics.
// One handler serves them and SQS, so that one endpoint is the whole control
// plane of every partition: the region that a request is signed for says which.
// Nothing is authenticated: serve it on a loopback address only.
package control

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Config configures a Server.
type Config struct {
	Region  string
	Account string // twelve digits

	// SQS answers the requests that are for queues.
	SQS http.Handler

	// Role is the one role that may be assumed, by ARN. Mint makes its
	// credentials.
	Role string
	Mint func(expires time.Time) (accessKeyID, secretAccessKey, sessionToken string)

	// Metric, if set, is the value of a metric of CloudWatch at this moment.
	Metric func(Metric) (value float64, ok bool)

	// Fault, if set, is asked before every action but those of queues, with the
	// region that it is for, and may fail it.
	Fault func(region, action string) *Error
}

// Server is the control plane, an http.Handler.
type Server struct {
	config Config

	mu         sync.Mutex
	secrets    map[string]*secretValue
	parameters map[string]*parameter
	stacks     map[string]Stack  // by region/name
	apiKeys    map[string]string // values by id
	buckets    map[string]Bucket // by name
}

// New returns a server that has nothing yet.
func New(c Config) *Server {
	return &Server{
		config: c, secrets: map[string]*secretValue{}, parameters: map[string]*parameter{},
		stacks: map[string]Stack{}, apiKeys: map[string]string{}, buckets: map[string]Bucket{},
	}
}

// maxRequest is above any request of these services.
const maxRequest = 1 << 20

// ServeHTTP answers one request, whose service is known by its target header,
// its path, or its Action.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.Header.Get("X-Amz-Target")
	switch service, operation, _ := strings.Cut(target, "."); service {
	case "AmazonSQS":
		s.config.SQS.ServeHTTP(w, r)
	case "secretsmanager":
		s.serveJSON(w, r, map[string]action{
			"GetSecretValue": handle(s.getSecretValue), "PutSecretValue": handle(s.putSecretValue),
		}[operation])
	case "AmazonSSM":
		s.serveJSON(w, r, map[string]action{
			"GetParameter": handle(s.getParameter), "PutParameter": handle(s.putParameter),
		}[operation])
	case "":
		if strings.HasPrefix(r.URL.Path, apiKeysPath) && r.Method == http.MethodGet {
			s.serveAPIKeys(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, metricsPath) {
			s.serveMetrics(w, r)
			return
		}
		if bucketAction(r) != "" {
			s.serveBucket(w, r)
			return
		}
		s.serveQuery(w, r)
	default:
		writeJSON(w, newError("UnknownOperationException", "no service for target %q", target))
	}
}

// Error is an answer that says what was wrong with a request.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func newError(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// fault says that the test wants the action to fail.
func (s *Server) fault(r *http.Request, action string) *Error {
	if s.config.Fault == nil {
		return nil
	}
	return s.config.Fault(s.region(r), action)
}

// action is one action of a service that speaks AWS JSON 1.1.
type action func(body []byte) (any, *Error)

func handle[In any](f func(In) (any, *Error)) action {
	return func(body []byte) (any, *Error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, newError("SerializationException", "the request is no JSON of the expected form: %v", err)
		}
		return f(in)
	}
}

func (s *Server) serveJSON(w http.ResponseWriter, r *http.Request, act action) {
	if act == nil {
		writeJSON(w, newError("UnknownOperationException", "no such operation here: %s", r.Header.Get("X-Amz-Target")))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		writeJSON(w, newError("SerializationException", "read request: %v", err))
		return
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if failure := s.fault(r, operation); failure != nil {
		writeJSON(w, failure)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out, failure := act(body)
	if failure != nil {
		writeJSON(w, failure)
		return
	}
	writeJSON(w, out)
}

// writeJSON answers with out, which may be an *Error.
func writeJSON(w http.ResponseWriter, out any) {
	status := http.StatusOK
	if e, ok := out.(*Error); ok {
		status = http.StatusBadRequest
		out = map[string]string{"__type": e.Code, "message": e.Message}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // the client is gone
}

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
