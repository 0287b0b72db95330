package report

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Metrics is what CloudWatch has counted of a period. It is there for 15 months,
// whatever becomes of the logs, and tells of no single object. Times are Unix
// seconds, durations seconds; nil is an interval without a value.
type Metrics struct {
	From     int64 `json:"from"`
	To       int64 `json:"to"`
	Interval int64 `json:"interval"`
	Receipts int   `json:"receipts"` // of every outcome
	Copied   int   `json:"copied"`
	Bytes    int64 `json:"bytes"`
	GivenUp  int   `json:"givenUp"`

	Times          []int64    `json:"times"` // where each interval begins
	BytesPerSecond []float64  `json:"bytesPerSecond"`
	Peak           float64    `json:"peak"` // of BytesPerSecond
	P50            []*float64 `json:"p50"`  // of the lag
	P90            []*float64 `json:"p90"`
	P99            []*float64 `json:"p99"`
	Outcomes       []Outcome  `json:"outcomes"`
	Outbox         []*float64 `json:"outbox"`      // most events that waited
	Begun          []*float64 `json:"begun"`       // most events in hand, or put off
	Inbox          []*float64 `json:"inbox"`       // most transfers in the inbox, as the courier saw it
	Oldest         []*float64 `json:"oldest"`      // age of the oldest event
	DeadLetters    []*float64 `json:"deadLetters"` // most events given up
}

// Measured says whose metrics these are.
type Measured struct {
	Sender      string // its name in the metrics
	Outbox      string // name of the queue
	DeadLetters string // name of its dead-letter queue
}

// leastPeriod is CloudWatch's, of metrics that are not of high resolution. It
// keeps older ones by 5 minutes, then by the hour; maxPoints leaves no chart of
// so long a time with shorter intervals:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
const leastPeriod = time.Minute

// FetchMetrics reads the metrics of a period. It returns nil if there are none.
func FetchMetrics(ctx context.Context, client cloudwatch.GetMetricDataAPIClient, of Measured, from, to time.Time) (*Metrics, error) {
	axis := newAxis(from, to, leastPeriod)
	m := &Metrics{
		From: axis.begin.Unix(), To: to.Unix(), Interval: int64(axis.interval.Seconds()),
		Times: axis.times(), BytesPerSecond: make([]float64, axis.n),
	}
	all := m.queries(of, axis)
	in := &cloudwatch.GetMetricDataInput{StartTime: &axis.begin, EndTime: &to, ScanBy: types.ScanByTimestampAscending}
	for i, q := range all {
		in.MetricDataQueries = append(in.MetricDataQueries, types.MetricDataQuery{
			Id: aws.String("q" + strconv.Itoa(i)),
			MetricStat: &types.MetricStat{
				Period: aws.Int32(int32(axis.interval.Seconds())), Stat: &q.statistic,
				Metric: &types.Metric{
					Namespace: &q.namespace, MetricName: &q.name,
					Dimensions: []types.Dimension{{Name: &q.dimension, Value: &q.of}},
				},
			},
		})
	}
	points := 0
	for pages := cloudwatch.NewGetMetricDataPaginator(client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("read metrics of %s: %w", of.Sender, err)
		}
		for _, result := range page.MetricDataResults {
			i, err := strconv.Atoi(strings.TrimPrefix(aws.ToString(result.Id), "q"))
			if err != nil || i < 0 || i >= len(all) || len(result.Timestamps) != len(result.Values) {
				return nil, fmt.Errorf("read metrics of %s: CloudWatch answered what was not asked: %q", of.Sender, aws.ToString(result.Id))
			}
			if s := result.StatusCode; s == types.StatusCodeInternalError || s == types.StatusCodeForbidden {
				return nil, fmt.Errorf("read metrics of %s: CloudWatch answered %s for %s %s", of.Sender, s, all[i].namespace, all[i].name)
			}
			for k, at := range result.Timestamps {
				all[i].add(axis.of(at), result.Values[k])
				points++
			}
		}
	}
	if points == 0 {
		return nil, nil
	}
	m.sum()
	return m, nil
}

// query is one series to ask for.
type query struct {
	namespace, name, dimension, of, statistic string
	add                                       func(interval int, value float64)
}

// queries are those whose answers fill m.
func (m *Metrics) queries(of Measured, axis axis) (all []query) {
	own := func(what metric.Metric, statistic string, add func(int, float64)) {
		all = append(all, query{metric.Namespace, what.Name, metric.Ferry, of.Sender, statistic, add})
	}
	queue := func(name, what string, into *[]*float64) {
		all = append(all, query{"AWS/SQS", what, "QueueName", name, "Maximum", values(into, axis, 1)})
	}
	own(metric.Bytes, "Sum", func(i int, v float64) { m.BytesPerSecond[i] += v / axis.interval.Seconds(); m.Bytes += int64(v) })
	own(metric.Lag, "p50", values(&m.P50, axis, 1e-3))
	own(metric.Lag, "p90", values(&m.P90, axis, 1e-3))
	own(metric.Lag, "p99", values(&m.P99, axis, 1e-3))
	m.Outcomes = make([]Outcome, len(metric.Outcomes()))
	for k, name := range metric.Outcomes() {
		m.Outcomes[k] = Outcome{Name: wire.Outcome(name), Each: make([]int, axis.n)}
		own(metric.Outcome(name), "Sum", func(i int, v float64) { m.Outcomes[k].Each[i] += int(math.Round(v)) })
	}
	own(metric.GivenUp, "Sum", func(_ int, v float64) { m.GivenUp += int(math.Round(v)) })
	own(metric.Inbox, "Maximum", values(&m.Inbox, axis, 1))
	queue(of.Outbox, "ApproximateNumberOfMessagesVisible", &m.Outbox)
	queue(of.Outbox, "ApproximateNumberOfMessagesNotVisible", &m.Begun)
	queue(of.Outbox, "ApproximateAgeOfOldestMessage", &m.Oldest)
	queue(of.DeadLetters, "ApproximateNumberOfMessagesVisible", &m.DeadLetters)
	return all
}

// values makes a series without values, and returns what sets one, in another
// unit by factor.
func values(series *[]*float64, axis axis, factor float64) func(int, float64) {
	*series = make([]*float64, axis.n)
	return func(i int, v float64) { (*series)[i] = new(v * factor) }
}

// sum counts what is in the series.
func (m *Metrics) sum() {
	for k := range m.Outcomes {
		o := &m.Outcomes[k]
		for _, n := range o.Each {
			o.Count += n
		}
		m.Receipts += o.Count
		if o.Name == wire.Copied {
			m.Copied = o.Count
		}
	}
	m.Outcomes = slices.DeleteFunc(m.Outcomes, func(o Outcome) bool { return o.Count == 0 })
	m.Peak = slices.Max(m.BytesPerSecond)
}
