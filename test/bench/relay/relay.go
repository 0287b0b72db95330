// Package relay is a long, lossy link on one machine: a TCP relay in user space
// that delays both directions and gives what comes back a rate a connection with
// slow start, a rate of the whole link, and resets.
//
// It knows as much of HTTP/1.1 as it takes to count requests and the bytes of
// bodies, provided that requests have no bodies and are not pipelined.
package relay

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Link describes what lies between. Zero rates and ResetEvery mean no limit.
type Link struct {
	RTT            time.Duration
	ConnectionRate int64 // bytes a second of one connection, once slow start is over
	Rate           int64 // bytes a second of all connections together
	ResetEvery     int64 // bytes that a connection carries before it is reset, on average
}

const (
	initialWindow = 10 * 1460 // bytes, RFC 6928
	chunk         = 32 << 10
	inFlight      = 64 // chunks of one direction of a connection
	// grain is the shortest wait worth a timer: with hundreds of connections the
	// relay must not take the processor from what is measured.
	grain = 2 * time.Millisecond
)

// Stats is what went through a relay.
type Stats struct {
	Connections, Requests, Resets int64
	Bytes                         int64         // of response bodies
	Busy                          time.Duration // from the first connection to the last byte
}

// Relay stands before one server.
type Relay struct {
	link     Link
	target   string
	listener net.Listener
	stop     context.CancelFunc
	all      sync.WaitGroup

	shared schedule // of the link

	connections, requests, resets, bytes atomic.Int64
	first, last                          atomic.Int64 // Unix nanoseconds
}

// Start listens on a free port of 127.0.0.1 and relays to target, host and port,
// until Close.
func Start(ctx context.Context, link Link, target string) (*Relay, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Relay{link: link, target: target, listener: listener, stop: stop}
	r.all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.all.Go(func() { r.carry(ctx, client.(*net.TCPConn)) }) //nolint:forcetypeassert,errcheck // a TCP listener's
		}
	})
	return r, nil
}

// Endpoint is the relay's URL.
func (r *Relay) Endpoint() string { return "http://" + r.listener.Addr().String() }

// Stats returns what went through so far.
func (r *Relay) Stats() Stats {
	return Stats{
		Connections: r.connections.Load(), Requests: r.requests.Load(), Resets: r.resets.Load(), Bytes: r.bytes.Load(),
		Busy: time.Duration(r.last.Load() - r.first.Load()),
	}
}

// Close cuts all connections and returns when the relay is gone.
func (r *Relay) Close() error {
	r.stop()
	err := r.listener.Close()
	r.all.Wait()
	return err
}

// carry relays one connection until both ends have closed it, or the link did.
func (r *Relay) carry(ctx context.Context, client *net.TCPConn) {
	defer client.Close()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	dialled, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.target)
	if err != nil {
		return
	}
	server := dialled.(*net.TCPConn) //nolint:forcetypeassert,errcheck // dialled as tcp
	defer server.Close()
	release := context.AfterFunc(ctx, func() {
		_ = client.SetLinger(0) // a reset, not an end
		_ = client.Close()
		_ = server.Close()
	})
	defer release()

	r.connections.Add(1)
	r.first.CompareAndSwap(0, time.Now().UnixNano())
	c := &connection{relay: r, established: time.Now().Add(r.link.RTT), left: r.untilReset(), window: initialWindow}
	var both sync.WaitGroup
	both.Go(func() { c.pass(ctx, cut, server, client, c.up) })
	both.Go(func() { c.pass(ctx, cut, client, server, c.down) })
	both.Wait()
}

// untilReset draws the bytes after which a connection is reset.
func (r *Relay) untilReset() int64 {
	if r.link.ResetEvery == 0 {
		return 1 << 62
	}
	return int64(rand.ExpFloat64() * float64(r.link.ResetEvery)) //nolint:gosec // a link, not a key
}

// connection is the state of one connection. up and down are called by one
// goroutine each.
type connection struct {
	relay       *Relay
	established time.Time
	asked       atomic.Int64 // requests that went up

	answered int64 // heads of responses that came down
	own      schedule
	window   int64 // bytes a round trip
	left     int64 // bytes until the reset
}

// up returns when p may leave and false if the link breaks instead.
func (c *connection) up(p []byte) (time.Time, bool) {
	if n := int64(bytes.Count(p, headEnd)); n > 0 {
		c.asked.Add(n)
		c.relay.requests.Add(n)
	}
	now := time.Now()
	if now.Before(c.established) {
		return c.established, true
	}
	return now, true
}

var headEnd = []byte("\r\n\r\n")

// down is up for what comes back.
func (c *connection) down(p []byte) (time.Time, bool) {
	c.relay.bytes.Add(int64(c.body(p)))
	n := int64(len(p))
	if c.left -= n; c.left < 0 {
		c.relay.resets.Add(1)
		return time.Time{}, false
	}
	link, now := c.relay.link, time.Now()
	at := now
	if link.ConnectionRate > 0 {
		// The window doubles each round trip in which it is used. After a pause
		// one window may leave at once.
		full := max(initialWindow, int64(float64(link.ConnectionRate)*link.RTT.Seconds()))
		at = c.own.take(now, link.RTT, time.Duration(float64(n)/float64(c.window)*float64(link.RTT)))
		c.window = min(c.window+n, full)
	}
	if link.Rate > 0 {
		shared := c.relay.shared.take(now, 0, time.Duration(float64(n)/float64(link.Rate)*float64(time.Second)))
		if shared.After(at) {
			at = shared
		}
	}
	c.relay.last.Store(at.Add(link.RTT / 2).UnixNano())
	return at, true
}

// body returns how many bytes of p are not heads of responses.
func (c *connection) body(p []byte) int {
	if c.answered < c.asked.Load() {
		end := bytes.Index(p, headEnd)
		if end < 0 {
			return 0
		}
		c.answered++
		return len(p) - end - len(headEnd)
	}
	return len(p)
}

// schedule says when a resource is free.
type schedule struct {
	mu   sync.Mutex
	free time.Time
}

// take books the resource for d and returns when that is over; a resource that
// was idle has up to burst of its time left.
func (s *schedule) take(now time.Time, burst, d time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if earliest := now.Add(-burst); s.free.Before(earliest) {
		s.free = earliest
	}
	s.free = s.free.Add(d)
	return s.free
}

type packet struct {
	data []byte
	due  time.Time
}

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// pass moves bytes from src to dst, each half a round trip after it may leave,
// until src ends or ctx does. Where admit breaks the link it calls cut.
func (c *connection) pass(ctx context.Context, cut func(), dst, src *net.TCPConn, admit func([]byte) (time.Time, bool)) {
	queue := make(chan packet, inFlight)
	var writer sync.WaitGroup
	writer.Go(func() {
		for p := range queue {
			if sleepUntil(ctx, p.due) {
				if _, err := dst.Write(p.data); err != nil {
					cut()
				}
			}
			chunks.Put((*[chunk]byte)(p.data[:chunk]))
		}
		_ = dst.CloseWrite()
	})
	defer writer.Wait()
	defer close(queue)
	for {
		buf := chunks.Get().(*[chunk]byte) //nolint:forcetypeassert,errcheck // nothing else is put there
		n, err := src.Read(buf[:])
		if n > 0 {
			at, ok := admit(buf[:n])
			if !ok {
				cut()
			}
			if !sleepUntil(ctx, at) {
				return
			}
			queue <- packet{buf[:n], at.Add(c.relay.link.RTT / 2)}
		}
		if err != nil {
			return
		}
	}
}

// sleepUntil returns false if ctx ends first, or has ended.
func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait < grain {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
