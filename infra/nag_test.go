package main

import (
	"fmt"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/cxapi"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"

	"github.com/s3ferry/s3ferry/test/synth"
)

// suppressions are the findings of cdk-nag that are meant, by the path of the
// construct below its stack. A rule is suppressed for the constructs named, so
// it still speaks up for a new one.
var suppressions = map[string]map[string][]*cdknag.NagPackSuppression{
	"GlobalSender": {
		"Sender/LinkSecret":               {because("SMG4", "An operator rotates it together with the mailbox's API key and trust parameter, which are in another account.")},
		"Sender/SourceBucket/Resource":    {because("S1", "Access logs need a bucket of the account's own choice.")},
		"Sender/SenderRole/DefaultPolicy": {because("IAM5", "The objects are known when they come: every key of the one bucket, below the prefix.", "Resource::<SenderSourceBucketA790F850.Arn>/*")},
		"Sender/SignerRole/DefaultPolicy": {because("IAM5", "The objects are known when they come: every key of the one bucket, below the prefix.", "Resource::<SenderSourceBucketA790F850.Arn>/*")},
	},
	"ChinaReceiver": {
		"Mailbox/Receipts/Resource": {because("SQS3", "The courier itself deletes a receipt that it cannot read, so none comes back for ever.")},
		"Mailbox/Api/Resource":      {},
		"Mailbox/Api/DeploymentStage.v1": {
			because("APIG1", "Access logs need the one CloudWatch role of the account, which is not this stack's to set."),
			because("APIG3", "A web ACL costs more than the mailbox; the key throttles, and unsigned transfers are refused."),
			because("APIG6", "Execution logs need the one CloudWatch role of the account, and would hold the transfers."),
		},
		"Mailbox/Api/Default":                 {},
		"Receiver/DestinationBucket/Resource": {because("S1", "Access logs need a bucket of the account's own choice.")},
		"Receiver/JournalBucket/Resource":     {because("S1", "It holds the state of unfinished transfers, and only the receiver works on it.")},
		"Receiver/Role/DefaultPolicy": {
			because("IAM5", "Keys are known when transfers come: every key of the one bucket.", "Resource::<ReceiverDestinationBucket8FF07B34.Arn>/*"),
			because("IAM5", "Entries are named after transfers: every key of the one bucket.", "Resource::<ReceiverJournalBucketA121B10A.Arn>/*"),
		},
	},
}

func because(rule, reason string, appliesTo ...any) *cdknag.NagPackSuppression {
	s := &cdknag.NagPackSuppression{Id: jsii.String("AwsSolutions-" + rule), Reason: jsii.String(reason)}
	if len(appliesTo) > 0 {
		s.AppliesTo = &appliesTo
	}
	return s
}

func TestNag(t *testing.T) {
	sender, receiver := stacks(t, nil)
	for _, stack := range []awscdk.Stack{sender, receiver} {
		var findings []*cxapi.SynthesisMessage
		synth.Safely(t, func() {
			for path, list := range suppressions[*stack.StackName()] {
				cdknag.NagSuppressions_AddResourceSuppressionsByPath(stack,
					jsii.String("/"+*stack.StackName()+"/"+path), &list, jsii.Bool(false))
			}
			awscdk.Aspects_Of(stack).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{Verbose: jsii.Bool(true)}), nil)
			annotations := assertions.Annotations_FromStack(stack)
			anything := assertions.Match_AnyValue()
			findings = append(*annotations.FindError(jsii.String("*"), anything), *annotations.FindWarning(jsii.String("*"), anything)...)
		})
		for _, finding := range findings {
			t.Errorf("%s: %v", *finding.Id, finding.Entry.Data)
		}
	}
}

var _ = fmt.Sprint
