// Package status looks at both sides at once: the link, queues, dead letters,
// alarms and versions. It changes nothing.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/version"
)

// Health is the verdict over both sides.
type Health string

// From best to worst.
const (
	Healthy     Health = "healthy"
	Attention   Health = "attention"   // something waits for a person
	Unreachable Health = "unreachable" // a side could not be asked for all
)

// old is the age of a waiting message that calls for attention, as of the alarms.
const old = time.Hour

// Report is how both sides stand.
type Report struct {
	At      time.Time       `json:"at"`
	Version string          `json:"version"` // of the program that asked
	Health  Health          `json:"health"`
	Why     []string        `json:"why,omitempty"`   // it is not healthy
	Notes   []string        `json:"notes,omitempty"` // that do not count against it
	Link    *linking.Status `json:"link,omitempty"`
	Sides   []Side          `json:"sides"`
	// Receipts is nil where nobody keeps them.
	Receipts *Receipts `json:"receipts,omitempty"`
}

// Side is one side.
type Side struct {
	Name     string    `json:"name"` // "sending" or "receiving"
	Stack    string    `json:"stack"`
	Region   string    `json:"region"`
	Status   string    `json:"status,omitempty"`  // of the stack
	Deployed time.Time `json:"deployed,omitzero"` // last
	Version  string    `json:"version,omitempty"` // of s3ferry; "" if its stack does not tell
	Queues   []Queue   `json:"queues,omitempty"`
	Alarms   []Alarm   `json:"alarms,omitempty"`   // those that ring
	Watching int       `json:"watching,omitempty"` // alarms in all
	Error    string    `json:"error,omitempty"`    // what could not be asked
}

// Queue is what lies in a queue, as SQS counts: approximately.
type Queue struct {
	Name        string   `json:"name"`
	DeadLetters bool     `json:"deadLetters,omitempty"`
	Waiting     int      `json:"waiting"`
	InFlight    int      `json:"inFlight"`
	Delayed     int      `json:"delayed"`
	Oldest      *float64 `json:"oldestSeconds,omitempty"` // CloudWatch tells it a minute late, and not of an idle queue
}

// Alarm is one that rings.
type Alarm struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Since       time.Time `json:"since"`
}

