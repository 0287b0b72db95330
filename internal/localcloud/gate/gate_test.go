package gate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
)

const hangTime = 2 * time.Minute

const size = 1 << 20

// stand puts a gate and a proxy before a server that answers every request with
// size bytes. acted counts what reached it.
func stand(t *testing.T) (g *gate.Gate, endpoint string, acted *atomic.Int64) {
	t.Helper()
	acted = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		acted.Add(1)
		_, _ = w.Write(bytes.Repeat([]byte(r.Host[:1]), size))
	}))
	t.Cleanup(server.Close)
	g = gate.New(gate.Proxy(server.Listener.Addr().String()), gate.ByS3)
	front := httptest.NewServer(g)
	t.Cleanup(front.Close)
	return g, front.URL, acted
}

// get returns the status and how much of the body came before err.
func get(t *testing.T, url string) (status, n int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	// A body: net/http sends a GET without one again by itself.
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/bucket/key", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "signed.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if len(body) > 0 && err == nil && resp.StatusCode == http.StatusOK && body[0] != 's' {
		t.Errorf("the server saw another Host, which begins with %q", body[0])
	}
	return resp.StatusCode, len(body), err
}

func TestFaultsHappenToAsManyRequestsAsWereArmed(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  gate.Fault
		status int
		reset  bool
		acted  int64
	}{
		"reset":  {gate.Fault{}, 0, true, 0},
		"answer": {gate.Fault{Status: 503, Body: "slow down"}, 503, false, 0},
		"late":   {gate.Fault{Late: true}, 0, true, 1},
		"cut":    {gate.Fault{Cut: 1000}, 200, true, 1},
		"stall":  {gate.Fault{Cut: 1000, Stall: time.Millisecond}, 200, true, 1},
		"short":  {gate.Fault{Cut: size * 2}, 200, false, 1},
		"hold":   {gate.Fault{Hold: time.Millisecond, Status: 504}, 504, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g, url, acted := stand(t)
			g.Arm(1, func(op string) bool { return op == "GetObject" }, gate.Fault{Status: 500}) // for nobody here
			hits := g.Arm(2, func(op string) bool { return op == "PutObject" }, tc.fault)
			for range 2 {
				status, n, err := get(t, url)
				if status != 0 && status != tc.status {
					t.Errorf("got status %d, want %d", status, tc.status)
				}
				if name == "short" {
					continue // all of it may have come before the reset
				}
				if (err != nil) != tc.reset || tc.reset && n >= size {
					t.Errorf("got %d bytes and %v", n, err)
				}
			}
			if acted.Load() != 2*tc.acted || hits() != 2 {
				t.Errorf("%d requests reached the server, %d met the fault", acted.Load(), hits())
			}
			if status, n, err := get(t, url); status != 200 || n != size || err != nil {
				t.Errorf("afterwards: got %d, %d bytes, %v", status, n, err)
			}
			if diff := cmp.Diff(map[string]int64{"PutObject": 3}, g.Counts()); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAClosedGateResets(t *testing.T) {
	g, url, acted := stand(t)
	g.Close()
	g.Close()
	if _, _, err := get(t, url); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want a reset", err)
	}
	if acted.Load() != 0 || g.Refused() != 1 {
		t.Errorf("%d requests reached the server, %d were refused", acted.Load(), g.Refused())
	}
	g.Open()
	g.Open()
	if status, _, err := get(t, url); status != 200 || err != nil {
		t.Errorf("got %d, %v after it was opened", status, err)
	}
}

// What is under way when a gate closes does not get through.
func TestCloseCutsWhatIsUnderWay(t *testing.T) {
	arrived := make(chan struct{})
	g := gate.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("begun"))
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-r.Context().Done()
		_, _ = w.Write([]byte("ended"))
	}), gate.ByPath)
	server := httptest.NewServer(g)
	defer server.Close()
	go func() { <-arrived; g.Close() }()
	if _, n, err := get(t, server.URL); err == nil || n > len("begun") {
		t.Errorf("got %d bytes and %v", n, err)
	}
}

func TestALimitedGateIsSlow(t *testing.T) {
	g, url, _ := stand(t)
	g.Limit(4 * size)
	start := time.Now()
	for range 2 {
		if _, n, err := get(t, url); n != size || err != nil {
			t.Errorf("got %d bytes, %v", n, err)
		}
	}
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("two quarters of a second took %v", took)
	}
}

func TestWhatPassesIsCounted(t *testing.T) {
	g, url, _ := stand(t)
	if _, n, err := get(t, url); n != size || err != nil || g.Carried() != size {
		t.Errorf("%d bytes came, %v, and %d were counted, want %d", n, err, g.Carried(), size)
	}
	g.Arm(1, nil, gate.Fault{Hold: hangTime})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = get(t, url)
	}()
	await(t, func() bool { return g.Connections() == 1 })
	g.Close()
	<-done
	await(t, func() bool { return g.Connections() == 0 })
}

// await looks again and again until it is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(hangTime); !so(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it never was")
		}
	}
}

func TestDisarm(t *testing.T) {
	g, url, _ := stand(t)
	hits := g.Arm(1, nil, gate.Fault{})
	g.Disarm()
	if _, _, err := get(t, url); err != nil || hits() != 0 {
		t.Errorf("got %v after %d hits", err, hits())
	}
}

func TestNames(t *testing.T) {
	for request, want := range map[string]string{
		"GET /b?list-type=2&prefix=x": "ListObjectsV2", "GET /b/?uploads": "ListMultipartUploads",
		"GET /b?versions": "ListObjectVersions", "HEAD /b": "HeadBucket", "HEAD /b/k/x": "HeadObject",
		"GET /b/k": "GetObject", "GET /b/k?tagging": "GetObjectTagging", "GET /b/k?uploadId=u": "ListParts",
		"PUT /b/k": "PutObject", "PUT /b/k?tagging": "PutObjectTagging", "PUT /b/k?partNumber=1&uploadId=u": "UploadPart",
		"POST /b/k?uploads": "CreateMultipartUpload", "POST /b/k?uploadId=u": "CompleteMultipartUpload",
		"DELETE /b/k": "DeleteObject", "DELETE /b/k?uploadId=u": "AbortMultipartUpload", "POST /b?delete": "DeleteObjects",
	} {
		method, target, _ := strings.Cut(request, " ")
		if got := gate.ByS3(httptest.NewRequest(method, target, nil)); got != want {
			t.Errorf("%s: got %s, want %s", request, got, want)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	if got := gate.ByTarget(r); got != "POST /" {
		t.Errorf("got %s", got)
	}
	r.Header.Set("X-Amz-Target", "AmazonSQS.SendMessage")
	if got := gate.ByTarget(r); got != "AmazonSQS.SendMessage" {
		t.Errorf("got %s", got)
	}
}
