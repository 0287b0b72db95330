package control

import (
	"encoding/xml"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

const bucketNamespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// Bucket is a bucket as an operator sees it from outside: where it is, and whom
// it tells of new objects. What is in it is on the S3 servers.
type Bucket struct {
	Region      string
	Name        string
	EventBridge bool     // it sends its events there
	Queues      []string // ARNs of the queues that it notifies of new objects
}

// PutBucket makes a bucket, or changes it.
func (s *Server) PutBucket(b Bucket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[b.Name] = b
}

// bucketAction is the action that a request of S3 is for, or "".
func bucketAction(r *http.Request) string {
	switch {
	case r.Method == http.MethodHead:
		return "HeadBucket"
	case r.Method == http.MethodGet && r.URL.Query().Has("notification"):
		return "GetBucketNotificationConfiguration"
	}
	return ""
}

type notificationConfiguration struct {
	XMLName     xml.Name             `xml:"NotificationConfiguration"`
	XMLNS       string               `xml:"xmlns,attr"`
	Queues      []queueConfiguration `xml:"QueueConfiguration"`
	EventBridge *struct{}            `xml:"EventBridgeConfiguration"`
}

type queueConfiguration struct {
	ID    string `xml:"Id"`
	Queue string
	Event string
}

type bucketError struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

// serveBucket answers for a bucket named by path.
func (s *Server) serveBucket(w http.ResponseWriter, r *http.Request) {
	name := strings.Trim(r.URL.Path, "/")
	s.mu.Lock()
	bucket, ok := s.buckets[name]
	s.mu.Unlock()
	w.Header().Set("X-Amz-Request-Id", uuid.NewString())
	w.Header().Set("Content-Type", "application/xml")
	failure, status := s.fault(r, bucketAction(r)), http.StatusForbidden
	if !ok {
		failure, status = newError("NoSuchBucket", "The specified bucket does not exist"), http.StatusNotFound
	} else {
		w.Header().Set("X-Amz-Bucket-Region", bucket.Region)
		if failure == nil && bucket.Region != s.region(r) {
			failure, status = newError("PermanentRedirect", "The bucket must be addressed in %s", bucket.Region), http.StatusMovedPermanently
		}
	}
	if failure != nil {
		w.WriteHeader(status)
		_ = xml.NewEncoder(w).Encode(bucketError{Code: failure.Code, Message: failure.Message}) // the client is gone
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	out := notificationConfiguration{XMLNS: bucketNamespace}
	for _, arn := range bucket.Queues {
		out.Queues = append(out.Queues, queueConfiguration{ID: uuid.NewString(), Queue: arn, Event: "s3:ObjectCreated:*"})
	}
	if bucket.EventBridge {
		out.EventBridge = &struct{}{}
	}
	_ = xml.NewEncoder(w).Encode(out) // the client is gone
}
