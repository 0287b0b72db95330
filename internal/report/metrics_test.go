package report

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/s3ferry/s3ferry/internal/wire"
)

// series are the values of metrics, by "namespace name dimension=value statistic",
// each with its minute after noon.
type series map[string]map[int]float64

// cloudWatch is a server that answers GetMetricData, two values of a metric a
// page, and keeps the requests.
type cloudWatch struct {
	series  series
	status  string // of the results, unless it is Complete
	failing bool   // after the first page

	asked []cbor.Map
}

func (c *cloudWatch) client(t *testing.T) *cloudwatch.Client {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return cloudwatch.New(cloudwatch.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Retryer: aws.NopRetryer{}, Credentials: credentials.NewStaticCredentialsProvider("k", "s", ""),
	})
}

func (c *cloudWatch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	decoded, err := cbor.Decode(body)
	in, ok := decoded.(cbor.Map)
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	if err != nil || !ok || !strings.HasSuffix(r.URL.Path, "/operation/GetMetricData") || c.failing && len(c.asked) > 0 {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(cbor.Encode(cbor.Map{"__type": cbor.String("AccessDenied"), "message": cbor.String("not you")}))
		return
	}
	c.asked = append(c.asked, in)
	page := len(c.asked) - 1
	more := false
	results := cbor.List{}
	for _, query := range in["MetricDataQueries"].(cbor.List) {
		values, timestamps := cbor.List{}, cbor.List{}
		n := 0
		for minute := range 60 { // ascending, as asked
			v, ok := c.series[nameOf(query)][minute]
			if !ok {
				continue
			}
			if n/2 == page {
				values = append(values, cbor.Float64(v))
				timestamps = append(timestamps, &cbor.Tag{ID: 1, Value: cbor.Float64(float64(noon.Add(time.Duration(minute) * time.Minute).Unix()))})
			}
			more = more || n/2 > page
			n++
		}
		status := "Complete"
		if c.status != "" {
			status = c.status
		}
		results = append(results, cbor.Map{"Id": query.(cbor.Map)["Id"], "StatusCode": cbor.String(status), "Timestamps": timestamps, "Values": values})
	}
	out := cbor.Map{"MetricDataResults": results}
	if more {
		out["NextToken"] = cbor.String("more")
	}
	_, _ = w.Write(cbor.Encode(out))
}

// nameOf is the key of a query in series.
func nameOf(query cbor.Value) string {
	stat := query.(cbor.Map)["MetricStat"].(cbor.Map)
	metric := stat["Metric"].(cbor.Map)
	name := []string{string(metric["Namespace"].(cbor.String)), string(metric["MetricName"].(cbor.String))}
	for _, d := range metric["Dimensions"].(cbor.List) {
		name = append(name, string(d.(cbor.Map)["Name"].(cbor.String))+"="+string(d.(cbor.Map)["Value"].(cbor.String)))
	}
	return strings.Join(append(name, string(stat["Stat"].(cbor.String))), " ")
}

var ferry = Measured{Sender: "Stack-Sender", Outbox: "events", DeadLetters: "dead"}

const (
	own    = " Ferry=Stack-Sender "
	events = " QueueName=events Maximum"
	dead   = " QueueName=dead Maximum"
)

func fetch(t *testing.T, c *cloudWatch, from, to time.Time) (*Metrics, error) {
	t.Helper()
	return FetchMetrics(t.Context(), c.client(t), ferry, from, to)
}

