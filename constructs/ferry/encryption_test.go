package ferry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/constructs/ferry"
	"github.com/s3ferry/s3ferry/test/synth"
)

// encrypted makes a whole pair whose everything has the key.
func encrypted(stack awscdk.Stack, key awskms.IKey, source awss3.IBucket) {
	operator := awsiam.NewRole(stack, jsii.String("Operator"), &awsiam.RoleProps{AssumedBy: awsiam.NewAccountRootPrincipal()})
	ferry.NewSender(stack, "Sender", &ferry.SenderProps{EncryptionKey: key, SourceBucket: source}).GrantLink(operator)
	mailbox := ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{EncryptionKey: key, Authorization: ferry.IAM})
	mailbox.GrantReadAPIKey(operator)
	ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{EncryptionKey: key, Mailbox: mailbox})
}

func TestOwnKey(t *testing.T) {
	tpl := template(t, "cn-north-1", func(stack awscdk.Stack) {
		encrypted(stack, awskms.NewKey(stack, jsii.String("Key"), nil), nil)
	})
	const arn, id = "${Key961B73FD.Arn}", "${Key961B73FD}"
	for kind, property := range map[string]string{
		"AWS::SQS::Queue": "KmsMasterKeyId", "AWS::SecretsManager::Secret": "KmsKeyId", "AWS::Logs::LogGroup": "KmsKeyId",
	} {
		all := tpl.Resources(kind)
		if len(all) == 0 {
			t.Errorf("there is no %s", kind)
		}
		for _, r := range all {
			if got := synth.Resolve(r.Get(property)); got != arn && got != id {
				t.Errorf("%s %s is encrypted with %v", kind, r.ID, got)
			}
		}
	}
	for _, q := range tpl.Resources("AWS::SQS::Queue") {
		if q.Get("SqsManagedSseEnabled") != nil {
			t.Errorf("%s has two encryptions", q.ID)
		}
	}

	// Whoever sends needs a data key, whoever reads needs to decrypt.
	both := []string{"Allow kms:Decrypt on ${Key.Arn}", "Allow kms:GenerateDataKey on ${Key.Arn}"}
	for role, want := range map[string][]string{
		"MailboxApiRole": both, "ReceiverRole": both, "SenderSenderRole": both, "SenderCourierRole": both, "Operator": both,
		"SenderSignerRole": both[:1], "MailboxSender": nil,
	} {
		if diff := cmp.Diff(want, slices.Compact(statementsOf(tpl, role, "kms:"))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", role, diff)
		}
	}
	_, policy, _ := strings.Cut(tpl.ResourcePolicies(), "policy of ${Key}\n")
	policy, _, _ = strings.Cut(policy, "policy of")
	const logs = `for {"Service":"logs.cn-north-1.${AWS::URLSuffix}"} if {"ArnLike":{"kms:EncryptionContext:aws:logs:arn":"arn:${AWS::Partition}:logs:cn-north-1:${AWS::AccountId}:log-group:*"}}`
	const s3 = `for {"Service":"s3.amazonaws.com"} if {"StringEquals":{"aws:SourceAccount":"${AWS::AccountId}"}}`
	for _, want := range []string{
		"kms:Encrypt on * " + logs, "kms:Decrypt on * " + logs, "kms:ReEncryptFrom on * " + logs, "kms:GenerateDataKey on * " + logs,
		"kms:Decrypt on * " + s3, "kms:GenerateDataKey on * " + s3,
	} {
		if !strings.Contains(policy, "  Allow "+want+"\n") {
			t.Errorf("the key does not allow %s:\n%s", want, policy)
		}
	}
}

// EventBridge puts a given bucket's events into the outbox.
func TestOwnKeyBesideABucket(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		encrypted(stack, awskms.NewKey(stack, jsii.String("Key"), nil), awss3.Bucket_FromBucketName(stack, jsii.String("Theirs"), jsii.String("theirs")))
	})
	for _, action := range []string{"kms:Decrypt", "kms:GenerateDataKey"} {
		want := fmt.Sprintf(`  Allow %s on * for {"Service":"events.amazonaws.com"} if {"StringEquals":{"aws:SourceAccount":"${AWS::AccountId}"}}`, action)
		if !strings.Contains(tpl.ResourcePolicies(), want) {
			t.Errorf("the key does not say %s:\n%s", want, tpl.ResourcePolicies())
		}
	}
}

// Nobody but its owner can change the policy of a key from elsewhere.
func TestAKeyFromElsewhereIsWarnedOf(t *testing.T) {
	var stack awscdk.Stack
	synth.Safely(t, func() {
		stack = newStack("us-east-1", nil)
		key := awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String("arn:aws:kms:us-east-1:111111111111:key/k"))
		encrypted(stack, key, nil)
		for _, service := range []string{"s3.amazonaws.com", `logs.*`} {
			assertions.Annotations_FromStack(stack).HasWarning(jsii.String("*"),
				assertions.Match_StringLikeRegexp(jsii.String("policy of key arn:aws:kms:us-east-1:111111111111:key/k .* lets "+service+" do kms:")))
		}
	})
}
