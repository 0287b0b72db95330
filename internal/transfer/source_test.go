package transfer_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// source serves one object version as S3 does, unless misbehave answers first.
type source struct {
	t    *testing.T
	url  string
	body []byte
	etag string

	mu     sync.Mutex
	ranges []string // as asked, in order
	sent   int      // bytes of bodies
	open   int      // requests under way
	most   int      // of open

	// misbehave gets the number of the request from 1 and answers it itself by
	// returning true. It runs unlocked.
	misbehave func(n int, w http.ResponseWriter, r *http.Request) bool
}

func newSource(t *testing.T, body []byte) *source {
	t.Helper()
	s := &source{t: t, body: body, etag: strings.Trim(md5ETag(body), `"`)}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(t.Output(), "source: ", 0) // some headers are wrong on purpose
	server.Start()
	t.Cleanup(server.Close)
	s.url = server.URL + "/src/key?X-Amz-Signature=topsecret"
	return s
}

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.ranges = append(s.ranges, strings.TrimPrefix(r.Header.Get("Range"), "bytes="))
	n := len(s.ranges)
	s.open++
	s.most = max(s.most, s.open)
	misbehave := s.misbehave
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	if misbehave != nil && misbehave(n, w, r) {
		return
	}
	s.serve(w, r)
}

// serve answers as S3 would.
func (s *source) serve(w http.ResponseWriter, r *http.Request) {
	if got := r.Header.Get("If-Match"); got != `"`+s.etag+`"` {
		refuse(w, 412, "PreconditionFailed")
		return
	}
	w.Header().Set("ETag", `"`+s.etag+`"`)
	from, to, ok := s.asked(r)
	if !ok {
		s.write(w, 200, s.body)
		return
	}
	if from >= len(s.body) {
		refuse(w, 416, "InvalidRange")
		return
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(s.body)))
	s.write(w, 206, s.body[from:to+1])
}

func (s *source) asked(r *http.Request) (from, to int, ok bool) {
	_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
	return from, to, err == nil
}

func (s *source) write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	s.mu.Lock()
	s.sent += len(body) // before: who has them all may look at once
	s.mu.Unlock()
	_, _ = w.Write(body)
}

// cut sends the right header and n bytes of the body, then resets or just ends.
func (s *source) cut(w http.ResponseWriter, r *http.Request, n int) {
	from, to, _ := s.asked(r)
	w.Header().Set("ETag", `"`+s.etag+`"`)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(s.body)))
	w.Header().Set("Content-Length", strconv.Itoa(to-from+1))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(s.body[from : from+n])
	_ = http.NewResponseController(w).Flush()
	s.mu.Lock()
	s.sent += n
	s.mu.Unlock()
}

// behave ends misbehave while requests may still be under way.
func (s *source) behave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.misbehave = nil
}

func (s *source) asks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ranges...)
}

func (s *source) bytesSent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}
