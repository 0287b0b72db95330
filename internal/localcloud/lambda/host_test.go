package lambda_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeclient "github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/localcloud/lambda"
)

// The test binary is its own function: with this variable set it runs
// aws-lambda-go's loop instead of the tests.
const roleVariable = "TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "function":
		runtimeclient.Start(function)
	case "broken":
		fmt.Fprintln(os.Stderr, "cannot start: no configuration")
		os.Exit(3)
	case "parent":
		parent()
	}
	os.Exit(m.Run())
}

type order struct {
	Do   string
	Text string
}

type answer struct {
	Text string
	PID  int
	Env  map[string]string
	Left time.Duration // until the deadline
	ID   string
	ARN  string
}

func function(ctx context.Context, o order) (answer, error) {
	fmt.Printf(`{"level":"INFO","msg":"got %s"}`+"\n", o.Do)
	deadline, _ := ctx.Deadline()
	lc, _ := lambdacontext.FromContext(ctx)
	a := answer{Text: o.Text, PID: os.Getpid(), Left: time.Until(deadline), ID: lc.AwsRequestID, ARN: lc.InvokedFunctionArn}
	switch o.Do {
	case "fail":
		return a, errors.New("no: " + o.Text)
	case "panic":
		panic("no: " + o.Text)
	case "exit":
		fmt.Print("last words")
		os.Exit(7)
	case "hang": // once the file is there
		if o.Text != "" {
			if err := os.WriteFile(o.Text, nil, 0o600); err != nil {
				return a, err
			}
		}
		select {}
	case "wait": // until the file is there
		for {
			if _, err := os.Stat(o.Text); err == nil {
				return a, nil
			}
			time.Sleep(time.Millisecond)
		}
	case "env":
		a.Env = map[string]string{}
		for _, v := range os.Environ() {
			name, value, _ := strings.Cut(v, "=")
			a.Env[name] = value
		}
	}
	return a, nil
}

