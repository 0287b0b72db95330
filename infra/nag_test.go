package main

import (
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"

	"github.com/s3ferry/s3ferry/test/synth"
)

// suppressions are the findings of cdk-nag that are meant, by stack and path of
// the construct. A rule is silent for these constructs only, so it still speaks
// up for a new one.
var suppressions = map[string]map[string][]*cdknag.NagPackSuppression{
	"GlobalSender": {
		"Sender/LinkSecret":               {because("SMG4", "An operator rotates it together with the API key and the trust parameter, which are in another account.")},
		"Sender/SourceBucket/Resource":    {because("S1", accessLogs)},
		"Sender/SenderRole/DefaultPolicy": {because("IAM5", anyKey, "Resource::<SenderSourceBucketA790F850.Arn>/*")},
		"Sender/SignerRole/DefaultPolicy": {because("IAM5", anyKey, "Resource::<SenderSourceBucketA790F850.Arn>/*")},
	},
	"ChinaReceiver": {
		"Mailbox/Receipts/Resource": {because("SQS3", "The courier takes a receipt that it cannot read to the outbox's dead letters, so none comes back for ever.")},
		"Mailbox/Api/DeploymentStage.v1": {
			because("APIG1", "Access logs need the one CloudWatch role of the account, which is not this stack's to set."),
			because("APIG3", "The key throttles, and the receiver refuses what is not signed; a web ACL is the account's choice."),
			because("APIG6", "Execution logs need the one CloudWatch role of the account, and would hold signed URLs."),
		},
		"Mailbox/Api/Default/transfers/POST":       noAuthorizer,
		"Mailbox/Api/Default/transfers/depth/GET":  noAuthorizer,
		"Mailbox/Api/Default/receipts/GET":         noAuthorizer,
		"Mailbox/Api/Default/receipts/delete/POST": noAuthorizer,
		"Receiver/DestinationBucket/Resource":      {because("S1", accessLogs)},
		"Receiver/JournalBucket/Resource":          {because("S1", accessLogs)},
		"Receiver/Role/DefaultPolicy": {because("IAM5", anyKey,
			"Resource::<ReceiverDestinationBucket8FF07B34.Arn>/*", "Resource::<ReceiverJournalBucketA121B10A.Arn>/*")},
	},
}

const (
	accessLogs = "Access logs need a bucket that only the account can choose."
	anyKey     = "Which objects come is not known beforehand: every key of the bucket below the prefix."
)

var noAuthorizer = []*cdknag.NagPackSuppression{
	because("APIG4", "The sender has no credentials in this partition: the receiver checks the signature of every transfer."),
	because("COG4", "API Gateway in aws-cn has no Cognito authorizers."),
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
		synth.Safely(t, func() {
			for path, list := range suppressions[*stack.StackName()] {
				cdknag.NagSuppressions_AddResourceSuppressionsByPath(stack,
					jsii.String("/"+*stack.StackName()+"/"+path), &list, jsii.Bool(true))
			}
		})
		if found := findings(stack); found != "" {
			t.Errorf("%s: %s", *stack.StackName(), found)
		}
	}
}

// Without suppressions there are findings, so silence in TestNag means something.
func TestNagIsAwake(t *testing.T) {
	sender, _ := stacks(t, nil)
	if found := findings(sender); !strings.Contains(found, "AwsSolutions-IAM5") {
		t.Errorf("cdk-nag does not see the wildcards of a stack without suppressions: %s", found)
	}
}

// findings returns what cdk-nag finds wrong with the stack, or "".
func findings(stack awscdk.Stack) string {
	return synth.Panic(func() {
		awscdk.Aspects_Of(stack).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{Verbose: jsii.Bool(true)}), nil)
		annotations, anything := assertions.Annotations_FromStack(stack), assertions.Match_AnyValue()
		annotations.HasNoError(jsii.String("*"), anything)
		annotations.HasNoWarning(jsii.String("*"), anything)
	})
}
