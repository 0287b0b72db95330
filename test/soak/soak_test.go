package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
)

func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	os.Exit(m.Run())
}

var halfAnHour = rates{Span: 30 * time.Minute, PerMinute: 700, Faults: 90}

func TestAPlanFollowsFromItsSeed(t *testing.T) {
	one := plan(7, halfAnHour)
	if diff := cmp.Diff(one, plan(7, halfAnHour)); diff != "" {
		t.Errorf("the same seed gives another plan:\n%s", diff)
	}
	if cmp.Equal(one.Operations, plan(8, halfAnHour).Operations) || cmp.Equal(one.Disturbances, plan(8, halfAnHour).Disturbances) {
		t.Error("another seed gives the same plan")
	}
	if len(one.Operations) != 21_001 || len(one.Disturbances) != 2_700 {
		t.Errorf("got %d operations and %d disturbances", len(one.Operations), len(one.Disturbances))
	}
}

func TestAPlanHasEverything(t *testing.T) {
	r := halfAnHour
	p := plan(1, r)
	actions, present := map[action]int{}, map[string]int64{}
	var most, parts, empty int64
	for i, o := range p.Operations {
		actions[o.Action]++
		if i > 0 && o.At < p.Operations[i-1].At || o.At >= r.Span {
			t.Fatalf("operation %d comes at %v", i, o.At)
		}
		if o.Size > 200*mib {
			t.Errorf("%q has %d bytes", o.Key, o.Size)
		}
		if o.Parts {
			parts++
		}
		if o.Size == 0 {
			empty++
		}
		_, known := present[o.Key]
		if known == (o.Action == create) {
			t.Fatalf("%s of %q, which is there: %v", o.Action, o.Key, known)
		}
		present[o.Key] = o.Size
		var sum int64
		if i%100 == 0 {
			for _, size := range present {
				sum += size
			}
			most = max(most, sum)
		}
	}
	if actions[create] < 5000 || actions[overwrite] < 8000 || actions[remove] < 1500 || actions[retag] < 1000 || parts == 0 || empty == 0 {
		t.Errorf("got %v, %d in parts, %d empty", actions, parts, empty)
	}
	if p.Operations[0].Size != 200*mib {
		t.Error("the largest object is missing")
	}
	if most > 2000*mib {
		t.Errorf("the source would hold %d MiB at once", most/mib)
	}
	struck, names := map[string]int{}, map[string]bool{}
	for _, d := range p.Disturbances {
		struck[d.Kind]++
	}
	for _, k := range kinds {
		if struck[k.name] == 0 {
			t.Errorf("nothing of kind %q", k.name)
		}
		if names[k.name] {
			t.Errorf("two kinds are named %q", k.name)
		}
		names[k.name] = true
	}
}

func TestWritesOfAKeyStayInOrder(t *testing.T) {
	p := plan(3, rates{Span: time.Minute, PerMinute: 600})
	owner, last, n := map[string]int{}, map[string]time.Duration{}, 0
	for i, own := range byKey(p.Operations, writers) {
		for _, o := range own {
			if w, ok := owner[o.Key]; ok && w != i || o.At < last[o.Key] {
				t.Errorf("%q has two writers, or goes back in time", o.Key)
			}
			owner[o.Key], last[o.Key] = i, o.At
			n++
		}
	}
	if n != len(p.Operations) {
		t.Errorf("%d of %d operations have a writer", n, len(p.Operations))
	}
}

