package ferry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/cost"
	"github.com/s3ferry/s3ferry/internal/metric"
)

// graphPeriod is the period of every graph; that of the courier's rounds is shorter.
const graphPeriod = 5 * time.Minute

// newDashboard makes a dashboard of rows of three graphs each. They are graphs
// and nothing else, which CloudWatch has in every partition.
func newDashboard(scope constructs.Construct, rows ...[]awscloudwatch.IWidget) {
	widgets := make([]*[]awscloudwatch.IWidget, len(rows))
	for i := range rows {
		widgets[i] = &rows[i]
	}
	dashboard := awscloudwatch.NewDashboard(scope, jsii.String("Dashboard"), &awscloudwatch.DashboardProps{
		Widgets:         &widgets,
		DefaultInterval: duration(24 * time.Hour),
	})
	// CloudFormation in aws-cn has no tags of dashboards, and a consumer's
	// Tags.of(stack) would tag it:
	// https://docs.amazonaws.cn/AWSCloudFormation/latest/UserGuide/aws-properties-cw-dashboard.html
	l1 := dashboard.Node().DefaultChild().(awscloudwatch.CfnDashboard) //nolint:errcheck,forcetypeassert // an L2 dashboard's default child is the L1
	l1.AddPropertyDeletionOverride(jsii.String("Tags"))
}

// newDashboard is what happens on the sending side, in the order of the way.
func (s *Sender) newDashboard(scope constructs.Construct) {
	own := measured(nameOf(s))
	newDashboard(scope,
		[]awscloudwatch.IWidget{
			graph("Events in the outbox", s.MetricOutboxDepth(drawn("Maximum", "waiting")),
				s.outbox.MetricApproximateNumberOfMessagesNotVisible(drawn("Maximum", "begun or put off"))),
			graph("Age of the oldest event, seconds", s.MetricOutboxAge(drawn("Maximum", "oldest"))),
			graph("Dead letters", s.MetricOutboxDeadLetters(drawn("Maximum", "events given up"))),
		},
		[]awscloudwatch.IWidget{
			graph("From event to copy, milliseconds", own.percentiles(metric.Lag)...),
			graph("Bytes", own.sum(metric.SentBytes), own.sum(metric.Bytes)),
			stack("What became of transfers", own.outcomes()...),
		},
		[]awscloudwatch.IWidget{
			graph("Sending", own.sum(metric.Sent), own.sum(metric.Held), own.sum(metric.Unsent), own.sum(metric.Unneeded), own.sum(metric.Requeued)),
			graph("Messages in the inbox, seen from here", own.of(metric.Inbox, "Maximum")),
			graph("Tries of a transfer", own.of(metric.Attempts, "Maximum"), own.of(metric.Rounds, "Maximum")),
		},
		functionRow(map[string]awslambda.IFunction{"sender": s.function, "courier": s.courier}, "sender", "courier"),
		[]awscloudwatch.IWidget{
			graph("Memory of the larger function, bytes", own.of(metric.Memory, "Maximum")),
			stack(costTitle,
				hourly("egress", "bytes * "+amount(cost.OutOfRegion.USD/(1<<30)), metrics{"bytes": own.sum(metric.Bytes)}),
				// As few as there are: an event, a HEAD and a GET.
				hourly("requests", "sent * "+amount(cost.SQSRequest.USD+2*cost.S3Get.USD), metrics{"sent": own.sum(metric.Sent)}),
				functionCost("sender", s.function), functionCost("courier", s.courier)),
		},
	)
}

// newDashboard is what happens on the receiving side.
func (r *Receiver) newDashboard(scope constructs.Construct) {
	own, m := measured(nameOf(r)), r.mailbox
	functions := functionRow(map[string]awslambda.IFunction{"receiver": r.function}, "receiver")
	newDashboard(scope,
		[]awscloudwatch.IWidget{
			graph("Messages in the inbox", m.MetricInboxDepth(drawn("Maximum", "waiting")),
				m.inbox.MetricApproximateNumberOfMessagesNotVisible(drawn("Maximum", "begun or put off"))),
			graph("Age of the oldest, seconds", m.MetricInboxAge(drawn("Maximum", "transfer")), age(m.receipts, "receipt")),
			graph("Dead letters, receipts", m.MetricInboxDeadLetters(drawn("Maximum", "transfers given up")), m.MetricReceiptsDepth(drawn("Maximum", "receipts waiting"))),
		},
		[]awscloudwatch.IWidget{
			graph("Time of a transfer, milliseconds", own.percentiles(metric.Duration)...),
			graph("Bytes", own.sum(metric.Bytes)),
			stack("What became of transfers", own.outcomes()...),
		},
		[]awscloudwatch.IWidget{
			graph("Requests to the mailbox", m.MetricRequests(drawn("Sum", "all")), m.MetricRefused(drawn("Sum", "refused")), m.api.MetricServerError(drawn("Sum", "failed"))),
			graph("Answers of the mailbox, milliseconds", m.api.MetricLatency(drawn("p50", "p50")), m.api.MetricLatency(drawn("p99", "p99"))),
			graph("Memory of the receiver, bytes", own.of(metric.Memory, "Maximum")),
		},
		functions,
		[]awscloudwatch.IWidget{
			stack(costTitle,
				hourly("mailbox", "requests * "+amount(cost.APIRequest.USD+cost.SQSRequest.USD), metrics{"requests": m.MetricRequests(drawn("Sum", "requests"))}),
				// One for each object, and one for each part of it.
				hourly("writes", fmt.Sprintf("(copied + bytes / %d) * %s", r.settings.PartSize, amount(cost.S3Put.USD)),
					metrics{"copied": own.sum(metric.Outcome("copied")), "bytes": own.sum(metric.Bytes)}),
				functionCost("receiver", r.function)),
		},
	)
}

