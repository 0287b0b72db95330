package ferry_test

import (
	"fmt"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

// exampleStack is a stack in the region, of an app that builds no functions.
func exampleStack(region string) awscdk.Stack { return newStack(region, nil) }

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

// The side of the destination bucket.
func ExampleNewReceiver() {
	app := awscdk.NewApp(nil)
	stack := awscdk.NewStack(app, jsii.String("ChinaReceiver"), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: jsii.String("cn-north-1")},
	})
	mailbox := ferry.NewMailbox(stack, "Mailbox", nil)
	ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: mailbox})
	app.Synth(nil)
}

// An operator's role that may link the sender, and a function of one's own that
// may put objects to be carried.
func ExampleSender() {
	stack := exampleStack("us-east-1")
	sender := ferry.NewSender(stack, "Sender", nil)

	operator := awsiam.NewRole(stack, jsii.String("Operator"), &awsiam.RoleProps{AssumedBy: awsiam.NewAccountRootPrincipal()})
	sender.GrantLink(operator)
	sender.SourceBucket().GrantPut(operator, nil)
	// Output:
}

// What lies below a prefix of a bucket that is already there, whose objects are
// encrypted with its own key.
func ExampleSenderProps() {
	stack := exampleStack("us-east-1")
	ferry.NewSender(stack, "Sender", &ferry.SenderProps{
		SourceBucket: awss3.Bucket_FromBucketAttributes(stack, jsii.String("Source"), &awss3.BucketAttributes{
			BucketName:    jsii.String("my-reports"),
			EncryptionKey: awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String("arn:aws:kms:us-east-1:111122223333:key/my-key")),
		}),
		Prefix:       "outgoing/",
		URLLife:      30 * time.Minute,
		Architecture: awslambda.Architecture_ARM_64(),
	})
	// Output:
}

// One sender for several buckets of its region.
func ExampleSource() {
	stack := exampleStack("us-east-1")
	sender := ferry.NewSender(stack, "Sender", nil)
	sender.AddSource("Photos", ferry.Source{
		Bucket: awss3.Bucket_FromBucketName(stack, jsii.String("PhotosBucket"), jsii.String("my-photos")),
		Suffix: ".jpg",
	})
	// Output:
}

// Two tasks on Fargate beside the function, for objects of many hours.
func ExampleWorker() {
	stack := exampleStack("cn-north-1")
	receiver := ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil)})
	ferry.NewWorker(stack, "Worker", &ferry.WorkerProps{
		Receiver: receiver,
		Cluster:  awsecs.NewCluster(stack, jsii.String("Cluster"), nil),
		Image:    awsecs.ContainerImage_FromEcrRepository(awsecr.Repository_FromRepositoryName(stack, jsii.String("Repository"), jsii.String("s3ferry")), jsii.String("v1")),
		Tasks:    2,
	})
	// Output:
}

// How much each of them gets.
func ExampleWorkerProps() {
	stack := exampleStack("cn-north-1")
	receiver := ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil)})
	ferry.NewWorker(stack, "Worker", &ferry.WorkerProps{
		Receiver: receiver,
		Cluster:  awsecs.NewCluster(stack, jsii.String("Cluster"), nil),
		Image:    awsecs.ContainerImage_FromRegistry(jsii.String("example/s3ferry:v1"), nil),
		CPU:      4096, MemoryMiB: 16384, Concurrency: 40,
	})
	// Output:
}

// A mailbox for requests that are signed, from the addresses of two NAT gateways.
func ExampleAuthorization() {
	stack := exampleStack("cn-north-1")
	ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{
		Authorization:   ferry.IAM,
		AllowedNetworks: []string{"203.0.113.7/32", "203.0.113.8/32"},
	})
	// Output:
}

// A bucket that does not send its events to EventBridge gets a notification
// beside those it has.
func ExampleEvents() {
	stack := exampleStack("us-east-1")
	ferry.NewSender(stack, "Sender", &ferry.SenderProps{
		SourceBucket: awss3.Bucket_FromBucketName(stack, jsii.String("Source"), jsii.String("my-reports")),
		SourceEvents: ferry.Notifications,
	})
	// Output:
}

// A bucket that notifies a queue of yours already, which nobody else reads, and
// one dead-letter queue that your alarms watch.
func ExampleSenderProps_queues() {
	stack := exampleStack("us-east-1")
	queue := func(name string) awssqs.IQueue {
		return awssqs.Queue_FromQueueArn(stack, jsii.String(name), jsii.String("arn:aws:sqs:us-east-1:111122223333:"+name))
	}
	ferry.NewSender(stack, "Sender", &ferry.SenderProps{
		SourceBucket:    awss3.Bucket_FromBucketName(stack, jsii.String("Source"), jsii.String("my-reports")),
		Outbox:          queue("report-events"),
		DeadLetterQueue: queue("report-events-dead"),
	})
	// Output:
}

// A dashboard of one's own with what waits in the mailbox.
func ExampleMailbox() {
	stack := exampleStack("cn-north-1")
	mailbox := ferry.NewMailbox(stack, "Mailbox", nil)
	awscloudwatch.NewDashboard(stack, jsii.String("Dashboard"), nil).AddWidgets(
		awscloudwatch.NewGraphWidget(&awscloudwatch.GraphWidgetProps{
			Left: &[]awscloudwatch.IMetric{mailbox.MetricInboxDepth(nil), mailbox.MetricReceiptsDepth(nil)},
		}),
	)
	// Output:
}

// A sender that may make 50 requests a second, and a million a month.
func ExampleMailboxProps() {
	stack := exampleStack("cn-north-1")
	ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{
		Rate: 50, Burst: 100,
		Quota: 1_000_000, QuotaPeriod: awsapigateway.Period_MONTH,
	})
	// Output:
}

// A stack of one's own that reads what has arrived.
func ExampleReceiver() {
	stack := exampleStack("cn-north-1")
	receiver := ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil)})

	reader := awsiam.NewRole(stack, jsii.String("Reader"), &awsiam.RoleProps{AssumedBy: awsiam.NewAccountRootPrincipal()})
	receiver.DestinationBucket().GrantRead(reader, nil)
	fmt.Println(*receiver.Node().Path())
	// Output: Stack/Receiver
}

// Objects of several sources that go to places of their own, in a cheaper
// storage class.
func ExampleReceiverProps_mapping() {
	stack := exampleStack("cn-north-1")
	ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{
		Mailbox:        ferry.NewMailbox(stack, "Mailbox", nil),
		StripPrefix:    "outgoing/",
		AddPrefix:      "from/{bucket}/",
		StorageClasses: map[string]string{"STANDARD": "STANDARD_IA"},
	})
	// Output:
}

// A receiver that pulls over a leased line, behind which the source's S3 has
// private addresses.
func ExampleReceiverProps_leasedLine() {
	stack := exampleStack("cn-north-1")
	vpc := awsec2.Vpc_FromVpcAttributes(stack, jsii.String("VPC"), &awsec2.VpcAttributes{
		VpcId:             jsii.String("vpc-12345678"),
		AvailabilityZones: jsii.Strings("cn-north-1a"),
		PrivateSubnetIds:  jsii.Strings("subnet-12345678"),
	})
	ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{
		Mailbox:        ferry.NewMailbox(stack, "Mailbox", nil),
		VPC:            vpc,
		SecurityGroups: []awsec2.ISecurityGroup{awsec2.SecurityGroup_FromSecurityGroupId(stack, jsii.String("Group"), jsii.String("sg-12345678"), nil)},
		SourceNetworks: []string{"10.20.0.0/16"},
	})
	// Output:
}
