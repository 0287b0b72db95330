// Package lambda runs Lambda functions on this machine the way the service
// does: the unmodified bootstrap binary, one process an execution environment,
// fed over the Lambda Runtime API; event source mappings and schedules in front.
//
// Functions run as the calling user, without isolation.
package lambda

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Function is one function and its limits.
type Function struct {
	Name    string
	Binary  string            // absolute path of the bootstrap
	Env     map[string]string // beside what the service sets; credentials belong here
	Region  string
	Account string // twelve digits

	Timeout     time.Duration // of an invocation; 0: 3 s
	MemoryMiB   int           // what the function is told, not enforced; 0: 128
	Concurrency int           // most environments at once; 0: 1

	// Logs takes what the function prints: one JSON object a line, each in one
	// Write, with the function's name in it. Environments write concurrently.
	// nil: nowhere.
	Logs io.Writer
}

func (f Function) withDefaults() Function {
	if f.Timeout == 0 {
		f.Timeout = 3 * time.Second
	}
	if f.MemoryMiB == 0 {
		f.MemoryMiB = 128
	}
	if f.Concurrency == 0 {
		f.Concurrency = 1
	}
	if f.Logs == nil {
		f.Logs = io.Discard
	}
	return f
}

func (f Function) arn() string {
	return "arn:aws:lambda:" + f.Region + ":" + f.Account + ":function:" + f.Name
}

// FunctionError is an invocation that the function failed, or did not survive.
type FunctionError struct {
	Function string
	Type     string // as the service reports it, such as Runtime.ExitError
	Message  string
}

func (e *FunctionError) Error() string {
	return fmt.Sprintf("invoke %s: %s: %s", e.Function, e.Type, e.Message)
}

// ErrStopped is the answer of a Host that was stopped.
var ErrStopped = errors.New("function host is stopped")

// Host runs one function. It is safe for concurrent use.
type Host struct {
	function Function
	slots    chan struct{}
	stopping chan struct{} // closed by Stop

	invocations atomic.Int64

	mu   sync.Mutex
	idle []*environment
	all  map[*environment]struct{}
}

// NewHost returns a host that starts environments as invocations need them.
func NewHost(f Function) *Host {
	f = f.withDefaults()
	return &Host{
		function: f,
		slots:    make(chan struct{}, f.Concurrency),
		stopping: make(chan struct{}),
		all:      map[*environment]struct{}{},
	}
}

// Invoke runs the function once and returns what it answered. It waits for an
// environment while all are busy. A function that fails, crashes or runs out of
// time is a *FunctionError. When ctx ends during the invocation, the
// environment is killed.
func (h *Host) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
	case <-h.stopping:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()

	for {
		e, err := h.acquire(ctx)
		if err != nil {
			return nil, err
		}
		h.invocations.Add(1)
		response, err := e.invoke(ctx, payload)
		h.release(e)
		// An environment that died idle never saw the payload.
		if !errors.Is(err, errDiedIdle) {
			return response, err
		}
	}
}

// PIDs returns the processes of the environments that are alive.
func (h *Host) PIDs() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var pids []int
	for e := range h.all {
		if e.alive() {
			pids = append(pids, e.cmd.Process.Pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Invocations returns how many invocations were begun.
func (h *Host) Invocations() int64 { return h.invocations.Load() }

// Working returns how many environments have an invocation, or are being started
// for one.
func (h *Host) Working() int { return len(h.slots) }

// Busy reports whether an invocation is under way.
func (h *Host) Busy() bool { return len(h.slots) > 0 }

// Kill kills one environment, as may happen to any at any time: one that is at
// work if there is one. It reports whether there was any.
func (h *Host) Kill() bool {
	h.mu.Lock()
	var victim *environment
	for e := range h.all {
		if e.alive() && (victim == nil || e.working()) {
			victim = e
		}
	}
	h.mu.Unlock()
	if victim == nil {
		return false
	}
	victim.kill()
	return true
}

// Stop ends all environments, busy ones too, and returns when their processes
// are gone. Running invocations fail.
func (h *Host) Stop() {
	h.mu.Lock()
	select {
	case <-h.stopping:
	default:
		close(h.stopping)
	}
	var environments []*environment
	for e := range h.all {
		environments = append(environments, e)
	}
	h.mu.Unlock()

	var wg sync.WaitGroup
	for _, e := range environments {
		wg.Go(e.close)
	}
	wg.Wait()
}

// acquire returns the environment used last, or a new one.
func (h *Host) acquire(ctx context.Context) (*environment, error) {
	h.mu.Lock()
	for len(h.idle) > 0 {
		e := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		if e.alive() {
			h.mu.Unlock()
			return e, nil
		}
		delete(h.all, e)
	}
	select {
	case <-h.stopping:
		h.mu.Unlock()
		return nil, ErrStopped
	default:
	}
	// Under the lock, so that Stop knows every process there is.
	e, err := startEnvironment(h.function)
	if err == nil {
		h.all[e] = struct{}{}
	}
	h.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("start function %s: %w", h.function.Name, err)
	}
	if err := e.awaitReady(ctx); err != nil {
		h.release(e)
		return nil, err
	}
	return e, nil
}

// release keeps e for the next invocation, or forgets it if it is gone.
func (h *Host) release(e *environment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.alive() {
		h.idle = append(h.idle, e)
		return
	}
	delete(h.all, e)
}
