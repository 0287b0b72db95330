package e2e

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// relay stands between the receivers and the source, as the border does: it
// slows the link down or stops it, and remembers every range that was asked for.
type relay struct {
	url    string
	ready  chan struct{} // closed once there is a target
	target *url.URL

	mu     sync.Mutex
	gets   []get
	served int64         // bytes of bodies that went through
	most   int64         // how many may until held is closed
	held   chan struct{} // nil: any number may
}

type get struct {
	path, ranges string
	at           time.Time
}

// startRelay relays at most rate bytes a second in all; 0 is as fast as it goes.
// What it is asked for waits until it is told where to.
func startRelay(t *testing.T, rate int64) *relay {
	t.Helper()
	r := &relay{ready: make(chan struct{})}
	link := make(chan struct{}, 1) // one writer at a time has the link
	proxy := &httputil.ReverseProxy{
		// The Host header is signed, so it stays as it came.
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(r.target); p.Out.Host = p.In.Host },
		ModifyResponse: func(response *http.Response) error {
			response.Body = &slowBody{ReadCloser: response.Body, ctx: response.Request.Context(), relay: r, link: link, rate: rate}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		<-r.ready
		r.mu.Lock()
		r.gets = append(r.gets, get{req.URL.Path, req.Header.Get("Range"), time.Now()})
		r.mu.Unlock()
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// to tells the relay where the source is, whose port is only known once it runs.
func (r *relay) to(t *testing.T, source bucket) {
	t.Helper()
	var err error
	if r.target, err = url.Parse(source.Endpoint); err != nil {
		t.Fatal(err)
	}
	close(r.ready)
}

// hold lets about so many bytes through, and no more until release is called.
func (r *relay) hold(most int64) (release func()) {
	held := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most, r.held = most, held
	return func() { close(held) }
}

// since returns the ranges asked for from then on.
func (r *relay) since(then time.Time) (ranges []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.gets {
		if g.at.After(then) {
			ranges = append(ranges, g.ranges)
		}
	}
	return ranges
}

func (r *relay) bytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served
}

type slowBody struct {
	io.ReadCloser
	ctx   context.Context // done when whoever asked is gone
	relay *relay
	link  chan struct{}
	rate  int64
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	b.relay.mu.Lock()
	b.relay.served += int64(n)
	held := b.relay.held
	if b.relay.served < b.relay.most {
		held = nil
	}
	b.relay.mu.Unlock()
	if n > 0 && held != nil {
		select {
		case <-held:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	if b.rate > 0 {
		b.link <- struct{}{}
		time.Sleep(time.Duration(int64(n)) * time.Second / time.Duration(b.rate))
		<-b.link
	}
	return n, err
}