// hangTime bounds waits that only end late when something is broken.
const hangTime = time.Minute

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func testFunction(t testing.TB) lambda.Function {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return lambda.Function{
		Name: "sender", Binary: self, Region: "us-east-1", Account: "000000000000", Timeout: hangTime,
		Env: map[string]string{roleVariable: "function", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"},
	}
}

func newHost(t testing.TB, f lambda.Function) *lambda.Host {
	h := lambda.NewHost(f)
	t.Cleanup(h.Stop)
	return h
}

func invoke(ctx context.Context, h *lambda.Host, o order) (answer, error) {
	payload, err := json.Marshal(o)
	if err != nil {
		return answer{}, err
	}
	response, err := h.Invoke(ctx, payload)
	if err != nil {
		return answer{}, err
	}
	var a answer
	err = json.Unmarshal(response, &a)
	return a, err
}

func mustInvoke(t testing.TB, h *lambda.Host, o order) answer {
	t.Helper()
	a, err := invoke(t.Context(), h, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantFunctionError(t *testing.T, err error, kind, message string) {
	t.Helper()
	f, ok := errors.AsType[*lambda.FunctionError](err)
	if !ok || f.Type != kind || !strings.Contains(f.Message, message) {
		t.Errorf("got error %v, want a %s with %q", err, kind, message)
	}
}

func TestEnvironmentIsReused(t *testing.T) {
	h := newHost(t, testFunction(t))
	first := mustInvoke(t, h, order{Do: "echo", Text: "你好"})
	second := mustInvoke(t, h, order{Do: "echo"})
	if first.Text != "你好" || first.PID != second.PID || first.ID == second.ID {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if first.Left <= 0 || first.Left > hangTime || first.ARN != "arn:aws:lambda:us-east-1:000000000000:function:sender" {
		t.Errorf("deadline in %v, ARN %s", first.Left, first.ARN)
	}
}

func TestEnvironmentBlock(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.invalid") // of the machine: not the function's business
	got := mustInvoke(t, newHost(t, testFunction(t)), order{Do: "env"}).Env
	for name, want := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_NAME": "sender", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "HTTPS_PROXY": "", "HOME": "",
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	if !strings.HasPrefix(got["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:") {
		t.Errorf("Runtime API at %q", got["AWS_LAMBDA_RUNTIME_API"])
	}
}

func TestErrorKeepsTheEnvironmentAndPanicEndsIt(t *testing.T) {
	h := newHost(t, testFunction(t))
	pid := mustInvoke(t, h, order{}).PID
	_, err := invoke(t.Context(), h, order{Do: "fail", Text: "坏"})
	wantFunctionError(t, err, "errorString", "no: 坏")
	if got := mustInvoke(t, h, order{}).PID; got != pid {
		t.Error("an error ended the environment")
	}
	_, err = invoke(t.Context(), h, order{Do: "panic"})
	wantFunctionError(t, err, "string", "no: ")
	if got := mustInvoke(t, h, order{}).PID; got == pid {
		t.Error("a panic did not end the environment")
	}
	_, err = invoke(t.Context(), h, order{Do: "exit"})
	wantFunctionError(t, err, "Runtime.ExitError", "exit status 7")
	mustInvoke(t, h, order{})
}

func TestKill9(t *testing.T) {
	h := newHost(t, testFunction(t))
	pid := mustInvoke(t, h, order{}).PID

	t.Run("while idle", func(t *testing.T) {
		if err := kill9(pid); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return len(h.PIDs()) == 0 })
		if got := mustInvoke(t, h, order{}).PID; got == pid {
			t.Error("a dead process answered")
		} else {
			pid = got
		}
	})
	t.Run("in the middle", func(t *testing.T) {
		failed, begun := make(chan error), t.TempDir()+"/begun"
		go func() {
			_, err := invoke(context.Background(), h, order{Do: "hang", Text: begun})
			failed <- err
		}()
		eventually(t, func() bool { _, err := os.Stat(begun); return err == nil })
		if err := kill9(pid); err != nil {
			t.Fatal(err)
		}
		wantFunctionError(t, <-failed, "Runtime.ExitError", "killed")
		mustInvoke(t, h, order{})
	})
}

func kill9(pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Kill()
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(hangTime); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestTimeoutKills(t *testing.T) {
	f := testFunction(t)
	f.Timeout = 200 * time.Millisecond
	h := newHost(t, f)
	_, err := invoke(t.Context(), h, order{Do: "hang"})
	wantFunctionError(t, err, "Sandbox.Timedout", "timed out after 0.20 seconds")
	if pids := h.PIDs(); len(pids) != 0 {
		t.Errorf("processes %v outlived the timeout", pids)
	}
}

func TestBrokenFunctions(t *testing.T) {
	f := testFunction(t)
	f.Env = map[string]string{roleVariable: "broken"}
	logs := &syncBuffer{}
	f.Logs = logs
	_, err := newHost(t, f).Invoke(t.Context(), []byte(`{}`))
	wantFunctionError(t, err, "Runtime.ExitError", "exit status 3")
	if want := `{"function":"sender","msg":"cannot start: no configuration"}` + "\n"; logs.String() != want {
		t.Errorf("logs %q, want %q", logs.String(), want)
	}

	f.Binary = "/no/such/bootstrap"
	if _, err := newHost(t, f).Invoke(t.Context(), []byte(`{}`)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want an error that the binary is not there", err)
	}
}

func TestConcurrencyIsTheLimit(t *testing.T) {
	const limit, invocations = 3, 7
	f := testFunction(t)
	f.Concurrency = limit
	h := newHost(t, f)
	gate := t.TempDir() + "/gate"
	pids := make(chan int, invocations)
	var wg sync.WaitGroup
	for range invocations {
		wg.Go(func() { pids <- mustInvoke(t, h, order{Do: "wait", Text: gate}).PID })
	}
	eventually(t, func() bool { return len(h.PIDs()) == limit })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	close(pids)
	distinct := map[int]bool{}
	for pid := range pids {
		distinct[pid] = true
	}
	if len(distinct) != limit {
		t.Errorf("%d invocations ran in %d processes, want %d", invocations, len(distinct), limit)
	}
}

func TestStop(t *testing.T) {
	f := testFunction(t)
	f.Concurrency = 2
	h := lambda.NewHost(f)
	mustInvoke(t, h, order{})
	failed := make(chan error)
	go func() {
		_, err := invoke(context.Background(), h, order{Do: "hang"})
		failed <- err
	}()
	eventually(t, func() bool { return len(h.PIDs()) == 1 })
	h.Stop()
	h.Stop()
	if err := <-failed; err == nil {
		t.Error("an invocation survived Stop")
	}
	if pids := h.PIDs(); len(pids) != 0 {
		t.Errorf("left behind: %v", pids)
	}
	if _, err := invoke(t.Context(), h, order{}); !errors.Is(err, lambda.ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
}

func TestLogsAreJSONLines(t *testing.T) {
	f := testFunction(t)
	logs := &syncBuffer{}
	f.Logs = logs
	h := lambda.NewHost(f)
	if _, err := invoke(t.Context(), h, order{Do: "exit"}); err == nil {
		t.Fatal("an exit is no answer")
	}
	h.Stop()
	var got []map[string]any
	for line := range strings.Lines(logs.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, m)
	}
	want := []map[string]any{
		{"function": "sender", "level": "INFO", "msg": "got exit"},
		{"function": "sender", "msg": "last words"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
}

// parent runs a function that hangs, says its process ID and waits to be killed.
func parent() {
	self, _ := os.Executable()
	h := lambda.NewHost(lambda.Function{
		Name: "f", Binary: self, Timeout: hangTime, Env: map[string]string{roleVariable: "function"}, Logs: io.Discard,
	})
	a, err := invoke(context.Background(), h, order{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() { _, _ = invoke(context.Background(), h, order{Do: "hang"}) }()
	fmt.Println(a.PID)
	select {}
}

func TestChildrenDieWithAKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a busy child ends when it next calls the Runtime API")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"=parent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	eventually(t, func() bool { return gone(pid) })
}

// gone also takes a zombie, which only waits for whoever inherited it.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func BenchmarkWarmInvocation(b *testing.B) {
	h := newHost(b, testFunction(b))
	mustInvoke(b, h, order{})
	for b.Loop() {
		mustInvoke(b, h, order{})
	}
}

func TestKillTakesTheOneAtWork(t *testing.T) {
	f := testFunction(t)
	f.Concurrency = 2
	h := newHost(t, f)
	if h.Kill() {
		t.Error("killed one of none")
	}
	idle := mustInvoke(t, h, order{}).PID
	failed := make(chan error, 1)
	// The idle one takes it, so another is started for the echo.
	go func() { _, err := invoke(t.Context(), h, order{Do: "hang"}); failed <- err }()
	for !h.Busy() || h.Invocations() != 2 {
		time.Sleep(time.Millisecond)
	}
	other := mustInvoke(t, h, order{}).PID
	if !h.Kill() {
		t.Error("killed none of two")
	}
	wantFunctionError(t, <-failed, "Runtime.ExitError", "killed")
	if got := h.PIDs(); len(got) != 1 || got[0] != other || other == idle {
		t.Errorf("%v are alive, expected %d, which was idle", got, other)
	}
}
