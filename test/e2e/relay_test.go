package e2e

import (
	"fmt"
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
// slows the link down and remembers every range that was asked for.
type relay struct {
	url string

	mu     sync.Mutex
	gets   []get
	served int64 // bytes of bodies that went through
}

type get struct {
	path, ranges string
	at           time.Time
}

// startRelay relays to the source at port with at most rate bytes a second in
// all; 0 is as fast as it goes.
func startRelay(t *testing.T, port int, rate int64) *relay {
	t.Helper()
	target, err := url.Parse(fmt.Sprintf("http://127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{}
	link := make(chan struct{}, 1) // one writer at a time has the link
	proxy := &httputil.ReverseProxy{
		// The Host header is signed, so it stays as it came.
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.Host = p.In.Host },
		ModifyResponse: func(response *http.Response) error {
			response.Body = &slowBody{ReadCloser: response.Body, relay: r, link: link, rate: rate}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.gets = append(r.gets, get{req.URL.Path, req.Header.Get("Range"), time.Now()})
		r.mu.Unlock()
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
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
	relay *relay
	link  chan struct{}
	rate  int64
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	b.relay.mu.Lock()
	b.relay.served += int64(n)
	b.relay.mu.Unlock()
	if b.rate > 0 {
		b.link <- struct{}{}
		time.Sleep(time.Duration(int64(n)) * time.Second / time.Duration(b.rate))
		<-b.link
	}
	return n, err
}
