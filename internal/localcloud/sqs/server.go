// Package sqs is an in-memory Amazon SQS for standard queues: visibility
// timeouts, receive counts, redrive, delays, retention and long polls behave as
// in the service, over the AWS JSON protocol and in process. Nothing is
// authenticated: serve it on a loopback address only.
//
// It keeps time with package time alone, so testing/synctest drives it.
package sqs

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config configures a Server.
type Config struct {
	Endpoint string // that queue URLs begin with, such as http://127.0.0.1:9324
	Region   string // of the queue ARNs
	Account  string // twelve digits

	// Accepted, if set, sees every message that is sent, after it is stored. A
	// redrive is no send.
	Accepted func(queue, body string)
}

// Server holds the queues of one account in one region. It is an http.Handler.
type Server struct {
	endpoint, region, account string

	accepted func(queue, body string)

	mu       sync.Mutex
	queues   map[string]*Queue
	sequence uint64
}

// New returns a server without queues.
func New(c Config) *Server {
	return &Server{
		endpoint: strings.TrimSuffix(c.Endpoint, "/"), region: c.Region, account: c.Account,
		accepted: c.Accepted, queues: map[string]*Queue{},
	}
}

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// Create makes a queue, or returns the one of that name if its attributes do
// not differ from those given.
func (s *Server) Create(name string, attributes map[string]string) (*Queue, error) {
	if strings.HasSuffix(name, ".fifo") {
		return nil, newError(codeUnsupportedOperation, "FIFO queues are not supported here.")
	}
	if !queueName.MatchString(name) {
		return nil, newError(codeInvalidParameterValue, "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		wanted := q.settings
		if err := wanted.set(attributes); err != nil {
			return nil, err
		}
		if !maps.Equal(wanted.attributes(), q.settings.attributes()) {
			return nil, newError(codeQueueNameExists, "A queue already exists with the same name and a different value for some attribute.")
		}
		return q, nil
	}
	q := &Queue{
		server: s, name: name, created: time.Now(),
		url:      s.endpoint + "/" + s.account + "/" + name,
		arn:      "arn:aws:sqs:" + s.region + ":" + s.account + ":" + name,
		settings: defaults, byID: map[string]*message{}, changed: make(chan struct{}),
	}
	if err := q.configure(attributes); err != nil {
		return nil, err
	}
	s.queues[name] = q
	return q, nil
}

// Queue returns the queue with the URL. Only the path counts: the same server
// may have several addresses.
func (s *Server) Queue(url string) (*Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[url[strings.LastIndexByte(url, '/')+1:]]
	if !ok {
		return nil, newError(codeQueueDoesNotExist, "The specified queue does not exist.")
	}
	return q, nil
}

// list returns the queues whose names begin with prefix, by name.
func (s *Server) list(prefix string) []*Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Queue
	for _, name := range slices.Sorted(maps.Keys(s.queues)) {
		if strings.HasPrefix(name, prefix) {
			out = append(out, s.queues[name])
		}
	}
	return out
}

// byARN needs mu.
func (s *Server) byARN(arn string) (*Queue, bool) {
	q, ok := s.queues[arn[strings.LastIndexByte(arn, ':')+1:]]
	return q, ok && q.arn == arn
}

// configure sets attributes; it needs mu.
func (q *Queue) configure(attributes map[string]string) error {
	next := q.settings
	if err := next.set(attributes); err != nil {
		return err
	}
	if next.redrive != nil {
		if _, ok := q.server.byARN(next.redrive.DeadLetterTargetARN); !ok {
			return newError(codeInvalidParameterValue, "Value %s for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.", next.redrive.DeadLetterTargetARN)
		}
	}
	q.settings = next
	return nil
}
