package ferry

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/metric"
)

// alarmPeriod is the period of every alarm, of which one is enough to ring.
const alarmPeriod = 5 * time.Minute

// alarms adds alarms to scope that notify topic, if there is one.
type alarms struct {
	scope constructs.Construct
	topic awssns.ITopic
}

// deadLetters rings as soon as one message is in the dead-letter queue.
func (a alarms) deadLetters(id string, queue awssqs.IQueue) {
	a.add(id, "A message was given up and waits in a dead-letter queue. Its attributes say why.",
		queue.MetricApproximateNumberOfMessagesVisible(maximum()), 1)
}

// age rings when the oldest message of the queue is as old as limit.
func (a alarms) age(id string, queue awssqs.IQueue, limit time.Duration) {
	a.add(id, "Messages wait for "+limit.String()+" or longer: the way onwards is closed or too slow.",
		queue.MetricApproximateAgeOfOldestMessage(maximum()), limit.Seconds())
}

// function rings on the first failed and on the first throttled invocation.
func (a alarms) function(id string, function awslambda.IFunction) {
	a.add(id+"Errors", "An invocation failed as a whole.", function.MetricErrors(sum()), 1)
	a.add(id+"Throttles", "An invocation was refused for want of concurrency.", function.MetricThrottles(sum()), 1)
}

// lag rings when nine of ten objects took as long as limit from event to copy, or
// longer. own is whose receipts say so.
func (a alarms) lag(id string, own measured, limit time.Duration) {
	a.add(id, "Objects arrive "+limit.String()+" after their events or later.",
		own.with(metric.Lag, statistic(awscloudwatch.Stats_P(jsii.Number(90)))), float64(limit.Milliseconds()))
}

// givenUp rings on the first transfer that the receiver refused or failed for good.
func (a alarms) givenUp(id string, own measured) {
	a.add(id, "The receiver refused a transfer, or gave it up. Its receipt is in the courier's log and says why.",
		own.with(metric.GivenUp, sum()), 1)
}

func (a alarms) add(id, description string, metric awscloudwatch.IMetric, threshold float64) {
	alarm := awscloudwatch.NewAlarm(a.scope, jsii.String(id), &awscloudwatch.AlarmProps{
		AlarmDescription:   jsii.String("s3ferry: " + description + " What to do: docs/operating.md of s3ferry."),
		Metric:             metric,
		Threshold:          jsii.Number(threshold),
		ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
		EvaluationPeriods:  jsii.Number(1),
		TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
	})
	if a.topic != nil {
		alarm.AddAlarmAction(awscloudwatchactions.NewSnsAction(a.topic))
	}
}

func maximum() *awscloudwatch.MetricOptions { return statistic(awscloudwatch.Stats_MAXIMUM()) }
func sum() *awscloudwatch.MetricOptions     { return statistic(awscloudwatch.Stats_SUM()) }

func statistic(name *string) *awscloudwatch.MetricOptions {
	return &awscloudwatch.MetricOptions{Period: duration(alarmPeriod), Statistic: name}
}

func duration(d time.Duration) awscdk.Duration {
	return awscdk.Duration_Seconds(jsii.Number(d.Seconds()))
}

// NewAlarmTopic makes a topic for the AlarmTopic props that sends alarms to an
// e-mail address, once whoever reads its mail has confirmed that. The topic takes
// messages over TLS only.
func NewAlarmTopic(scope constructs.Construct, id, email string) awssns.ITopic {
	topic := awssns.NewTopic(scope, jsii.String(id), &awssns.TopicProps{EnforceSSL: jsii.Bool(true)})
	// A topic with a policy no longer lets the whole account publish.
	topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), nil)},
		Actions:    jsii.Strings("sns:Publish"),
		Resources:  &[]*string{topic.TopicArn()},
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()}},
	}))
	topic.AddSubscription(awssnssubscriptions.NewEmailSubscription(jsii.String(email), nil))
	return topic
}