// SQS is what a side asks of *sqs.Client.
type SQS interface {
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// CloudWatch is what a side asks of *cloudwatch.Client.
type CloudWatch interface {
	GetMetricData(context.Context, *cloudwatch.GetMetricDataInput, ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricDataOutput, error)
	DescribeAlarms(context.Context, *cloudwatch.DescribeAlarmsInput, ...func(*cloudwatch.Options)) (*cloudwatch.DescribeAlarmsOutput, error)
}

var (
	_ SQS        = (*sqs.Client)(nil)
	_ CloudWatch = (*cloudwatch.Client)(nil)
)

// Asked is a side to be asked.
type Asked struct {
	linking.Side

	Name       string
	Config     aws.Config
	Version    string // the output that has it
	Queues     []QueueOutput
	SQS        SQS
	CloudWatch CloudWatch
}

// QueueOutput is a queue to be asked of, by the output of the stack that has its
// URL.
type QueueOutput struct {
	Name, Output string
	DeadLetters  bool
}

// NewSending returns a sending side that a configuration leads to.
func NewSending(side linking.Side, cfg aws.Config) *Asked {
	return newAsked(sending, side, cfg, "SenderVersion", []QueueOutput{
		{Name: "outbox", Output: "OutboxUrl"}, {Name: "outbox", Output: "OutboxDeadLetterQueueUrl", DeadLetters: true},
	})
}

// NewReceiving returns a receiving side that a configuration leads to.
func NewReceiving(side linking.Side, cfg aws.Config) *Asked {
	return newAsked(receiving, side, cfg, "ReceiverVersion", []QueueOutput{
		{Name: "inbox", Output: "InboxUrl"}, {Name: "inbox", Output: "InboxDeadLetterQueueUrl", DeadLetters: true}, {Name: "receipts", Output: "ReceiptsUrl"},
	})
}

func newAsked(name string, side linking.Side, cfg aws.Config, versionOutput string, queues []QueueOutput) *Asked {
	return &Asked{
		Side: side, Name: name, Config: cfg, Version: versionOutput, Queues: queues,
		SQS: sqs.NewFromConfig(cfg), CloudWatch: cloudwatch.NewFromConfig(cfg),
	}
}

// The names of sides.
const (
	sending   = "sending"
	receiving = "receiving"
)

// Look asks both sides at once. link tells how the link stands, receipts what
// became of transfers.
func Look(ctx context.Context, link func(context.Context) (*linking.Status, error), receipts ReadReceipts, sides ...*Asked) Report {
	r := Report{At: time.Now().UTC(), Version: version.Version(), Sides: make([]Side, len(sides))}
	var linkErr, receiptsErr error
	var wg sync.WaitGroup
	wg.Go(func() { r.Link, linkErr = link(ctx) })
	wg.Go(func() { r.Receipts, receiptsErr = readReceipts(ctx, receipts) })
	for i, side := range sides {
		wg.Go(func() { r.Sides[i] = side.look(ctx) })
	}
	wg.Wait()
	r.judge(linkErr, receiptsErr)
	return r
}

// judge sums up.
func (r *Report) judge(linkErr, receiptsErr error) {
	var closed, open []string
	for _, side := range r.Sides {
		if side.Error != "" {
			closed = append(closed, side.Name+": "+side.Error)
		}
		open = append(open, side.why()...)
	}
	why, notes := versions(r.Version, r.Sides)
	open, r.Notes = append(open, why...), notes
	if r.Receipts != nil && r.Receipts.Of < lately.Seconds() {
		r.Notes = append(r.Notes, fmt.Sprintf("there are more than %d receipts in %s: summed up are those of the last %s, and refused and failed ones of all",
			maxReceipts, lately, time.Duration(r.Receipts.Of)*time.Second))
	}
	if r.Link != nil {
		open = append(open, r.Link.Why...)
	}
	if r.Receipts != nil && r.Receipts.Trouble > 0 {
		open = append(open, fmt.Sprintf("%d transfers of the last %s were refused or failed: `s3ferry redrive --list`", r.Receipts.Trouble, lately))
	}
	// Behind a side that cannot be asked they are the same once more.
	if err := errors.Join(linkErr, receiptsErr); err != nil && len(closed) == 0 {
		closed = append(closed, err.Error())
	}
	r.Why = slices.Concat(closed, open)
	switch {
	case len(closed) > 0:
		r.Health = Unreachable
	case len(open) > 0:
		r.Health = Attention
	default:
		r.Health = Healthy
	}
}

// why says what calls for attention on a side.
func (s Side) why() (why []string) {
	for _, q := range s.Queues {
		switch {
		case q.DeadLetters && q.Waiting+q.InFlight+q.Delayed > 0:
			why = append(why, fmt.Sprintf("%d in the dead letters of the %s: `s3ferry redrive --list`", q.Waiting+q.InFlight+q.Delayed, q.Name))
		case !q.DeadLetters && q.Oldest != nil && *q.Oldest >= old.Seconds():
			why = append(why, fmt.Sprintf("a message of the %s is %s old", q.Name, time.Duration(*q.Oldest)*time.Second))
		}
	}
	for _, a := range s.Alarms {
		why = append(why, fmt.Sprintf("alarm %s since %s: %s", a.Name, a.Since.Format(time.RFC3339), a.Description))
	}
	return why
}

func (a *Asked) look(ctx context.Context) Side {
	s := Side{Name: a.Name, Stack: a.Stack, Region: a.Region}
	names := make([]string, len(a.Queues))
	for i, q := range a.Queues {
		names[i] = q.Output
	}
	stack, err := a.Inspect(ctx, a.Config, names...)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	s.Status, s.Deployed, s.Version = stack.Status, stack.Deployed, stack.Outputs[a.Version]
	s.Queues = make([]Queue, len(a.Queues))
	errs := make([]error, len(a.Queues)+2)
	var ages []*float64
	var wg sync.WaitGroup
	for i, q := range a.Queues {
		wg.Go(func() { s.Queues[i], errs[i] = a.count(ctx, q, stack.Outputs[q.Output]) })
	}
	wg.Go(func() { ages, errs[len(a.Queues)] = a.ages(ctx, stack.Outputs) })
	wg.Go(func() { s.Alarms, s.Watching, errs[len(a.Queues)+1] = a.alarms(ctx) })
	wg.Wait()
	for i, age := range ages {
		// An age of before it was emptied is nobody's.
		if q := &s.Queues[i]; q.Waiting+q.InFlight+q.Delayed > 0 {
			q.Oldest = age
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.Error = err.Error()
	}
	return s
}

func (a *Asked) count(ctx context.Context, q QueueOutput, url string) (Queue, error) {
	out, err := a.SQS.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{
		sqstypes.QueueAttributeNameApproximateNumberOfMessages,
		sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed,
	}})
	if err != nil {
		return Queue{Name: q.Name, DeadLetters: q.DeadLetters}, a.Explain("count the "+q.Name, "sqs:GetQueueAttributes", err)
	}
	number := func(name sqstypes.QueueAttributeName) int {
		n, _ := strconv.Atoi(out.Attributes[string(name)]) // SQS sends numbers
		return n
	}
	return Queue{
		Name: q.Name, DeadLetters: q.DeadLetters,
		Waiting:  number(sqstypes.QueueAttributeNameApproximateNumberOfMessages),
		InFlight: number(sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible),
		Delayed:  number(sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed),
	}, nil
}

