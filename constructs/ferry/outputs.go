package ferry

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/version"
)

// AddOutputs adds the outputs to the sender's stack by which the s3ferry command
// finds it. Their names are part of the package's contract, so a stack can have
// those of one sender.
func (s *Sender) AddOutputs() {
	stack := awscdk.Stack_Of(s)
	output(stack, "LinkSecretArn", "Secret to be filled with the mailbox's address and keys", s.secret.SecretArn())
	output(stack, "SourceBucketName", "Bucket that objects are carried from", s.source.BucketName())
	output(stack, "SourceBucketRegion", "Region of the source bucket", stack.Region())
	output(stack, "SourceEvents", "How the source bucket tells of new objects", jsii.String(string(s.events)))
	output(stack, "OutboxUrl", "Queue of events to send", s.outbox.QueueUrl())
	output(stack, "OutboxDeadLetterQueueUrl", "Queue of events given up", s.outboxDLQ.QueueUrl())
	output(stack, "CourierLogGroupName", "Log group with the receipts", s.courier.LogGroup().LogGroupName())
	output(stack, "SenderName", "Name of the sender in the metrics", jsii.String(nameOf(s)))
	output(stack, "SenderVersion", "Version of s3ferry that the sender is of", jsii.String(version.Version()))
}

// AddOutputs adds the outputs to the receiver's stack by which the s3ferry
// command finds it and its mailbox. Their names are part of the package's
// contract, so a stack can have those of one receiver.
func (r *Receiver) AddOutputs() {
	stack, mailbox := awscdk.Stack_Of(r), r.mailbox
	output(stack, "MailboxUrl", "Address of the mailbox", mailbox.api.Url())
	output(stack, "MailboxApiKeyId", "Id of the API key, whose value API Gateway tells", mailbox.apiKey.KeyId())
	if mailbox.accessKey != nil {
		output(stack, "MailboxAccessKeySecretArn", "Secret with the access key that requests are signed with", mailbox.accessKey.SecretArn())
	}
	output(stack, "TrustParameterName", "Parameter with the public keys and sources that are trusted", r.trust.ParameterName())
	output(stack, "DestinationBucketName", "Bucket that objects arrive in", r.destination.BucketName())
	output(stack, "DestinationBucketRegion", "Region of the destination bucket", stack.Region())
	output(stack, "JournalBucketName", "Bucket of unfinished transfers and of the order of objects", r.journal.BucketName())
	output(stack, "InboxUrl", "Queue of transfers", mailbox.inbox.QueueUrl())
	output(stack, "InboxDeadLetterQueueUrl", "Queue of transfers given up", mailbox.inboxDLQ.QueueUrl())
	output(stack, "ReceiptsUrl", "Queue of receipts", mailbox.receipts.QueueUrl())
	output(stack, "ReceiverVersion", "Version of s3ferry that the receiver is of", jsii.String(version.Version()))
}

func output(stack constructs.Construct, name, description string, value *string) {
	awscdk.NewCfnOutput(stack, jsii.String(name), &awscdk.CfnOutputProps{
		Description: jsii.String(description),
		Value:       value,
	})
}
