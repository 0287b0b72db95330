// Command other-partitions is an app that carries from one bucket in Global to
// GovCloud and to the European Sovereign Cloud: a sender for each, since a
// mailbox belongs to one sender. Deploy Gov and Sovereign with the profile of
// their own accounts, the others with that of Global.
package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)

	global := newStack(app, "Global", "eu-central-1")
	source := awss3.NewBucket(global, jsii.String("Source"), &awss3.BucketProps{
		Versioned:          jsii.Bool(true),
		EventBridgeEnabled: jsii.Bool(true), // tells both senders
	})
	for name, region := range map[string]string{"Gov": "us-gov-west-1", "Sovereign": "eusc-de-east-1"} {
		sender := newStack(app, "To"+name, "eu-central-1")
		ferry.NewSender(sender, "Sender", &ferry.SenderProps{
			SourceBucket: source,
			Prefix:       "for-" + name + "/",
		}).AddOutputs()

		receiver := newStack(app, name, region)
		ferry.NewReceiver(receiver, "Receiver", &ferry.ReceiverProps{
			Mailbox:     ferry.NewMailbox(receiver, "Mailbox", nil),
			StripPrefix: "for-" + name + "/",
		}).AddOutputs()
	}
	app.Synth(nil)
}

func newStack(app awscdk.App, name, region string) awscdk.Stack {
	return awscdk.NewStack(app, jsii.String(name), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: jsii.String(region)},
	})
}
