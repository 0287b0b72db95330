package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

// newGlobalSender makes the side of the source bucket.
func newGlobalSender(app awscdk.App, cfg globalConfig) awscdk.Stack {
	stack := awscdk.NewStack(app, jsii.String(globalSender), &awscdk.StackProps{
		StackName:   jsii.String(cfg.StackName),
		Description: jsii.String("s3ferry: signs URLs of new objects and posts them across the border"),
		Env:         &awscdk.Environment{Region: jsii.String(cfg.Region)},
	})
	sender := ferry.NewSender(stack, "Sender", &ferry.SenderProps{
		SourceBucket:  bucket(stack, "ImportedSource", cfg.SourceBucket, cfg.SourceKeyARN),
		EncryptionKey: key(stack, "EncryptionKey", cfg.KeyARN),
		Prefix:        cfg.Prefix,
		Suffix:        cfg.Suffix,
		URLLife:       cfg.URLLife,
		Deletes:       cfg.Deletes,
		TagChanges:    cfg.TagChanges,
		MaxRounds:     cfg.MaxRounds,
		Concurrency:   cfg.Concurrency,
		Architecture:  architecture(cfg.Architecture),
		AlarmTopic:    topic(stack, cfg.AlarmTopicARN, cfg.AlarmEmail),
	})
	sender.AddOutputs()
	return stack
}