// costTitle is of a graph of what grows with the work. What stands, what is
// stored, logs and CloudWatch are not in it: `s3ferry cost` has them.
var costTitle = "Cost estimate, USD an hour, list prices of " + cost.Invocation.Seen

type metrics = map[string]awscloudwatch.IMetric

// hourly is what the dollars of a period make in an hour. The metrics that they
// are reckoned from are sums.
func hourly(label, dollars string, using metrics) awscloudwatch.IMetric {
	first := slices.Min(slices.Collect(maps.Keys(using)))
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression:   jsii.String(fmt.Sprintf("(%s) * 3600 / PERIOD(%s)", dollars, first)),
		UsingMetrics: &using, Label: jsii.String(label), Period: duration(graphPeriod),
	})
}

// functionCost is what the invocations of a function cost, and their time.
func functionCost(name string, f awslambda.Function) awscloudwatch.IMetric {
	second := cost.SecondsX86.USD
	if *f.Architecture().Name() == *awslambda.Architecture_ARM_64().Name() {
		second = cost.SecondsARM.USD
	}
	l1 := f.Node().DefaultChild().(awslambda.CfnFunction) //nolint:errcheck,forcetypeassert // an L2 function's default child is the L1
	runs, millis := name+"_invocations", name+"_duration"
	return hourly(name, runs+" * "+amount(cost.Invocation.USD)+" + "+millis+" * "+amount(second/1000**l1.MemorySize()/1024), metrics{
		runs: f.MetricInvocations(drawn("Sum", runs)), millis: f.MetricDuration(drawn("Sum", millis)),
	})
}

// amount writes a number as metric math has it, without an exponent.
func amount(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func age(queue awssqs.IQueue, label string) awscloudwatch.IMetric {
	return queue.MetricApproximateAgeOfOldestMessage(drawn("Maximum", label))
}

// functionRow is how the functions do, in the order of their names.
func functionRow(functions map[string]awslambda.IFunction, names ...string) []awscloudwatch.IWidget {
	var failures, durations, invocations []awscloudwatch.IMetric
	for _, name := range names {
		f := functions[name]
		failures = append(failures, f.MetricErrors(drawn("Sum", name+": errors")), f.MetricThrottles(drawn("Sum", name+": throttles")))
		durations = append(durations, f.MetricDuration(drawn("p50", name+": p50")), f.MetricDuration(drawn("Maximum", name+": longest")))
		invocations = append(invocations, f.MetricInvocations(drawn("Sum", name)))
	}
	return []awscloudwatch.IWidget{
		graph("Failed invocations", failures...),
		graph("Time of an invocation, milliseconds", durations...),
		graph("Invocations", invocations...),
	}
}

// measured is the name of a sender or receiver in the metrics that its functions
// log.
type measured string

func (m measured) of(what metric.Metric, statistic string) awscloudwatch.IMetric {
	return m.with(what, drawn(statistic, what.Name))
}

func (m measured) sum(what metric.Metric) awscloudwatch.IMetric { return m.of(what, "Sum") }

func (m measured) with(what metric.Metric, options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace:     jsii.String(metric.Namespace),
		MetricName:    jsii.String(what.Name),
		DimensionsMap: &map[string]*string{metric.Ferry: jsii.String(string(m))},
		Statistic:     options.Statistic,
		Period:        options.Period,
		Label:         options.Label,
	})
}

func (m measured) percentiles(what metric.Metric) []awscloudwatch.IMetric {
	var all []awscloudwatch.IMetric
	for _, p := range []string{"p50", "p90", "p99"} {
		all = append(all, m.with(what, drawn(p, p)))
	}
	return all
}

func (m measured) outcomes() []awscloudwatch.IMetric {
	var all []awscloudwatch.IMetric
	for _, outcome := range metric.Outcomes() {
		all = append(all, m.with(metric.Outcome(outcome), drawn("Sum", outcome)))
	}
	return all
}

func drawn(statistic, label string) *awscloudwatch.MetricOptions {
	return &awscloudwatch.MetricOptions{Period: duration(graphPeriod), Statistic: jsii.String(statistic), Label: jsii.String(label)}
}

func graph(title string, metrics ...awscloudwatch.IMetric) awscloudwatch.IWidget {
	return widget(title, false, metrics)
}

// stack is a graph of parts of a whole.
func stack(title string, metrics ...awscloudwatch.IMetric) awscloudwatch.IWidget {
	return widget(title, true, metrics)
}

func widget(title string, stacked bool, metrics []awscloudwatch.IMetric) awscloudwatch.IWidget {
	return awscloudwatch.NewGraphWidget(&awscloudwatch.GraphWidgetProps{
		Title: jsii.String(title), Left: &metrics, Stacked: jsii.Bool(stacked), Width: jsii.Number(8),
		LeftYAxis: &awscloudwatch.YAxisProps{Min: jsii.Number(0), ShowUnits: jsii.Bool(false)},
	})
}
