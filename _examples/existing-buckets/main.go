// Command existing-buckets is an app around buckets that are already there. Both
// source buckets have to send their events to EventBridge, which is one switch
// of a bucket and leaves its notifications alone.
package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)

	global := awscdk.NewStack(app, jsii.String("Global"), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: jsii.String("us-east-1")},
	})
	sender := ferry.NewSender(global, "Sender", &ferry.SenderProps{
		SourceBucket: bucket(global, "Reports", "example-reports", "arn:aws:kms:us-east-1:111122223333:key/reports"),
		Prefix:       "outgoing/",
	})
	sender.AddSource("Invoices", ferry.Source{
		Bucket: bucket(global, "InvoicesBucket", "example-invoices", "arn:aws:kms:us-east-1:111122223333:key/invoices"),
		Prefix: "outgoing/",
		Suffix: ".pdf",
	})
	sender.AddOutputs()

	// outgoing/2026/may.pdf of example-invoices becomes
	// global/example-invoices/2026/may.pdf of example-archive.
	china := awscdk.NewStack(app, jsii.String("China"), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: jsii.String("cn-northwest-1")},
	})
	ferry.NewReceiver(china, "Receiver", &ferry.ReceiverProps{
		Mailbox:           ferry.NewMailbox(china, "Mailbox", nil),
		DestinationBucket: bucket(china, "Archive", "example-archive", "arn:aws-cn:kms:cn-northwest-1:444455556666:key/archive"),
		StripPrefix:       "outgoing/",
		AddPrefix:         "global/{bucket}/",
		StorageClasses:    map[string]string{"STANDARD": "STANDARD_IA"},
	}).AddOutputs()

	app.Synth(nil)
}

// bucket returns the bucket of that name, encrypted with the key.
func bucket(scope constructs.Construct, id, name, keyARN string) awss3.IBucket {
	return awss3.Bucket_FromBucketAttributes(scope, jsii.String(id), &awss3.BucketAttributes{
		BucketName:    jsii.String(name),
		EncryptionKey: awskms.Key_FromKeyArn(scope, jsii.String(id+"Key"), jsii.String(keyARN)),
	})
}
