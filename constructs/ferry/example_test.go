package ferry_test

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

// The side of the source bucket, with all defaults: a new bucket whose every new
// object is carried.
func ExampleNewSender() {
	app := awscdk.NewApp(nil)
	stack := awscdk.NewStack(app, jsii.String("GlobalSender"), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: jsii.String("us-east-1")},
	})
	sender := ferry.NewSender(stack, "Sender", nil)
	awscdk.NewCfnOutput(stack, jsii.String("LinkSecret"), &awscdk.CfnOutputProps{Value: sender.LinkSecret().SecretArn()})
	app.Synth(nil)
}

// A bucket that is already there, and only what lies below a prefix. The bucket
// must send its events to EventBridge.
func ExampleNewSender_existingBucket() {
	stack := awscdk.NewStack(awscdk.NewApp(nil), jsii.String("GlobalSender"), nil)
	ferry.NewSender(stack, "Sender", &ferry.SenderProps{
		SourceBucket: awss3.Bucket_FromBucketName(stack, jsii.String("Source"), jsii.String("my-reports")),
		Prefix:       "outgoing/",
		URLLife:      30 * time.Minute,
	})
}

// The side of the destination bucket.
func ExampleNewReceiver() {
	app := awscdk.NewApp(nil)
	stack := awscdk.NewStack(app, jsii.String("ChinaReceiver"), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: jsii.String("cn-north-1")},
	})
	mailbox := ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{Rate: 50, Burst: 100})
	ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: mailbox})
	app.Synth(nil)
}
