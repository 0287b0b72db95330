// Package gate stands before a server of the laptop cloud: it counts requests by
// operation and, when told to, does to them what networks and services do.
package gate

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Fault is what happens to one request. The zero Fault resets the connection
// before the server hears of the request.
type Fault struct {
	// Hold is how long the request waits first, unless its client gives up.
	Hold time.Duration
	// Status, if set, is answered in the server's place, with Header and Body.
	Status int
	Header http.Header
	Body   string
	// Late lets the server act and resets the connection in place of its answer.
	Late bool
	// Cut, if set, lets the server answer and resets the connection after so many
	// bytes of the body, once Stall is over.
	Cut   int64
	Stall time.Duration
}

// Gate is an http.Handler before another. It lets everything pass until it is
// told otherwise, and is safe for concurrent use.
type Gate struct {
	next http.Handler
	name func(*http.Request) string

	carried  atomic.Int64
	underway atomic.Int64

	mu      sync.Mutex
	counts  map[string]int64
	armed   []*armed
	limit   *rate.Limiter
	refused int
	closed  chan struct{} // closed while the gate is
}

// armed is a fault that waits for requests.
type armed struct {
	fault Fault
	match func(operation string) bool
	left  int
	hits  int
}

// New returns a gate before next. name gives a request's operation.
func New(next http.Handler, name func(*http.Request) string) *Gate {
	return &Gate{next: next, name: name, counts: map[string]int64{}, limit: rate.NewLimiter(rate.Inf, burst), closed: make(chan struct{})}
}

// burst is how many bytes of answers may pass a limited gate at once.
const burst = 64 << 10

// Proxy returns a handler that passes requests on, by HTTP, to the server at
// address, host and port. The Host header stays as it came, since it is signed.
func Proxy(address string) http.Handler {
	target := &url.URL{Scheme: "http", Host: address}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // net/http says so
	transport.Proxy, transport.DisableCompression = nil, true
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 256
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host
			if p.Out.ContentLength > 0 {
				// net/http reads on after the last byte, and would cut the answer off if
				// the request's body was closed by then.
				p.Out.Body = struct {
					io.Reader
					io.Closer
				}{io.LimitReader(p.Out.Body, p.Out.ContentLength), p.Out.Body}
			}
		},
		Transport:    transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
	}
}

// Arm has f happen to the next n requests whose operation match takes; nil takes
// any. What it returns tells how many it has happened to so far.
func (g *Gate) Arm(n int, match func(operation string) bool, f Fault) (hits func() int) {
	a := &armed{fault: f, match: match, left: n}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = append(g.armed, a)
	return func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return a.hits
	}
}

// Disarm takes back the faults that have not happened yet.
func (g *Gate) Disarm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = nil
}

// Limit lets no more than so many bytes a second of answers pass, in all.
func (g *Gate) Limit(bytes float64) { g.limit.SetLimit(rate.Limit(bytes)) }

// Close resets all connections that carry a request, and every one that brings
// another until Open.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !isClosed(g.closed) {
		close(g.closed)
	}
}

// Open opens the gate again.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if isClosed(g.closed) {
		g.closed = make(chan struct{})
	}
}

// Refused is how many requests a closed gate has reset.
func (g *Gate) Refused() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

// Connections is how many requests are under way, each over a connection.
func (g *Gate) Connections() int { return int(g.underway.Load()) }

// Carried is how many bytes of bodies came back so far.
func (g *Gate) Carried() int64 { return g.carried.Load() }

// Counts returns the requests that came so far by operation, whatever became of
// them.
func (g *Gate) Counts() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.counts)
}

// admit counts a request and returns the fault that it meets, if any, and what
// is closed when the gate is.
func (g *Gate) admit(operation string) (*Fault, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[operation]++
	if isClosed(g.closed) {
		return nil, g.closed
	}
	for i, a := range g.armed {
		if a.match != nil && !a.match(operation) {
			continue
		}
		a.hits++
		if a.left--; a.left <= 0 {
			g.armed = append(g.armed[:i:i], g.armed[i+1:]...)
		}
		return &a.fault, g.closed
	}
	return nil, g.closed
}

// ServeHTTP answers one request.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.underway.Add(1)
	defer g.underway.Add(-1)
	f, closed := g.admit(g.name(r))
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	a := &answer{ResponseWriter: w, ctx: ctx, closed: closed, refused: g.refuse, limit: g.limit, carried: &g.carried}
	go func() {
		select {
		case <-closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	r = r.WithContext(ctx)
	switch {
	case isClosed(closed):
		a.reset()
	case f == nil:
		g.next.ServeHTTP(a, r)
	default:
		g.fail(a, r, f)
	}
}

// fail does f to a request.
func (g *Gate) fail(a *answer, r *http.Request, f *Fault) {
	if !sleep(r.Context(), f.Hold) {
		a.reset()
		return
	}
	switch {
	case f.Status != 0:
		_, _ = io.Copy(io.Discard, r.Body) // a client that still sends would miss the answer
		maps.Copy(a.Header(), f.Header)
		a.WriteHeader(f.Status)
		_, _ = io.WriteString(a, f.Body) // the client is gone
	case f.Late:
		g.next.ServeHTTP(nowhere{}, r)
		a.reset()
	case f.Cut > 0:
		a.cut, a.stall = f.Cut, f.Stall
		g.next.ServeHTTP(a, r)
		if !a.gone { // it was shorter
			a.reset()
		}
	default:
		a.reset()
	}
}

func (g *Gate) refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused++
}

// answer is a response that a gate may end early.
type answer struct {
	http.ResponseWriter
	ctx     context.Context //nolint:containedctx // of the request, for a Write that waits
	closed  <-chan struct{}
	refused func()
	limit   *rate.Limiter
	carried *atomic.Int64
	gone    bool

	cut     int64 // bytes of the body; 0: all
	stall   time.Duration
	written int64
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) Write(p []byte) (int, error) {
	for left := len(p); left > 0; left -= burst {
		_ = a.limit.WaitN(a.ctx, min(left, burst)) // the client is gone, or the gate closed
	}
	if isClosed(a.closed) {
		a.reset()
	}
	if a.gone {
		return 0, net.ErrClosed
	}
	if a.cut == 0 || a.written+int64(len(p)) <= a.cut {
		n, err := a.ResponseWriter.Write(p)
		a.written += int64(n)
		a.carried.Add(int64(n))
		return n, err
	}
	_, _ = a.ResponseWriter.Write(p[:a.cut-a.written])
	_ = http.NewResponseController(a.ResponseWriter).Flush()
	sleep(a.ctx, a.stall)
	a.reset()
	return 0, net.ErrClosed
}

// reset ends the connection without a word.
func (a *answer) reset() {
	if a.gone {
		return
	}
	a.gone = true
	if isClosed(a.closed) {
		a.refused()
	}
	reset(a.ResponseWriter)
}

func reset(w http.ResponseWriter) {
	if a, ok := w.(*answer); ok {
		a.reset()
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // already gone
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not an end
	}
	_ = conn.Close()
}

// nowhere takes an answer that nobody gets.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// sleep returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
