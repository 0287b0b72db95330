// Package apigw serves the mailbox API as API Gateway would serve what the
// constructs deploy: signed requests where its authorization is IAM, an API key
// on every method, a throttle, request models, and direct SQS integrations.
package apigw

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/time/rate"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/secret"
)

const (
	maxBody            = 10 << 20 // of the service
	integrationTimeout = 29 * time.Second
	maxIntegration     = 10 << 20 // bytes of an integration's answer
)

// Config configures the API.
type Config struct {
	Stage string // first element of every path
	Key   secret.String
	// AccessKey signs the requests of the one caller there is, where the methods'
	// authorization is IAM. Zero: they have none.
	AccessKey link.Credentials

	SQS    string // endpoint that the integrations call
	Queues map[door.Queue]string

	// Rate and Burst throttle all requests together, as a usage plan does; zero
	// is no throttle. Rate is in requests a second.
	Rate  float64
	Burst int
	// Quota is how many requests may be made in a day of UTC; zero is no quota.
	Quota int
}

// failure is an answer that API Gateway gives itself.
type failure struct {
	status        int
	kind, message string
}

var (
	noRoute     = failure{http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token"}
	forbidden   = failure{http.StatusForbidden, "ForbiddenException", "Forbidden"}
	throttled   = failure{http.StatusTooManyRequests, "TooManyRequestsException", "Too Many Requests"}
	overQuota   = failure{http.StatusTooManyRequests, "LimitExceededException", "Limit Exceeded"}
	tooLarge    = failure{http.StatusRequestEntityTooLarge, "RequestTooLargeException", "Request Too Long"}
	unsupported = failure{http.StatusUnsupportedMediaType, "BadRequestException", "Unsupported Media Type"}
	badBody     = failure{http.StatusBadRequest, "BadRequestException", "Invalid request body"}
	timedOut    = failure{http.StatusGatewayTimeout, "InternalServerErrorException", "Endpoint request timed out"}
	badGateway  = failure{http.StatusInternalServerError, "InternalServerErrorException", "Internal server error"}
	unavailable = failure{http.StatusServiceUnavailable, "", "Service Unavailable"}
)

// New returns the API. It fails if a route's model is no schema or its queue has
// no URL.
func New(c Config) (http.Handler, error) {
	limit := rate.Limit(c.Rate)
	if c.Rate == 0 {
		limit = rate.Inf
	}
	api := &api{
		key: c.Key, accessKey: c.AccessKey, limiter: rate.NewLimiter(limit, c.Burst), quota: &quota{most: c.Quota}, sqs: c.SQS,
		client: &http.Client{Timeout: integrationTimeout}, methods: map[string]method{},
	}
	for _, route := range door.Routes() {
		queue, ok := c.Queues[route.Queue]
		if !ok {
			return nil, fmt.Errorf("set up route %s: no URL of queue %q", route.Name, route.Queue)
		}
		model, err := compile(route)
		if err != nil {
			return nil, fmt.Errorf("set up route %s: %w", route.Name, err)
		}
		api.methods[route.Method+" /"+c.Stage+route.Path] = method{route: route, queue: queue, model: model}
	}
	return api, nil
}

// compile returns the schema of the route's body, nil if it takes none.
func compile(route door.Route) (*jsonschema.Schema, error) {
	model := route.Model()
	if model == nil {
		return nil, nil
	}
	raw, err := json.Marshal(model)
	if err != nil {
		return nil, fmt.Errorf("encode model: %w", err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(route.Name, document); err != nil {
		return nil, fmt.Errorf("add model: %w", err)
	}
	return compiler.Compile(route.Name)
}

type api struct {
	key       secret.String
	accessKey link.Credentials
	limiter   *rate.Limiter
	quota     *quota
	sqs       string
	client    *http.Client
	methods   map[string]method // by HTTP method, space and path
}

type method struct {
	route door.Route
	queue string
	model *jsonschema.Schema // nil: no body
}

// ServeHTTP answers one request. http.ServeMux would redirect paths that are
// not clean and answer 405, where API Gateway knows no such method.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m, ok := a.methods[r.Method+" "+r.URL.Path]
	if !ok {
		noRoute.write(w)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		tooLarge.write(w)
		return
	}
	if f := a.admit(r, body, m.model); f != nil {
		f.write(w)
		return
	}
	request, err := m.route.Request(m.queue, body)
	if err != nil {
		badGateway.write(w)
		return
	}
	a.integrate(w, r, m.route, request)
}

// admit says why the request does not come through, or nil.
func (a *api) admit(r *http.Request, body []byte, model *jsonschema.Schema) *failure {
	if f := a.authorize(r, body, time.Now()); f != nil {
		return f
	}
	key := r.Header.Get(door.KeyHeader)
	switch {
	case subtle.ConstantTimeCompare([]byte(key), []byte(a.key.Reveal())) != 1:
		return &forbidden
	case !a.limiter.Allow():
		return &throttled
	case !a.quota.allow(time.Now()):
		return &overQuota
	case model == nil:
		return nil
	case !isJSON(r):
		return &unsupported
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil || model.Validate(document) != nil {
		return &badBody
	}
	return nil
}

// isJSON reports whether the body is JSON; one without a content type is taken
// for that.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(cmp.Or(r.Header.Get("Content-Type"), "application/json"))
	return err == nil && kind == "application/json"
}

// integrate passes on the answer of SQS, or that there is none to pass on.
func (a *api) integrate(w http.ResponseWriter, r *http.Request, route door.Route, request []byte) {
	call, err := http.NewRequestWithContext(r.Context(), http.MethodPost, a.sqs, bytes.NewReader(request))
	if err != nil {
		badGateway.write(w)
		return
	}
	call.Header.Set("Content-Type", "application/x-amz-json-1.0")
	call.Header.Set("X-Amz-Target", sqs.TargetPrefix+route.Action)
	answer, err := a.client.Do(call)
	if err != nil {
		if timeout, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); ok && timeout.Timeout() {
			timedOut.write(w)
			return
		}
		badGateway.write(w)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxIntegration))
	if err != nil {
		badGateway.write(w)
		return
	}
	if answer.StatusCode != http.StatusOK {
		unavailable.write(w)
		return
	}
	head(w, http.StatusOK)
	_, _ = w.Write(body) // the client is gone
}

func (f failure) write(w http.ResponseWriter) {
	if f.kind != "" {
		w.Header().Set("X-Amzn-Errortype", f.kind)
	}
	head(w, f.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": f.message}) // the client is gone
}

func head(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	w.WriteHeader(status)
}
