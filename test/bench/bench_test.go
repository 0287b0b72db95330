package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/test/bench/relay"
)

// built holds the functions, built once.
var built string

func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "s3ferry-bench-test-")
		if err == nil {
			defer os.RemoveAll(dir)
			built = filepath.Join(dir, "functions")
			err = localcloud.BuildFunctions(context.Background(), built)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// easy is a link that holds no test up.
var easy = relay.Link{RTT: 2 * time.Millisecond, ConnectionRate: 50e6, ResetEvery: 5e6}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{timeout: time.Minute, segmentSize: envcfg.DefaultSegmentSize, connections: 32, functions: built}
	if err := b.prepare(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.source.Stop(context.WithoutCancel(t.Context())) })
	return b
}

// The bench measures the receiver only as long as it can start it.
func TestTheFerryColumnCarriesItsWork(t *testing.T) {
	b := newBench(t)
	for _, tc := range []struct {
		work   string
		sizes  []int64
		memory int64
	}{
		{"small", scaled(works["small"](""), 0.02), 0},
		{"large", []int64{20 * miB}, 0},
		{"large, streamed", []int64{20*miB + 1}, 8}, // parts of 8 MiB, of which 8 MiB do not hold two
	} {
		b.memory, b.rows = tc.memory, nil
		if err := b.measure(t.Context(), "easy", tc.work, easy, tc.sizes, []string{"ferry"}, 1); err != nil {
			t.Fatalf("%s: %v", tc.work, err)
		}
		if r := b.rows[0]; r.Note != "" || r.Seconds == 0 || r.Pulled < 1 || r.Pulled > 1.5 {
			t.Errorf("%s: got %+v", tc.work, r)
		}
	}
}

// holes is the one work whose bytes are compared, and whose parts can be larger than
// a receiver's memory.
func TestHolesAreCarried(t *testing.T) {
	b := newBench(t)
	for _, memory := range []int64{0, 5} {
		b.memory, b.rows = memory, nil
		if err := b.measureHoles(t.Context(), 0.001, []string{"ferry-2"}); err != nil {
			t.Fatalf("%d MiB of memory: %v", memory, err)
		}
		if r := b.rows[0]; r.Seconds == 0 || r.Pulled < 1 || r.Pulled > 1.3 || !strings.Contains(r.Note, "checksum proved") {
			t.Errorf("%d MiB of memory: got %+v", memory, r)
		}
	}
}

func TestAReceiverThatDoesNotStartEndsTheRun(t *testing.T) {
	b := newBench(t)
	script := "#!/bin/sh\necho 'S3FERRY_SOMETHING is missing' >&2\nexit 1\n"
	b.functions = t.TempDir()
	if err := os.WriteFile(filepath.Join(b.functions, localcloud.Receiver), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := b.measure(t.Context(), "easy", "small", easy, []int64{1}, []string{"ferry"}, 1)
	if !errors.Is(err, errReceiver) || !strings.Contains(err.Error(), "S3FERRY_SOMETHING is missing") {
		t.Errorf("got %v, want what the receiver has printed", err)
	}
	if took := time.Since(began); took > b.timeout/2 {
		t.Errorf("it took %s", took)
	}
}