// idle is a cloud whose functions cannot start: nothing moves but what the test
// moves.
func idle(t *testing.T) *soak {
	t.Helper()
	logs := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(logs, []byte(`{"function":"sender","msg":"fine"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cloud, err := localcloud.Start(t.Context(), localcloud.Options{
		Gated: true, Functions: t.TempDir(), CourierInterval: time.Hour, Logs: &bytes.Buffer{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := cloud.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &soak{
		options: options{logs: logs, seed: 1, patience: time.Second, closed: "both"}, cloud: cloud, written: newWritten(cloud),
		started: time.Now(), quiet: make(chan struct{}), struck: map[string][]func() int{},
	}
}

func (s *soak) purge() {
	for _, name := range ways {
		s.cloud.Queue(name).Purge()
	}
}

// What the report is for: whatever is wrong is found, and nothing else.
func TestFindings(t *testing.T) {
	s := idle(t)
	r, err := s.look(t.Context())
	if err != nil || len(r.Wrong) > 0 {
		t.Fatalf("an empty cloud: got %v, %v", r, err)
	}
	put := func(c *s3.Client, bucket, key, body string) {
		t.Helper()
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	from, to := s.cloud.Source, s.cloud.Destination
	for _, key := range []string{"same", "lost", "other", "changed"} {
		o := operation{Action: create, Key: key, Seed: 1, Size: 10}
		if err := s.written.do(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	copied, err := client(from).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &from.Bucket, Key: aws.String("same")})
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(copied.Body); err != nil {
		t.Fatal(err)
	}
	for key, body := range map[string]string{"same": body.String(), "changed": body.String(), "other": "0123456789", "extra": "x"} {
		if _, err := client(to).PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &to.Bucket, Key: &key, Body: strings.NewReader(body), ContentType: aws.String("application/x-soak"),
			Metadata: metadata(operation{Seed: 1}),
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(client(from), from.Bucket, "changed", "by somebody else")
	if _, err := client(to).CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &to.Bucket, Key: aws.String("half")}); err != nil {
		t.Fatal(err)
	}
	put(client(to), localcloud.JournalBucket, "uploads/x.json", "{}")
	s.purge()
	for queue, body := range map[string]string{"inbox": "stuck message", "outbox-dlq": "letter"} {
		if _, err := s.cloud.Queue(queue).Send(sqs.Message{Body: body, Delay: aws.Duration(10 * time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	s.cloud.Queue("outbox-dlq").Pass(10 * time.Minute)
	line := `{"function":"sender","msg":"posted","key":"` + s.cloud.API.Key + `"}` + "\n" +
		`{"function":"receiver","msg":"pulled","url":"http://x/?X-Amz-Signature=0"}` + "\n"
	if err := os.WriteFile(s.logs, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = s.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(r.Wrong, "\n")
	for _, want := range []string{
		`missing: "lost"`, `stale: "other"`, `extra: "extra"`, `corrupt: "other": the bytes differ`,
		`the source has "changed" with ETag`, `open upload: "half"`, "journal entry left: uploads/x.json", "stuck in the inbox", "stuck message",
		"dead letter in outbox-dlq", "line 1 of the logs: sender: posted", "line 2 of the logs: receiver: pulled",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if strings.Contains(all, "same") || strings.Contains(r.String(), "nothing is wrong") || strings.Contains(all, s.cloud.API.Key) {
		t.Errorf("got %s", r)
	}
}

// In the quiet, what waits for its time does not wait, and what does not move is
// given up.
func TestAwaitSkipsWhatNobodyWorksOn(t *testing.T) {
	s := idle(t)
	hidden := 10 * time.Hour
	if _, err := s.cloud.Queue("receipts").Send(sqs.Message{Body: "later"}); err != nil {
		t.Fatal(err)
	}
	if got := s.cloud.Queue("receipts").Receive(t.Context(), sqs.ReceiveOptions{Max: 1, Visibility: &hidden}); len(got) != 1 {
		t.Fatal("not received")
	}
	if err := s.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.skipped < 9*time.Hour {
		t.Errorf("skipped %v of ten hours", s.skipped)
	}
	if idle, _ := s.cloud.Queue("receipts").Idle(); idle {
		t.Error("the message is still hidden")
	}
}

func isClosed(g *gate.Gate) bool {
	before := g.Refused()
	g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	return g.Refused() > before
}

func TestOutagesOverlap(t *testing.T) {
	s := idle(t)
	s.closeBorder()
	met := outage(s, disturbance{For: time.Hour})
	s.openBorder()
	if !isClosed(s.cloud.Gates.API) || !isClosed(s.cloud.Gates.Border) {
		t.Error("an outage ended with another")
	}
	s.calm() // ends it, or this would take the hour
	isClosed(s.cloud.Gates.API)
	if met() != 2 {
		t.Errorf("the outage met %d requests of 2", met())
	}
	if isClosed(s.cloud.Gates.API) || isClosed(s.cloud.Gates.Border) {
		t.Error("the border is still closed")
	}
}

func TestWhatAnOutageCloses(t *testing.T) {
	s := idle(t)
	for ways, want := range map[string][2]bool{"both": {true, true}, "api": {true, false}, "pulls": {false, true}} {
		s.closed = ways
		s.closeBorder()
		if got := [2]bool{isClosed(s.cloud.Gates.API), isClosed(s.cloud.Gates.Border)}; got != want {
			t.Errorf("%s: API and pulls are closed: %v, want %v", ways, got, want)
		}
		s.openBorder()
	}
}
