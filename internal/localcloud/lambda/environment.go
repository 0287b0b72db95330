package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	runtimePath = "/2018-06-01/runtime/"

	// initTime is what a process has, beside one timeout of the function, until
	// it first asks for work.
	initTime = 10 * time.Second

	// grace is what a process has between SIGTERM and SIGKILL.
	grace = 2 * time.Second

	maxResponse = 6 << 20 // of the service
)

var errDiedIdle = errors.New("environment died between two invocations")

// environment is one process of a function with a Runtime API of its own. It
// runs one invocation at a time.
type environment struct {
	function Function
	cmd      *exec.Cmd
	server   *http.Server
	logs     *lineWriter

	ready  chan struct{}    // receives when the process asks for its next invocation
	work   chan *invocation // answers that
	exited chan struct{}    // closed when the process is gone

	mu      sync.Mutex
	current *invocation
	failure *FunctionError // of the init phase, as the process reported it
	exit    error          // of the process; set before exited is closed
}

type invocation struct {
	id       string
	payload  []byte
	deadline time.Time
	result   chan result // takes one
}

type result struct {
	response []byte
	err      error
}

// startEnvironment starts a process. It must be closed, or have ended by itself.
func startEnvironment(f Function) (*environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the Runtime API: %w", err)
	}
	e := &environment{
		function: f, logs: &lineWriter{function: f.Name, to: f.Logs},
		ready: make(chan struct{}), work: make(chan *invocation), exited: make(chan struct{}),
	}
	e.server = &http.Server{Handler: e.runtimeAPI(), ReadHeaderTimeout: initTime}
	e.cmd = exec.Command(f.Binary)
	e.cmd.Dir = filepath.Dir(f.Binary)
	e.cmd.Env = f.environ(listener.Addr().String())
	e.cmd.Stdout, e.cmd.Stderr = e.logs, e.logs
	e.cmd.WaitDelay = grace
	dieWithParent(e.cmd)

	started := make(chan error)
	go e.supervise(started)
	if err := <-started; err != nil {
		_ = listener.Close()
		return nil, err
	}
	go func() { _ = e.server.Serve(listener) }()
	return e, nil
}

// supervise starts the process and waits for its end on one thread, which
// Linux takes for the parent.
func (e *environment) supervise(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := e.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	e.exit = e.cmd.Wait()
	e.logs.flush()
	_ = e.server.Close()
	close(e.exited)
}

func (f Function) environ(runtimeAPI string) []string {
	env := map[string]string{
		"AWS_DEFAULT_REGION":              f.Region,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMiB),
		"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_FORMAT":           "JSON",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      time.Now().UTC().Format("2006/01/02") + "/[$LATEST]" + uuid.NewString(),
		"AWS_LAMBDA_RUNTIME_API":          runtimeAPI,
		"AWS_REGION":                      f.Region,
		"AWS_SDK_UA_APP_ID":               f.Name, // not set by Lambda: tells the servers here who calls
		"LAMBDA_TASK_ROOT":                filepath.Dir(f.Binary),
		"LANG":                            "en_US.UTF-8",
		"PATH":                            "/usr/local/bin:/usr/bin:/bin",
		"TZ":                              ":UTC",
		"_HANDLER":                        "bootstrap",
	}
	maps.Copy(env, f.Env)
	out := make([]string, 0, len(env))
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	return out
}

func (e *environment) alive() bool {
	select {
	case <-e.exited:
		return false
	default:
		return true
	}
}

// awaitReady waits until the process first asks for work.
func (e *environment) awaitReady(ctx context.Context) error {
	timer := time.NewTimer(initTime + e.function.Timeout)
	defer timer.Stop()
	select {
	case <-e.ready:
		return nil
	case <-e.exited:
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.failure != nil {
			return e.failure
		}
		return e.exitError()
	case <-timer.C:
		e.kill()
		return e.error("Sandbox.Timedout", "the init phase took longer than "+(initTime+e.function.Timeout).String())
	case <-ctx.Done():
		e.kill()
		return ctx.Err()
	}
}