// The ages of a few minutes are asked for, since CloudWatch is late with them.
const (
	period = time.Minute
	window = 5 * period
)

// ages returns the age of the oldest message of each queue in seconds, nil where
// CloudWatch knows none.
func (a *Asked) ages(ctx context.Context, outputs map[string]string) ([]*float64, error) {
	now := time.Now()
	in := &cloudwatch.GetMetricDataInput{StartTime: aws.Time(now.Add(-window)), EndTime: aws.Time(now.Add(period)), ScanBy: cwtypes.ScanByTimestampDescending}
	for i, q := range a.Queues {
		in.MetricDataQueries = append(in.MetricDataQueries, cwtypes.MetricDataQuery{
			Id: aws.String("q" + strconv.Itoa(i)),
			MetricStat: &cwtypes.MetricStat{
				Period: aws.Int32(int32(period.Seconds())), Stat: aws.String("Maximum"),
				Metric: &cwtypes.Metric{
					Namespace: aws.String("AWS/SQS"), MetricName: aws.String("ApproximateAgeOfOldestMessage"),
					Dimensions: []cwtypes.Dimension{{Name: aws.String("QueueName"), Value: aws.String(path.Base(outputs[q.Output]))}},
				},
			},
		})
	}
	out, err := a.CloudWatch.GetMetricData(ctx, in)
	if err != nil {
		return nil, a.Explain("read the ages of queues", "cloudwatch:GetMetricData", err)
	}
	ages := make([]*float64, len(a.Queues))
	for _, result := range out.MetricDataResults {
		if i, err := strconv.Atoi(aws.ToString(result.Id)[1:]); err == nil && len(result.Values) > 0 {
			ages[i] = &result.Values[0]
		}
	}
	return ages, nil
}

// alarms returns those of the stack that ring, and how many there are.
func (a *Asked) alarms(ctx context.Context) (ringing []Alarm, watching int, err error) {
	// CloudFormation names them STACK-LOGICALID-RANDOM.
	prefix := a.Stack + "-"
	pages := cloudwatch.NewDescribeAlarmsPaginator(a.CloudWatch, &cloudwatch.DescribeAlarmsInput{AlarmNamePrefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, 0, a.Explain("describe the alarms of stack "+a.Stack, "cloudwatch:DescribeAlarms", err)
		}
		for _, alarm := range page.MetricAlarms {
			// More dashes: of a stack whose name begins with this one's.
			if strings.Count(strings.TrimPrefix(aws.ToString(alarm.AlarmName), prefix), "-") != 1 {
				continue
			}
			watching++
			if alarm.StateValue == cwtypes.StateValueAlarm {
				ringing = append(ringing, Alarm{aws.ToString(alarm.AlarmName), aws.ToString(alarm.AlarmDescription), aws.ToTime(alarm.StateUpdatedTimestamp).UTC()})
			}
		}
	}
	slices.SortFunc(ringing, func(x, y Alarm) int { return cmp.Compare(x.Name, y.Name) })
	return ringing, watching, nil
}