func TestMetricsAreReadPageByPage(t *testing.T) {
	c := &cloudWatch{series: series{
		"s3ferry Bytes" + own + "Sum":                            {0: 600, 1: 1200, 3: 60},
		"s3ferry Copied" + own + "Sum":                           {0: 2, 1: 3, 3: 1},
		"s3ferry Deleted" + own + "Sum":                          {1: 4},
		"s3ferry Lag" + own + "p50":                              {0: 1500, 3: 0},
		"s3ferry Lag" + own + "p90":                              {0: 2000},
		"s3ferry Lag" + own + "p99":                              {0: 3000},
		"s3ferry GivenUp" + own + "Sum":                          {2: 1, 3: 1},
		"s3ferry Inbox" + own + "Maximum":                        {0: 7},
		"AWS/SQS ApproximateNumberOfMessagesVisible" + events:    {0: 10, 1: 20, 2: 30, 3: 0},
		"AWS/SQS ApproximateNumberOfMessagesNotVisible" + events: {2: 5},
		"AWS/SQS ApproximateAgeOfOldestMessage" + events:         {2: 90},
		"AWS/SQS ApproximateNumberOfMessagesVisible" + dead:      {3: 2},
		"s3ferry Copied Ferry=Stack-Receiver Sum":                {0: 100}, // the same objects, as the receiver counts them
	}}
	got, err := fetch(t, c, noon.Add(30*time.Second), noon.Add(3*time.Minute+30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	none := make([]*float64, 4)
	at := func(values map[int]float64) []*float64 {
		out := append([]*float64(nil), none...)
		for i, v := range values {
			out[i] = &v
		}
		return out
	}
	begin := noon.Unix()
	want := &Metrics{
		From: begin, To: begin + 210, Interval: 60, Receipts: 10, Copied: 6, Bytes: 1860, GivenUp: 2,
		Times: []int64{begin, begin + 60, begin + 120, begin + 180}, BytesPerSecond: []float64{10, 20, 0, 1}, Peak: 20,
		P50: at(map[int]float64{0: 1.5, 3: 0}), P90: at(map[int]float64{0: 2}), P99: at(map[int]float64{0: 3}),
		Outcomes: []Outcome{{wire.Copied, 6, []int{2, 3, 0, 1}}, {wire.Deleted, 4, []int{0, 4, 0, 0}}},
		Outbox:   at(map[int]float64{0: 10, 1: 20, 2: 30, 3: 0}), Begun: at(map[int]float64{2: 5}), Inbox: at(map[int]float64{0: 7}),
		Oldest: at(map[int]float64{2: 90}), DeadLetters: at(map[int]float64{3: 2}),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(c.asked) != 2 || c.asked[1]["NextToken"] != cbor.String("more") {
		t.Errorf("asked %d times, want twice, for the next page", len(c.asked))
	}
	for _, query := range c.asked[0]["MetricDataQueries"].(cbor.List) {
		if n, ok := query.(cbor.Map)["MetricStat"].(cbor.Map)["Period"].(cbor.Uint); !ok || n != 60 {
			t.Errorf("%s: a period of %v, want 60", nameOf(query), n)
		}
	}
}

// CloudWatch has minutes of the last 15 days, five minutes of 63 and hours of
// what is older.
func TestOldMetricsAreAskedForAsTheyAreKept(t *testing.T) {
	for ago, least := range map[time.Duration]time.Duration{
		time.Minute: time.Minute, 2 * time.Hour: time.Minute, 16 * 24 * time.Hour: 5 * time.Minute,
		64 * 24 * time.Hour: time.Hour, 450 * 24 * time.Hour: time.Hour,
	} {
		c := &cloudWatch{}
		if got, err := fetch(t, c, noon.Add(-ago), noon); err != nil || got != nil {
			t.Errorf("%s: got %+v, %v, want nothing", ago, got, err)
		}
		for _, query := range c.asked[0]["MetricDataQueries"].(cbor.List) {
			period, _ := query.(cbor.Map)["MetricStat"].(cbor.Map)["Period"].(cbor.Uint)
			if got := time.Duration(period) * time.Second; got < least || got%least != 0 || ago/got > 1440 {
				t.Errorf("%s ago: a period of %s, want a multiple of %s", ago, got, least)
			}
		}
	}
}

func TestMetricsThatCannotBeRead(t *testing.T) {
	values := series{"s3ferry Copied" + own + "Sum": {0: 1, 1: 1, 2: 1}}
	for want, c := range map[string]*cloudWatch{
		"AccessDenied":                             {series: values, failing: true},
		"InternalError for s3ferry Bytes":          {series: values, status: "InternalError"},
		"read metrics of Stack-Sender: CloudWatch": {series: values, status: "Forbidden"},
	} {
		if got, err := fetch(t, c, noon, noon.Add(time.Hour)); err == nil || got != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %+v, %v, want %q", got, err, want)
		}
	}
}

// measured is an hour with a border that was closed for a third of it.
func measured(t *testing.T) *Metrics {
	t.Helper()
	s := series{}
	set := func(name string, minute int, v float64) {
		if s[name] == nil {
			s[name] = map[int]float64{}
		}
		s[name][minute] = v
	}
	for m := range 60 {
		closed := m >= 20 && m < 40
		waiting := 3 + 2*math.Sin(float64(m))
		if closed {
			waiting = float64(m-19) * 400
		} else if m >= 40 {
			waiting = max(waiting, float64(50-m)*800)
		}
		set("AWS/SQS ApproximateNumberOfMessagesVisible"+events, m, waiting)
		set("AWS/SQS ApproximateNumberOfMessagesNotVisible"+events, m, waiting/4)
		if closed {
			set("AWS/SQS ApproximateAgeOfOldestMessage"+events, m, float64(m-19)*60)
			continue
		}
		copied := 380 + 40*math.Cos(float64(m))
		if m >= 40 && m < 50 {
			copied *= 3
		}
		set("s3ferry Copied"+own+"Sum", m, math.Round(copied))
		set("s3ferry Bytes"+own+"Sum", m, copied*2e6)
		set("s3ferry Inbox"+own+"Maximum", m, copied/3)
		for i, p := range []string{"p50", "p90", "p99"} {
			set("s3ferry Lag"+own+p, m, 900*math.Pow(4, float64(i)))
		}
		if m%7 == 0 {
			set("s3ferry Superseded"+own+"Sum", m, 20)
			set("s3ferry Deleted"+own+"Sum", m, 30)
		}
	}
	set("s3ferry GivenUp"+own+"Sum", 50, 3)
	set("s3ferry Failed"+own+"Sum", 50, 3)
	set("AWS/SQS ApproximateNumberOfMessagesVisible"+dead, 55, 3)
	return drawn(t, s)
}

// waiting is an hour in which nothing passed.
func waiting(t *testing.T) *Metrics {
	t.Helper()
	return drawn(t, series{"AWS/SQS ApproximateNumberOfMessagesVisible" + events: {10: 5, 11: 50}})
}

func drawn(t *testing.T, s series) *Metrics {
	t.Helper()
	m, err := fetch(t, &cloudWatch{series: s}, noon, noon.Add(time.Hour))
	if err != nil || m == nil {
		t.Fatalf("got %v, %v", m, err)
	}
	return m
}
