package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

// newChinaReceiver makes the side of the destination bucket.
func newChinaReceiver(app awscdk.App, cfg chinaConfig) awscdk.Stack {
	stack := awscdk.NewStack(app, jsii.String(chinaReceiver), &awscdk.StackProps{
		StackName:   jsii.String(cfg.StackName),
		Description: jsii.String("s3ferry: takes transfers and pulls their objects across the border"),
		Env:         &awscdk.Environment{Region: jsii.String(cfg.Region)},
	})
	alarmTopic := topic(stack, cfg.AlarmTopicARN, cfg.AlarmEmail)
	encryptionKey := key(stack, "EncryptionKey", cfg.KeyARN)
	mailbox := ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{
		Authorization:   ferry.Authorization(cfg.Authorization),
		AccessKeySerial: cfg.AccessKeySerial,
		AllowedNetworks: cfg.AllowedNetworks,
		EncryptionKey:   encryptionKey,

		Rate:        cfg.Rate,
		Burst:       cfg.Burst,
		Quota:       cfg.Quota,
		QuotaPeriod: awsapigateway.Period(cfg.QuotaPeriod),
		AlarmTopic:  alarmTopic,
	})
	receiver := ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{
		Mailbox:           mailbox,
		DestinationBucket: bucket(stack, "ImportedDestination", cfg.DestinationBucket, cfg.DestinationKeyARN),
		EncryptionKey:     encryptionKey,
		StripPrefix:       cfg.StripPrefix,
		AddPrefix:         cfg.AddPrefix,
		Concurrency:       cfg.Concurrency,
		MemoryMiB:         cfg.MemoryMiB,
		Connections:       cfg.Connections,
		PartSizeMiB:       cfg.PartSizeMiB,
		SegmentSizeMiB:    cfg.SegmentSizeMiB,
		Deletes:           cfg.Deletes,
		TagChanges:        cfg.TagChanges,
		Architecture:      architecture(cfg.Architecture),

		UnconditionalWrites: cfg.Unconditional,
		AlarmTopic:          alarmTopic,
	})
	receiver.AddOutputs()
	return stack
}

// bucket returns the bucket of that name, or nil for no name.
func bucket(scope constructs.Construct, id, name, keyARN string) awss3.IBucket {
	if name == "" {
		return nil
	}
	attributes := &awss3.BucketAttributes{BucketName: jsii.String(name)}
	if key := key(scope, id+"Key", keyARN); key != nil {
		attributes.EncryptionKey = key
	}
	return awss3.Bucket_FromBucketAttributes(scope, jsii.String(id), attributes)
}

// key returns the key of that ARN, or nil for none.
func key(scope constructs.Construct, id, arn string) awskms.IKey {
	if arn == "" {
		return nil
	}
	return awskms.Key_FromKeyArn(scope, jsii.String(id), jsii.String(arn))
}

// topic returns the topic of that ARN, a new one for that address, or nil for
// neither.
func topic(scope constructs.Construct, arn, email string) awssns.ITopic {
	switch {
	case arn != "":
		return awssns.Topic_FromTopicArn(scope, jsii.String("AlarmTopic"), jsii.String(arn))
	case email != "":
		return ferry.NewAlarmTopic(scope, "Alarms", email)
	}
	return nil
}

func architecture(name string) awslambda.Architecture {
	if name == "arm64" {
		return awslambda.Architecture_ARM_64()
	}
	return awslambda.Architecture_X86_64()
}
