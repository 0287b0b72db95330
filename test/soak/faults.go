package main

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
)

// kind is a kind of fault.
type kind struct {
	name    string
	share   float64
	most    int           // requests or messages that one meets
	longest time.Duration // that one takes
	// strike lets it happen, and returns what tells how many requests, messages or
	// processes it has met.
	strike func(*soak, disturbance) func() int
}

// Answers of the services, as they give them.
var (
	slowDown  = answer(http.StatusServiceUnavailable, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
	internal  = answer(http.StatusInternalServerError, "<Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>")
	skewed    = answer(http.StatusForbidden, "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>")
	throttled = gate.Fault{
		Status: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: `{"__type":"ThrottlingException","message":"Rate exceeded"}`,
	}
	unavailable = gate.Fault{
		Status: http.StatusServiceUnavailable, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: `{"__type":"ServiceUnavailable","message":"try again"}`,
	}
	tooMany   = message(http.StatusTooManyRequests, "Too Many Requests")
	broken    = message(http.StatusInternalServerError, "Internal server error")
	timedOut  = message(http.StatusGatewayTimeout, "Endpoint request timed out")
	elsewhere = gate.Fault{Status: http.StatusOK, Body: "<html>This network requires a login.</html>"}
)

func answer(status int, document string) gate.Fault {
	return gate.Fault{Status: status, Header: http.Header{"Content-Type": {"application/xml"}}, Body: `<?xml version="1.0"?>` + document}
}

func message(status int, text string) gate.Fault {
	return gate.Fault{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"message":"` + text + `"}`}
}

// beginUpload has a fault of its own, since there are few.
const beginUpload = "CreateMultipartUpload"

var kinds = []kind{
	{"kill receiver", 8, 1, 0, kill(localcloud.Receiver)},
	{"kill sender", 5, 1, 0, kill(localcloud.Sender)},
	{"kill courier", 3, 1, 0, kill(localcloud.Courier)},

	{"outbox: delivered twice", 3, 5, 0, redeliver("outbox")},
	{"inbox: delivered twice", 5, 5, 0, redeliver("inbox")},
	{"receipts: delivered twice", 2, 5, 0, redeliver("receipts")},
	{"outbox: duplicates", 4, 5, 4 * time.Second, duplicate("outbox")},
	{"inbox: duplicates", 5, 5, 4 * time.Second, duplicate("inbox")},
	{"receipts: duplicates", 2, 5, 4 * time.Second, duplicate("receipts")},
	{"outbox: late and out of order", 4, 20, 4 * time.Second, scatter("outbox")},
	{"inbox: late and out of order", 4, 20, 4 * time.Second, scatter("inbox")},
	{"outbox: clock steps", 2, 1, 6 * time.Minute, step("outbox")},
	{"inbox: clock steps", 2, 1, time.Minute, step("inbox")},

	{"API: 429", 6, 6, 0, arm(api, nil, tooMany)},
	{"API: 500", 4, 3, 0, arm(api, nil, broken)},
	{"API: timeout", 2, 2, 6 * time.Second, arm(api, nil, timedOut)},
	{"API: reset", 4, 3, 0, arm(api, nil, gate.Fault{})},
	{"API: answer lost", 5, 2, 0, arm(api, nil, gate.Fault{Late: true})},
	{"API: not its answer", 1, 2, 0, arm(api, nil, elsewhere)},

	{"border: outage", 2, 1, 6 * time.Second, outage},
	{"border: reset", 5, 4, 0, arm(border, nil, gate.Fault{})},
	{"border: cut", 6, 3, 0, armCut(false)},
	{"border: stall", 1, 1, 14 * time.Second, armCut(true)},
	{"source: 503 to a GET", 5, 4, 0, arm(border, nil, slowDown)},
	{"source: 500 to a GET", 3, 2, 0, arm(border, nil, internal)},
	{"source: 503", 3, 3, 0, arm(source, nil, slowDown)},
	{"source: reset", 2, 2, 0, arm(source, nil, gate.Fault{})},
	{"source: clock too far off", 1, 1, 0, arm(source, headless, skewed)},

	{"destination: 503", 6, 6, 0, arm(destination, nil, slowDown)},
	{"destination: 500", 3, 3, 0, arm(destination, nil, internal)},
	{"destination: reset", 3, 3, 0, arm(destination, nil, gate.Fault{})},
	{"destination: answer lost", 5, 2, 0, arm(destination, func(operation string) bool { return operation != beginUpload }, gate.Fault{Late: true})},
	{"destination: upload begun, answer lost", 0.3, 1, 0, arm(destination, func(operation string) bool { return operation == beginUpload }, gate.Fault{Late: true})},
	{"destination: clock too far off", 1, 1, 0, arm(destination, headless, skewed)},

	{"services: throttled", 2, 3, 0, arm(services, nil, throttled)},
	{"services: 503", 3, 3, 0, arm(services, nil, unavailable)},
	{"services: answer lost", 4, 2, 0, arm(services, nil, gate.Fault{Late: true})},
}

// headless matches what has a body in its answer: a HEAD's says no code.
func headless(operation string) bool { return !strings.HasPrefix(operation, "Head") }

func api(s *soak) *gate.Gate         { return s.cloud.Gates.API }
func border(s *soak) *gate.Gate      { return s.cloud.Gates.Border }
func source(s *soak) *gate.Gate      { return s.cloud.Gates.Source }
func destination(s *soak) *gate.Gate { return s.cloud.Gates.Destination }
func services(s *soak) *gate.Gate    { return s.cloud.Gates.Services }

func strike(name string) func(*soak, disturbance) func() int {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })].strike
}

func met(n int) func() int { return func() int { return n } }

func arm(at func(*soak) *gate.Gate, match func(string) bool, f gate.Fault) func(*soak, disturbance) func() int {
	return func(s *soak, d disturbance) func() int {
		f.Hold = d.For
		return at(s).Arm(d.N, match, f)
	}
}

// armCut cuts answers at some byte, or has them stop there for a while first.
func armCut(stall bool) func(*soak, disturbance) func() int {
	return func(s *soak, d disturbance) func() int {
		f := gate.Fault{Cut: d.Cut}
		if stall {
			f.Stall = d.For
		}
		return border(s).Arm(d.N, nil, f)
	}
}

func kill(function string) func(*soak, disturbance) func() int {
	return func(s *soak, _ disturbance) func() int {
		if s.cloud.Function(function).Kill() {
			return met(1)
		}
		return met(0)
	}
}

func random(d disturbance) *rand.Rand {
	return rand.New(rand.NewPCG(d.Seed, 0)) //nolint:gosec // to be repeated
}

func redeliver(queue string) func(*soak, disturbance) func() int {
	return func(s *soak, d disturbance) func() int { return met(s.cloud.Queue(queue).Redeliver(random(d), d.N)) }
}

func duplicate(queue string) func(*soak, disturbance) func() int {
	return func(s *soak, d disturbance) func() int {
		return met(s.cloud.Queue(queue).Duplicate(random(d), d.N, d.For))
	}
}

func scatter(queue string) func(*soak, disturbance) func() int {
	return func(s *soak, d disturbance) func() int {
		return s.cloud.Queue(queue).Scatter(random(d), d.N, d.For)
	}
}

// step sets a queue's clock forward: what is hidden comes back early, under the
// hands of who works on it.
func step(queue string) func(*soak, disturbance) func() int {
	return func(s *soak, d disturbance) func() int { return met(s.cloud.Queue(queue).Pass(d.For)) }
}

// outage closes the border both ways for a while.
func outage(s *soak, d disturbance) func() int {
	met, end := s.shut()
	s.running.Go(func() {
		select {
		case <-time.After(d.For):
		case <-s.quiet:
		}
		end()
	})
	return met
}

// shut closes the border until end. met tells how many requests met that, once it
// is over.
func (s *soak) shut() (met func() int, end func()) {
	before, n := s.refused(), new(atomic.Int64)
	s.closeBorder()
	return func() int { return int(n.Load()) }, func() {
		n.Store(int64(s.refused() - before))
		s.openBorder()
	}
}

func (s *soak) refused() int { return border(s).Refused() + api(s).Refused() }

// closeBorder closes the border until as many openBorders have followed.
func (s *soak) closeBorder() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outages++
	if s.closed != "api" {
		border(s).Close()
	}
	if s.closed != "pulls" {
		api(s).Close()
	}
}

func (s *soak) openBorder() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outages--; s.outages == 0 {
		border(s).Open()
		api(s).Open()
	}
}
