package ferry

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/constructs-go/constructs/v10"
)

// nameOf is what the metrics of a sender or a receiver are told apart by: its
// stack's name and its path in it, such as "GlobalSender-Sender".
func nameOf(scope constructs.Construct) string {
	stack := awscdk.Stack_Of(scope)
	path := strings.TrimPrefix(*scope.Node().Path(), *stack.Node().Path()+"/")
	return *stack.StackName() + "-" + strings.ReplaceAll(path, "/", "-")
}

// MetricOutboxDepth is how many events wait to be sent.
func (s *Sender) MetricOutboxDepth(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return s.outbox.MetricApproximateNumberOfMessagesVisible(options)
}

// MetricOutboxAge is how many seconds the oldest event has waited to be sent.
func (s *Sender) MetricOutboxAge(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return s.outbox.MetricApproximateAgeOfOldestMessage(options)
}

// MetricOutboxDeadLetters is how many events were given up.
func (s *Sender) MetricOutboxDeadLetters(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return s.outboxDLQ.MetricApproximateNumberOfMessagesVisible(options)
}

// MetricInboxDepth is how many transfers wait to be pulled.
func (m *Mailbox) MetricInboxDepth(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return m.inbox.MetricApproximateNumberOfMessagesVisible(options)
}

// MetricInboxAge is how many seconds the oldest transfer has waited.
func (m *Mailbox) MetricInboxAge(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return m.inbox.MetricApproximateAgeOfOldestMessage(options)
}

// MetricInboxDeadLetters is how many transfers were given up.
func (m *Mailbox) MetricInboxDeadLetters(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return m.inboxDLQ.MetricApproximateNumberOfMessagesVisible(options)
}

// MetricReceiptsDepth is how many receipts wait for the sender's courier.
func (m *Mailbox) MetricReceiptsDepth(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return m.receipts.MetricApproximateNumberOfMessagesVisible(options)
}

// MetricRequests is how many requests the API got.
func (m *Mailbox) MetricRequests(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return m.api.MetricCount(options)
}

// MetricRefused is how many requests the API answered with 4xx: a wrong key, a
// throttle, a body that doesn't fit.
func (m *Mailbox) MetricRefused(options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return m.api.MetricClientError(options)
}
