package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/s3ferry/s3ferry/internal/page/pagetest"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const logged = `{"timestamp":"2026-11-24T12:00:03Z","level":"INFO","message":"receipt","outcome":"copied","id":"ab","bucket":"source","key":"a b","version":"v1","bytes":5,"millis":200,"lagMillis":1500,"attempts":2,"verified":"etag","class":"","reason":"","at":"2026-11-24T12:00:01Z","requestId":"r"}`

func TestDecode(t *testing.T) {
	whole := Receipt{
		At: noon.Add(time.Second), Lag: 1500 * time.Millisecond, Took: 200 * time.Millisecond, ID: "ab",
		Outcome: wire.Copied, Bucket: "source", Key: "a b", Version: "v1", Bytes: 5, Attempts: 2, Verified: wire.ByETag,
	}
	older := whole
	older.At = noon.Add(3 * time.Second)
	again := whole
	again.Retry = true
	for name, tc := range map[string]struct {
		line string
		want *Receipt
	}{
		"as logged":                 {logged, &whole},
		"of the laptop cloud":       {`{"function":"courier",` + logged[1:], &whole},
		"behind a time":             {"2026-11-24T12:00:03 2026/11/24/[$LATEST]ab " + logged, &whole},
		"sent again":                {strings.Replace(logged, `"at"`, `"retry":true,"at"`, 1), &again},
		"without the time it ended": {strings.Replace(logged, `"at"`, `"x"`, 1), &older},
		"another message":           {strings.Replace(logged, `"message":"receipt"`, `"message":"round ended","x":"receipt"`, 1), nil},
		"no outcome":                {strings.Replace(logged, `"outcome"`, `"x"`, 1), nil},
		"no time":                   {`{"message":"receipt","outcome":"copied"}`, nil},
		"cut off":                   {logged[:100], nil},
		"no JSON":                   {`START RequestId: "receipt"`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Decode([]byte(tc.line))
			if ok != (tc.want != nil) {
				t.Fatalf("got a receipt: %t, want %t", ok, tc.want != nil)
			}
			if ok {
				if diff := cmp.Diff(*tc.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
		})
	}
}

func TestReadSaysWhichLineIsTooLong(t *testing.T) {
	err := Read(strings.NewReader("{}\n"+strings.Repeat("x", maxLine+1)), func(Receipt) {})
	if err == nil || !strings.Contains(err.Error(), "line 2 ") {
		t.Errorf("got %v, want line 2 named", err)
	}
}

// collect adds receipts to a collection of the last hour before noon.
func collect(receipts ...Receipt) *Collection {
	c := &Collection{Since: noon.Add(-time.Hour)}
	for _, r := range receipts {
		c.Add(r)
	}
	return c
}

func TestCollectionTakesEachOnce(t *testing.T) {
	r := Receipt{ID: "a", Outcome: wire.Expired, At: noon}
	next, old, link := r, r, r
	next.At = noon.Add(time.Second)
	old.At = noon.Add(-2 * time.Hour)
	link.Outcome = wire.Linked
	if got := collect(r, r, next, old, link).Len(); got != 2 {
		t.Errorf("got %d receipts, want the one at noon and the next", got)
	}
}

func TestFigures(t *testing.T) {
	at := func(second float64) time.Time { return noon.Add(time.Duration(second * float64(time.Second))) }
	got := collect(
		// 100 bytes a second from 0 to 4.
		Receipt{ID: "1", Outcome: wire.Copied, At: at(4), Took: 4 * time.Second, Lag: 6 * time.Second, Bytes: 400, Key: "slow", Attempts: 3, Verified: wire.ByETag},
		Receipt{ID: "2", Outcome: wire.Copied, At: at(3.5), Took: 500 * time.Millisecond, Lag: time.Second, Bytes: 50, Key: "fast", Attempts: 1, Verified: wire.ByFullObject},
		Receipt{ID: "3", Outcome: wire.Copied, At: at(1), Lag: 2 * time.Second, Key: "empty", Attempts: 1, Verified: wire.ByETag},
		Receipt{ID: "4", Outcome: wire.Failed, At: at(2), Class: "c", Reason: "first", Key: "k"},
		Receipt{ID: "5", Outcome: wire.Failed, At: at(3), Class: "c", Reason: "second", Key: "l"},
		Receipt{ID: "6", Outcome: wire.Superseded, At: at(0)},
		Receipt{ID: "7", Outcome: wire.Failed, At: at(2), Class: "d", Retry: true},
	).Figures()
	want := Figures{
		From: noon.Unix(), To: at(4).Unix(), Interval: 1, Transfers: 7, Copied: 3, Bytes: 450, Trouble: 2, Peak: 150,
		Lag:            Lag{P50: 2, P90: 6, P99: 6, Max: 6},
		Times:          []int64{noon.Unix(), noon.Unix() + 1, noon.Unix() + 2, noon.Unix() + 3, noon.Unix() + 4},
		BytesPerSecond: []float64{100, 100, 100, 150, 0},
		P50:            []*float64{nil, new(2.), nil, new(1.), new(6.)},
		P90:            []*float64{nil, new(2.), nil, new(1.), new(6.)},
		P99:            []*float64{nil, new(2.), nil, new(1.), new(6.)},
		Outcomes: []Outcome{
			{wire.Copied, 3, []int{0, 1, 0, 1, 1}}, {wire.Superseded, 1, []int{1, 0, 0, 0, 0}}, {wire.Failed, 3, []int{0, 0, 2, 1, 0}},
		},
		Sizes: []Size{{1, 1, 0}, {1 << 10, 2, 450}, {Under: 16 << 10}, {Under: 256 << 10}, {Under: 4 << 20}, {Under: 64 << 20}, {Under: 1 << 30}, {Under: 16 << 30}, {}},
		Slowest: []Slow{
			{"slow", 400, 6, 4, 3, at(4).Unix()}, {"empty", 0, 2, 0, 1, at(1).Unix()}, {"fast", 50, 1, .5, 1, at(3).Unix()},
		},
		Faults: []Fault{{"c", wire.Failed, 2, "l", "second", at(3).Unix()}},
		Proofs: []Proof{{wire.ByFullObject, 1}, {wire.ByETag, 2}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// However long the period, a chart has a bounded number of points and every
// byte is on it.
func TestChartsOfAnyPeriod(t *testing.T) {
	for _, period := range []time.Duration{0, time.Second, 90 * time.Second, time.Hour, 26 * time.Hour, 100 * 24 * time.Hour} {
		c := &Collection{}
		for i := range int64(500) {
			c.Add(Receipt{
				ID: fmt.Sprint(i), Outcome: wire.Copied, Bytes: i, Took: time.Duration(i) * time.Millisecond,
				At: noon.Add(-period * time.Duration(i) / 500),
			})
		}
		f := c.Figures()
		var carried float64
		for _, rate := range f.BytesPerSecond {
			carried += rate * float64(f.Interval)
		}
		if len(f.Times) > maxPoints || math.Abs(carried-float64(f.Bytes)) > 1 {
			t.Errorf("%s: got %d points, at most %d; %.1f bytes on the chart of %d", period, len(f.Times), maxPoints, carried, f.Bytes)
		}
	}
}

func TestFetchAsksForReceiptsPageByPage(t *testing.T) {
	var asked []map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in map[string]any
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		asked = append(asked, in)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		// A page may be empty and still not be the last.
		out := map[string]any{"events": []any{}, "nextToken": "more"}
		if in["nextToken"] == "more" {
			out = map[string]any{"events": []any{map[string]any{"message": logged}, map[string]any{"message": "END"}}}
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	defer server.Close()
	client := cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("k", "s", ""),
	})
	var c Collection
	if err := Fetch(t.Context(), client, "group", noon, c.Add); err != nil {
		t.Fatal(err)
	}
	first := map[string]any{"logGroupName": "group", "filterPattern": `{ $.message = "receipt" }`, "startTime": float64(noon.UnixMilli())}
	second := map[string]any{"logGroupName": "group", "filterPattern": `{ $.message = "receipt" }`, "startTime": float64(noon.UnixMilli()), "nextToken": "more"}
	if diff := cmp.Diff([]map[string]any{first, second}, asked); diff != "" {
		t.Errorf("asked: -want +got:\n%s", diff)
	}
	if c.Len() != 1 {
		t.Errorf("got %d receipts, want 1", c.Len())
	}
	asked = nil
	const failures = `{ $.message = "receipt" && ($.outcome = "refused" || $.outcome = "failed") }`
	if err := Fetch(t.Context(), client, "group", noon, c.Add, wire.Refused, wire.Failed); err != nil || asked[0]["filterPattern"] != failures {
		t.Errorf("failures only: %v, asked %v", err, asked)
	}
	server.Close()
	if err := Fetch(t.Context(), cloudwatchlogs.New(client.Options(), func(o *cloudwatchlogs.Options) { o.Retryer = aws.NopRetryer{} }), "receipts", noon, c.Add); err == nil || !strings.Contains(err.Error(), "log group receipts:") {
		t.Errorf("got %v, want the log group named", err)
	}
}

// night is the log of some hours with a border that was closed for one of them.
func night() *Collection {
	random := rand.New(rand.NewPCG(1, 2))
	c := &Collection{}
	begin := noon.Add(-7 * time.Hour)
	closed, opened := begin.Add(3*time.Hour), begin.Add(4*time.Hour)
	for i := range 6000 {
		event := begin.Add(time.Duration(random.Float64() * 7 * float64(time.Hour)))
		r := Receipt{
			ID: fmt.Sprint(i), Outcome: wire.Copied, Key: fmt.Sprintf("sensors/2026/11/24/line-%02d/reading %05d.parquet", i%12, i),
			Bytes: int64(math.Exp(random.NormFloat64()*2.6 + 12)), Attempts: 1, Verified: wire.ByFullObject,
		}
		r.Took = time.Duration(80+float64(r.Bytes)/4e4) * time.Millisecond
		r.At = event.Add(r.Took + time.Duration(300+900*random.ExpFloat64())*time.Millisecond)
		if event.After(closed) && event.Before(opened) {
			r.At = opened.Add(time.Duration(random.Float64() * 20 * float64(time.Minute)))
			r.Attempts = 4
		}
		switch {
		case i%97 == 0:
			r.Outcome, r.Verified, r.Bytes = wire.Superseded, "", 0
		case i%151 == 0:
			r.Outcome, r.Verified, r.Bytes = wire.Skipped, "", 0
		case i%61 == 0 && r.Attempts > 1:
			r.Outcome, r.Verified, r.Bytes = wire.Expired, "", 0
		case i%1409 == 7:
			r.Outcome, r.Verified, r.Bytes = wire.Failed, "", 0
			r.Class, r.Reason = "access-denied", "the receiver's role may not PutObject on destination: </script><b>AccessDenied</b>"
		case i%19 == 0:
			r.Verified = wire.ByETag
		}
		r.Lag = r.At.Sub(event)
		c.Add(r)
	}
	return c
}

func TestPageInABrowser(t *testing.T) {
	one := &Collection{}
	one.Add(Receipt{ID: "1", Outcome: wire.Failed, At: noon, Class: "c", Reason: "r", Key: strings.Repeat("k", 300)})
	many, few := night().Figures(), one.Figures()
	metrics := measured(t)
	for name, tc := range map[string]struct {
		page   Page
		copied int
	}{
		"report":                    {Page{Receipts: &many, Metrics: metrics, Source: "a test"}, many.Copied},
		"report-of-one":             {Page{Receipts: &few, Missing: "CloudWatch's metrics are missing: </p><script>"}, few.Copied},
		"report-of-metrics":         {Page{Metrics: metrics}, metrics.Copied},
		"report-of-a-closed-border": {Page{Metrics: waiting(t)}, 0},
	} {
		path := write(t, tc.page)
		for i, view := range pagetest.Views() {
			if name != "report" && i%2 == 1 {
				continue // its colours are those of the first one
			}
			t.Run(name+" "+view.Name, func(t *testing.T) {
				p := pagetest.Open(t, "file://"+path, view)
				p.Wait(`document.documentElement.dataset.ready === "yes"`)
				p.CheckLook()
				if got := p.Requests(); len(got) != 1 || got[0] != "file://"+path {
					t.Errorf("the page asked for %q, want nothing but itself", got)
				}
				want := fmt.Sprint(tc.copied)
				if got := strings.ReplaceAll(pagetest.Eval[string](p, `document.querySelector(".tile dd").firstChild.data`), ",", ""); got != want {
					t.Errorf("the first tile says %q, want %s", got, want)
				}
				p.Screenshot(name)
			})
		}
	}
}

func write(t *testing.T, p Page) string {
	t.Helper()
	var page bytes.Buffer
	if err := WriteHTML(&page, p); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, page.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPageIsWholeInItself(t *testing.T) {
	data, err := os.ReadFile(write(t, Page{Receipts: new(night().Figures()), Metrics: measured(t)}))
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{"src=", "@import", "url(", "<script src", "fetch(", "XMLHttpRequest"} {
		if bytes.Contains(data, []byte(reference)) {
			t.Errorf("the page has %q: it must not ask for anything", reference)
		}
	}
	if err := WriteHTML(failing{}, Page{Receipts: new(night().Figures())}); err == nil {
		t.Error("got no error of a writer that fails")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
