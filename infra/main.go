// Command infra is the CDK app of s3ferry: one stack for each side of the
// border, to be deployed with the credentials of its own account.
//
//	npx cdk deploy --exclusively GlobalSender
//	npx cdk deploy --exclusively ChinaReceiver
//
// --exclusively saves building the functions of the other stack. The settings
// are in cdk.json and described in config.go.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// The ids of the stacks, by which the CLI of CDK knows them, whatever their
// names in CloudFormation.
const (
	globalSender  = "GlobalSender"
	chinaReceiver = "ChinaReceiver"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	cfg, err := readConfig(app.Node().GetAllContext(nil))
	if err != nil {
		return err
	}
	build(app, cfg)
	app.Synth(nil)
	return nil
}

// build adds both stacks to app. Neither needs the other.
func build(app awscdk.App, cfg config) (sender, receiver awscdk.Stack) {
	sender = newGlobalSender(app, cfg.Global)
	receiver = newChinaReceiver(app, cfg.China)
	awscdk.Tags_Of(app).Add(jsii.String("application"), jsii.String("s3ferry"), &awscdk.TagProps{
		ExcludeResourceTypes: jsii.Strings("AWS::Lambda::EventSourceMapping"), // refused in aws-cn
	})
	return sender, receiver
}
