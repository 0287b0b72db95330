package cost

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/metric"
)

var update = flag.Bool("update", false, "rewrite counts.json")

func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	os.Exit(m.Run())
}

// hangTime bounds waits that only end late when something is broken.
const hangTime = 2 * time.Minute

// laptop is a laptop cloud that counts. Its courier is called by hand.
type laptop struct {
	*testing.T
	cloud *localcloud.Cloud
	s3    *s3.Client
	logs  *logs
}

func startLaptop(t *testing.T) *laptop {
	t.Helper()
	l := &laptop{T: t, logs: &logs{bytes: map[string]float64{}, metrics: map[string]bool{}}}
	var err error
	l.cloud, err = localcloud.Start(t.Context(), localcloud.Options{Gated: true, CourierInterval: 24 * time.Hour, Logs: l.logs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := l.cloud.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	from := l.cloud.Source
	l.s3 = s3.New(s3.Options{
		Region: from.Region, BaseEndpoint: &from.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(from.AccessKeyID, from.SecretAccessKey, ""),
	})
	l.put("warm", 1) // environments start, secrets are read, a session begins
	l.await(1)
	l.round()
	return l
}

// logs counts the bytes of each function, and what it measures.
type logs struct {
	mu      sync.Mutex
	bytes   map[string]float64
	metrics map[string]bool // "ferry name"
}

func (w *logs) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, function := range []string{localcloud.Sender, localcloud.Receiver, localcloud.Courier} {
		if bytes.HasPrefix(line, []byte(`{"function":"`+function+`"`)) {
			w.bytes[function] += float64(len(line))
		}
	}
	var told struct {
		Ferry string
		AWS   struct {
			CloudWatchMetrics []struct{ Metrics []struct{ Name string } }
		} `json:"_aws"`
	}
	if json.Unmarshal(line, &told) == nil {
		for _, d := range told.AWS.CloudWatchMetrics {
			for _, m := range d.Metrics {
				if m.Name != metric.Inbox.Name { // has values only while something waits
					w.metrics[told.Ferry+" "+m.Name] = true
				}
			}
		}
	}
	return len(line), nil
}

// measured returns the metrics that have got values, sorted, and how many of them
// are of each side.
func (w *logs) measured() (names []string, sides map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sides = map[string]int{}
	for name := range w.metrics {
		ferry, _, _ := strings.Cut(name, " ")
		sides[map[string]string{localcloud.Sender: sending, localcloud.Receiver: receiving}[ferry]]++
	}
	return slices.Sorted(maps.Keys(w.metrics)), sides
}

func (l *laptop) put(key string, size int64) {
	l.Helper()
	_, err := l.s3.PutObject(l.Context(), &s3.PutObjectInput{Bucket: &l.cloud.Source.Bucket, Key: &key, Body: bytes.NewReader(make([]byte, size))})
	if err != nil {
		l.Error(err)
	}
}

// await waits until so many receipts lie in their queue, and for what the receiver
// does after the last one.
func (l *laptop) await(receipts int) {
	l.Helper()
	deadline := time.Now().Add(hangTime)
	for l.cloud.Queue("receipts").Counts().Visible < receipts || l.cloud.Queue("inbox").Counts() != (sqs.Counts{}) {
		if time.Now().After(deadline) {
			l.Fatalf("%d receipts, want %d", l.cloud.Queue("receipts").Counts().Visible, receipts)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// round calls the courier until no receipt is left.
func (l *laptop) round() {
	l.Helper()
	for {
		if _, err := l.cloud.Function(localcloud.Courier).Invoke(l.Context(), []byte(`{}`)); err != nil {
			l.Fatal(err)
		}
		if l.cloud.Queue("receipts").Counts().Visible == 0 {
			return
		}
	}
}

// count returns what so many objects of a size take that work carries.
func (l *laptop) count(objects int, size int64, work func()) Run {
	before := l.now()
	work()
	run := Run{Objects: objects, Size: size}
	after := l.now()
	run.Operations, run.Invocations, run.LogBytes = minus(after.Operations, before.Operations), minus(after.Invocations, before.Invocations), minus(after.LogBytes, before.LogBytes)
	return run
}

func minus(a, b map[string]float64) map[string]float64 {
	out := map[string]float64{}
	for name, n := range a {
		if n -= b[name]; n != 0 {
			out[name] = n
		}
	}
	return out
}

func (l *laptop) now() (r Run) {
	r.Operations, r.Invocations = map[string]float64{}, map[string]float64{}
	gates := l.cloud.Gates
	for name, g := range map[string]*gate.Gate{
		"api": gates.API, "border": gates.Border, "source": gates.Source, "destination": gates.Destination, "services": gates.Services,
	} {
		for operation, n := range g.Counts() {
			r.Operations[name+" "+strings.Replace(operation, " /prod/", " /", 1)] = float64(n)
		}
	}
	for _, name := range []string{localcloud.Sender, localcloud.Receiver, localcloud.Courier} {
		r.Invocations[name] = float64(l.cloud.Function(name).Invocations())
	}
	l.logs.mu.Lock()
	defer l.logs.mu.Unlock()
	r.LogBytes = maps.Clone(l.logs.bytes)
	return r
}

const smallSize = 16 << 10

// measure carries each workload and counts.
func measure(t *testing.T) Counts {
	l := startLaptop(t)
	burst, single, idle := 200, 20, 5
	var c Counts
	c.Burst = l.count(burst, smallSize, func() {
		var puts errgroup.Group
		puts.SetLimit(16)
		for i := range burst {
			puts.Go(func() error { l.put(fmt.Sprintf("burst/%d", i), smallSize); return nil })
		}
		_ = puts.Wait()
		l.await(burst)
		l.round()
	})
	var names []string
	names, c.Metrics = l.logs.measured()
	l.Logf("metrics with values: %q", names)
	c.Single = l.count(single, smallSize, func() {
		for i := range single {
			l.put(fmt.Sprintf("single/%d", i), smallSize)
			l.await(1)
			l.round()
		}
	})
	large := func(parts int64) Run {
		size := parts * envcfg.DefaultPartSize
		return l.count(1, size, func() {
			l.put(fmt.Sprintf("large/%d", parts), size)
			l.await(1)
			l.round()
		})
	}
	c.Large, c.Larger = large(partsOfLarge), large(partsOfLarger)
	c.Idle = l.count(idle, 0, func() {
		for range idle {
			l.round()
		}
	})
	return c
}

// What estimates are made from is what the functions do. How messages fill
// their batches varies, what is done for an object does not.
func TestMeasuredCountsAreTrue(t *testing.T) {
	got := measure(t)
	if *update {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("counts.json", append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := counts()
	if !maps.Equal(got.Metrics, want.Metrics) {
		t.Errorf("metrics got values: %v, counts.json has %v", got.Metrics, want.Metrics)
	}
	for name, runs := range map[string][2]Run{
		"burst": {want.Burst, got.Burst}, "single": {want.Single, got.Single},
		"large": {want.Large, got.Large}, "larger": {want.Larger, got.Larger}, "idle": {want.Idle, got.Idle},
	} {
		for _, operation := range slices.Sorted(maps.Keys(both(runs[0].Operations, runs[1].Operations))) {
			w, g := runs[0].Operations[operation], runs[1].Operations[operation]
			if least, most := bounds(operation, runs[0]); g < least || g > most {
				t.Errorf("%s: %s: counted %g, expected %g to %g, counts.json has %g: if that is meant, run the test with -update and look at what estimates become", name, operation, g, least, most, w)
			}
		}
	}
}

func both(a, b map[string]float64) map[string]float64 {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// bounds returns what a count may be: as in r for what is done for each object or
// part.
func bounds(operation string, r Run) (least, most float64) {
	n := r.Operations[operation]
	switch {
	case strings.HasPrefix(operation, "border ") && r.Size > envcfg.DefaultPartSize:
		// Ranges follow the pace: a part in one, or 256 KiB in each of two connections.
		return float64(r.Size / envcfg.DefaultPartSize), float64(2 * r.Size / (256 << 10))
	case strings.HasPrefix(operation, "source "), strings.HasPrefix(operation, "border "), strings.HasPrefix(operation, "destination "),
		operation == "services AmazonSQS.SendMessage":
		return n, n
	}
	slack := max(5, float64(r.Objects)) // of a batch, or of a minute
	return n - slack, n + slack
}
