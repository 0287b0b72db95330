package ferry

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// Warnings about keys whose policies are not this app's to change.
const keyPolicyWarning = "s3ferry:keyPolicy"

// grantQueueKeys lets role send to the queues and receive from them, as far as
// that takes their keys.
func grantQueueKeys(role awsiam.Role, queues ...awssqs.IQueue) {
	for _, queue := range queues {
		if key := queue.EncryptionMasterKey(); key != nil {
			key.Grant(role, jsii.String("kms:Decrypt"), jsii.String("kms:GenerateDataKey"))
		}
	}
}

// letSend lets a service send to the queue, as far as that takes its key.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
func letSend(scope constructs.Construct, queue awssqs.IQueue, service string) {
	letUse(scope, queue.EncryptionMasterKey(), service, map[string]any{
		"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()},
	}, "kms:Decrypt", "kms:GenerateDataKey")
}

// letLog lets CloudWatch Logs encrypt the log groups of the stack with key.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
func letLog(scope constructs.Construct, key awskms.IKey) {
	region := *awscdk.Stack_Of(scope).Region()
	letUse(scope, key, "logs."+region+"."+*awscdk.Aws_URL_SUFFIX(), map[string]any{
		"ArnLike": map[string]any{
			"kms:EncryptionContext:aws:logs:arn": "arn:" + *awscdk.Aws_PARTITION() + ":logs:" + region + ":" + *awscdk.Aws_ACCOUNT_ID() + ":log-group:*",
		},
	}, "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:DescribeKey")
}

// letUse adds to the policy of key, if there is one, that a service may use it.
// Where the policy is not this app's, the app says what has to be in it.
func letUse(scope constructs.Construct, key awskms.IKey, service string, conditions map[string]any, actions ...string) {
	if key == nil {
		return
	}
	added := key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String(service), nil)},
		Actions:    jsii.Strings(actions...),
		Resources:  jsii.Strings("*"), // in the policy of a key, this key
		Conditions: &conditions,
	}), jsii.Bool(true))
	if !*added.StatementAdded {
		awscdk.Annotations_Of(scope).AddWarningV2(jsii.String(keyPolicyWarning+":"+service),
			jsii.String("the policy of key "+*key.KeyArn()+" is not this app's: see that it lets "+service+" do "+strings.Join(actions, " ")))
	}
}
