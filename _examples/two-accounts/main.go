// Command two-accounts is an app with both sides, of which each stack is
// deployed with the profile of its own account:
//
//	npx cdk deploy --app "go run ." --exclusively China --profile china
//	npx cdk deploy --app "go run ." --exclusively Global --profile global
//	s3ferry link --global-profile global --global-stack Global --china-profile china --china-stack China
package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)

	global := awscdk.NewStack(app, jsii.String("Global"), &awscdk.StackProps{
		Env: &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("us-east-1")},
	})
	ferry.NewSender(global, "Sender", nil).AddOutputs()

	china := awscdk.NewStack(app, jsii.String("China"), &awscdk.StackProps{
		Env: &awscdk.Environment{Account: jsii.String("444455556666"), Region: jsii.String("cn-north-1")},
	})
	ferry.NewReceiver(china, "Receiver", &ferry.ReceiverProps{
		Mailbox: ferry.NewMailbox(china, "Mailbox", nil),
	}).AddOutputs()

	app.Synth(nil)
}