// invoke runs one invocation in an environment that is ready, and returns when
// it is ready again or gone.
func (e *environment) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	inv := &invocation{
		id: uuid.NewString(), payload: payload, deadline: time.Now().Add(e.function.Timeout), result: make(chan result, 1),
	}
	e.setCurrent(inv)
	defer e.setCurrent(nil)
	select {
	case e.work <- inv:
	case <-e.exited:
		return nil, errDiedIdle
	}

	timer := time.NewTimer(e.function.Timeout)
	defer timer.Stop()
	var out result
	select {
	case out = <-inv.result:
	case <-e.exited:
		// It may have answered with its last breath.
		select {
		case out = <-inv.result:
		default:
			out.err = e.exitError()
		}
		return out.response, out.err
	case <-timer.C:
		e.kill()
		return nil, e.error("Sandbox.Timedout", fmt.Sprintf("task timed out after %.2f seconds", e.function.Timeout.Seconds()))
	case <-ctx.Done():
		e.kill()
		return nil, ctx.Err()
	}
	// The invocation is complete when the process asks for the next one. After a
	// panic it exits instead.
	select {
	case <-e.ready:
	case <-e.exited:
	case <-timer.C:
		e.kill()
	}
	return out.response, out.err
}

func (e *environment) setCurrent(inv *invocation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = inv
}

// working reports whether an invocation is under way.
func (e *environment) working() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current != nil
}

// finish hands r to the running invocation with the ID, once.
func (e *environment) finish(id string, r result) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil || e.current.id != id {
		return false
	}
	select {
	case e.current.result <- r:
		return true
	default:
		return false
	}
}

// kill ends the process at once and waits for that.
func (e *environment) kill() {
	_ = e.cmd.Process.Kill() // gone already, then
	<-e.exited
}

// close ends the process, politely first, and waits for that.
func (e *environment) close() {
	if err := terminate(e.cmd.Process); err != nil {
		e.kill()
		return
	}
	select {
	case <-e.exited:
	case <-time.After(grace):
		e.kill()
	}
}

func (e *environment) error(kind, message string) *FunctionError {
	return &FunctionError{Function: e.function.Name, Type: kind, Message: message}
}

// exitError says how the process ended; only after exited.
func (e *environment) exitError() *FunctionError {
	message := "runtime exited without providing a reason"
	if e.exit != nil {
		message = "runtime exited: " + e.exit.Error()
	}
	return e.error("Runtime.ExitError", message)
}

func (e *environment) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+runtimePath+"invocation/next", e.serveNext)
	mux.HandleFunc("POST "+runtimePath+"invocation/{id}/response", e.serveResponse)
	mux.HandleFunc("POST "+runtimePath+"invocation/{id}/error", e.serveError)
	mux.HandleFunc("POST "+runtimePath+"init/error", e.serveInitError)
	return mux
}

func (e *environment) serveNext(w http.ResponseWriter, r *http.Request) {
	select {
	case e.ready <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	select {
	case inv := <-e.work:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", e.function.arn())
		h.Set("Lambda-Runtime-Trace-Id", fmt.Sprintf("Root=1-%08x-%024x;Sampled=0", time.Now().Unix(), 0))
		_, _ = w.Write(inv.payload)
	case <-r.Context().Done():
	}
}

func (e *environment) serveResponse(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResponse))
	out := result{response: body}
	if err != nil {
		out = result{err: e.error("Function.ResponseSizeTooLarge", "read response: "+err.Error())}
	}
	answer(w, e.finish(r.PathValue("id"), out))
}

func (e *environment) serveError(w http.ResponseWriter, r *http.Request) {
	answer(w, e.finish(r.PathValue("id"), result{err: e.reported(r)}))
}

func (e *environment) serveInitError(w http.ResponseWriter, r *http.Request) {
	failure := e.reported(r)
	e.mu.Lock()
	e.failure = failure
	e.mu.Unlock()
	answer(w, true)
}

// reported reads an error that the process posts.
func (e *environment) reported(r *http.Request) *FunctionError {
	var in struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxResponse)).Decode(&in); err != nil {
		in.Message = "the function reported an error that is no JSON: " + err.Error()
	}
	if in.Type == "" {
		in.Type = "Runtime.Unknown"
	}
	return e.error(in.Type, in.Message)
}

func answer(w http.ResponseWriter, known bool) {
	w.Header().Set("Content-Type", "application/json")
	if !known {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}`)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}
