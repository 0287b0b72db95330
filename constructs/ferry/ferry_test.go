package ferry_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/s3ferry/s3ferry/constructs/ferry"
	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/test/synth"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestMain(m *testing.M) { synth.Main(m) }

// newStack is a stack of somebody else's app: none of this repository's feature
// flags are set.
func newStack(region string, context map[string]any) awscdk.Stack {
	all := map[string]any{"aws:cdk:bundling-stacks": []any{}}
	maps.Copy(all, context)
	return awscdk.NewStack(awscdk.NewApp(&awscdk.AppProps{Context: &all}), jsii.String("Stack"), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: jsii.String(region)},
	})
}

// template synthesizes what build adds to a stack.
func template(t *testing.T, region string, build func(awscdk.Stack)) synth.Template {
	t.Helper()
	var stack awscdk.Stack
	synth.Safely(t, func() {
		stack = newStack(region, nil)
		build(stack)
	})
	return synth.Of(t, stack)
}

// importedBucket is a bucket of another stack, with a key.
func importedBucket(stack awscdk.Stack) awss3.IBucket {
	return awss3.Bucket_FromBucketAttributes(stack, jsii.String("Imported"), &awss3.BucketAttributes{
		BucketName: jsii.String("theirs"),
		EncryptionKey: awskms.Key_FromKeyArn(stack, jsii.String("Key"),
			jsii.String("arn:aws:kms:us-east-1:111111111111:key/k")),
	})
}

func TestConstructsAreConstructs(t *testing.T) {
	synth.Safely(t, func() {
		stack := newStack("us-east-1", nil)
		mailbox := ferry.NewMailbox(stack, "Mailbox", nil)
		for _, c := range []constructs.Construct{
			mailbox,
			ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: mailbox}),
			ferry.NewSender(stack, "Sender", nil),
		} {
			if *awscdk.Stack_Of(c).Node().Id() != "Stack" {
				t.Errorf("%s is in no stack", *c.Node().Path())
			}
			awscdk.Tags_Of(c).Add(jsii.String("k"), jsii.String("v"), nil)
			constructs.NewConstruct(c, jsii.String("Inside"))
			constructs.NewConstruct(stack, jsii.String("After"+*c.Node().Id())).Node().AddDependency(c)
		}
	})
}

func TestEnvironmentBlocksLoad(t *testing.T) {
	environments := template(t, "cn-north-1", func(stack awscdk.Stack) {
		mailbox := ferry.NewMailbox(stack, "Mailbox", nil)
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: mailbox, MemoryMiB: 3008, Connections: 32, PartSizeMiB: 16, SegmentSizeMiB: 256})
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{URLLife: 45 * time.Minute})
	}).Environments()

	var sender envcfg.Sender
	var courier envcfg.Courier
	var receiver envcfg.Receiver
	for name, cfg := range map[string]any{"SenderSender": &sender, "SenderCourier": &courier, "Receiver": &receiver} {
		id := slices.IndexFunc(slices.Sorted(maps.Keys(environments)), func(id string) bool { return strings.HasPrefix(id, name+"Function") })
		if id < 0 {
			t.Fatalf("there is no function %s", name)
		}
		block := environments[slices.Sorted(maps.Keys(environments))[id]]
		if err := envcfg.Decode(cfg, func(name string) (string, bool) { v, ok := block[name]; return v, ok }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(envcfg.Encode(cfg), block); diff != "" {
			t.Errorf("%s: the block holds more (+) or other things than its function reads:\n%s", name, diff)
		}
		for variable := range block {
			if strings.HasPrefix(variable, "S3FERRY_TEST_") {
				t.Errorf("%s: a construct sets the test-only %s", name, variable)
			}
		}
	}
	for _, check := range []struct{ what, got, beginsWith string }{
		{"name", sender.Name, "Stack-Sender"},
		{"name of the courier", courier.Name, "Stack-Sender"},
		{"name of the receiver", receiver.Name, "Stack-Receiver"},
		{"pace", sender.PaceParameter, "${SenderPace"},
		{"pace of the courier", courier.PaceParameter, sender.PaceParameter},
		{"outbox", sender.OutboxURL, "${" + outboxID + "}"},
		{"outbox of the courier", courier.OutboxURL, sender.OutboxURL},
		{"outbox DLQ of the courier", courier.OutboxDLQURL, sender.OutboxDLQURL},
		{"outbox DLQ", sender.OutboxDLQURL, "${SenderOutboxDeadLetters"},
		{"link secret", sender.LinkSecret, "${SenderLinkSecret"},
		{"link secret of the courier", courier.LinkSecret, sender.LinkSecret},
		{"signer role", sender.SignerRole, "${SenderSignerRole"},
		{"URL life", sender.URLLife.String(), "45m0s"},
		{"inbox", receiver.InboxURL, "${MailboxInbox9799A954}"},
		{"inbox DLQ", receiver.InboxDLQURL, "${MailboxInboxDeadLetters"},
		{"receipts", receiver.ReceiptsURL, "${MailboxReceipts"},
		{"trust", receiver.TrustParameter, "${ReceiverTrust"},
		{"destination", receiver.DestinationBucket, "${ReceiverDestinationBucket"},
		{"journal", receiver.JournalBucket, "${ReceiverJournalBucket"},
		{"numbers", fmt.Sprint(receiver.Connections, receiver.PartSize, receiver.SegmentSize, receiver.MemoryMiB), "32 16777216 268435456 752"},
	} {
		if !strings.HasPrefix(check.got, check.beginsWith) {
			t.Errorf("%s is %s, want %s", check.what, check.got, check.beginsWith)
		}
	}
}

// The roles beside a bucket of somebody else's with a key and a prefix, as
// reviewed. Those of the defaults are with the app's stacks.
func TestRolesBesideImportedBuckets(t *testing.T) {
	synth.Golden(t, "imported.iam.txt", template(t, "us-east-1", func(stack awscdk.Stack) {
		bucket := importedBucket(stack)
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{SourceBucket: bucket, Prefix: "out/", URLLife: 10 * time.Minute})
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil), DestinationBucket: bucket})
	}).IAM(), *update)
}

// A key made in the same app refers to no role, which would be a circle.
func TestBucketsWithKeysOfTheSameStack(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		bucket := awss3.NewBucket(stack, jsii.String("Bucket"), &awss3.BucketProps{
			Encryption:         awss3.BucketEncryption_KMS,
			EventBridgeEnabled: jsii.Bool(false),
		})
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{SourceBucket: bucket})
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil), DestinationBucket: bucket})
	})
	if got := strings.Count(tpl.IAM(), "Allow kms:Decrypt on ${BucketKey.Arn}"); got != 3 {
		t.Errorf("%d roles may decrypt, want sender, signer and receiver:\n%s", got, tpl.IAM())
	}
}

func TestSourceEvents(t *testing.T) {
	rules := func(list ...any) []any { return list }
	rule := func(name, value string) any { return map[string]any{"Name": name, "Value": value} }
	for name, tc := range map[string]struct {
		prefix, suffix  string
		filter, pattern any
	}{
		"all":    {"", "", nil, nil},
		"prefix": {"out/", "", rules(rule("prefix", "out/")), map[string]any{"key": []any{map[string]any{"prefix": "out/"}}}},
		"suffix": {"", ".csv", rules(rule("suffix", ".csv")), map[string]any{"key": []any{map[string]any{"suffix": ".csv"}}}},
		"both": {`o\t/`, "*.csv", rules(rule("prefix", `o\t/`), rule("suffix", "*.csv")),
			map[string]any{"key": []any{map[string]any{"wildcard": `o\\t/*\*.csv`}}}},
	} {
		t.Run(name, func(t *testing.T) {
			props := ferry.SenderProps{Prefix: tc.prefix, Suffix: tc.suffix}

			created := template(t, "us-east-1", func(stack awscdk.Stack) { ferry.NewSender(stack, "Sender", &props) })
			notification := created.Only(t, "AWS::S3::Bucket", "").Get("NotificationConfiguration", "QueueConfigurations", 0)
			want := map[string]any{"Event": "s3:ObjectCreated:*", "Queue": "${" + outboxID + ".Arn}"}
			if tc.filter != nil {
				want["Filter"] = map[string]any{"S3Key": map[string]any{"Rules": tc.filter}}
			}
			if diff := cmp.Diff(any(want), synth.Resolve(notification)); diff != "" {
				t.Errorf("notification of a new bucket: %s", diff)
			}
			if len(created.Resources("AWS::Events::Rule")) != 1 {
				t.Error("a new bucket needs no rule beside the courier's schedule")
			}

			imported := template(t, "us-east-1", func(stack awscdk.Stack) {
				props.SourceBucket = importedBucket(stack)
				ferry.NewSender(stack, "Sender", &props)
			})
			if len(imported.Resources("AWS::S3::Bucket")) != 0 || len(imported.Resources("Custom::S3BucketNotifications")) != 0 {
				t.Error("the imported bucket is not left alone")
			}
			pattern := imported.Only(t, "AWS::Events::Rule", "SenderSourceEvents")
			detail := map[string]any{"bucket": map[string]any{"name": []any{"theirs"}}}
			if tc.pattern != nil {
				detail["object"] = tc.pattern
			}
			wantPattern := map[string]any{"source": []any{"aws.s3"}, "detail-type": []any{"Object Created"}, "detail": detail}
			if diff := cmp.Diff(any(wantPattern), pattern.Get("EventPattern")); diff != "" {
				t.Errorf("rule for an imported bucket: %s", diff)
			}
			if got := synth.Resolve(pattern.Get("Targets", 0, "DeadLetterConfig", "Arn")); !strings.HasPrefix(fmt.Sprint(got), "${SenderOutboxDeadLetters") {
				t.Errorf("events that cannot be delivered go to %v", got)
			}

			notifying := template(t, "us-east-1", func(stack awscdk.Stack) {
				props.SourceBucket, props.SourceEvents = importedBucket(stack), ferry.Notifications
				ferry.NewSender(stack, "Sender", &props)
			})
			custom := notifying.Only(t, "Custom::S3BucketNotifications", "")
			if custom.Get("Managed") != false {
				t.Error("the imported bucket would lose its other notifications")
			}
			if diff := cmp.Diff(tc.filter, custom.Get("NotificationConfiguration", "QueueConfigurations", 0, "Filter", "Key", "FilterRules"), inAnyOrder); diff != "" {
				t.Errorf("notification of an imported bucket: %s", diff)
			}
		})
	}
}

const outboxID = "SenderOutbox51F53722"

var inAnyOrder = cmpopts.SortSlices(func(a, b any) bool { return fmt.Sprint(a) < fmt.Sprint(b) })

// S3 tries the queue when it makes the bucket, so the permission has to be there
// before.
func TestChangesOfTagsAreToldOfAndAllowed(t *testing.T) {
	for _, changes := range []bool{false, true} {
		tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
			given := func(id string) awss3.IBucket {
				return awss3.Bucket_FromBucketName(stack, jsii.String(id), jsii.String("given"))
			}
			ferry.NewSender(stack, "Sender", &ferry.SenderProps{TagChanges: changes})
			ferry.NewSender(stack, "Ruled", &ferry.SenderProps{TagChanges: changes, SourceBucket: given("Given")})
			ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil), TagChanges: changes})
		})
		text := tpl.Text(t)
		for want, n := range map[string]int{
			`"s3:ObjectTagging:*"`: 1, `"Object Tags Added"`: 1, `"Object Tags Deleted"`: 1, `"s3:PutObjectVersionTagging"`: 1, `"S3FERRY_TAG_CHANGES": "true"`: 3,
		} {
			if got := strings.Count(text, want); got != n && changes || got != 0 && !changes {
				t.Errorf("tag changes %v: the template has %s %d times, want %d", changes, want, got, n)
			}
		}
		// Both senders look at tags either way; their signers may only with the setting.
		if got, want := strings.Count(text, `"s3:GetObjectTagging"`), 2; got != want && !changes || got != 2*want && changes {
			t.Errorf("tag changes %v: s3:GetObjectTagging is allowed %d times", changes, got)
		}
	}
}

func TestDeletionsAreToldOfAndAllowed(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
			ferry.NewSender(stack, "Sender", &ferry.SenderProps{Deletes: deletes, MaxRounds: 7})
			ferry.NewSender(stack, "Ruled", &ferry.SenderProps{Deletes: deletes, SourceBucket: awss3.Bucket_FromBucketName(stack, jsii.String("Given"), jsii.String("given"))})
			ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil), Deletes: deletes})
		})
		text := tpl.Text(t)
		for _, want := range []string{"s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "Object Deleted"} {
			if strings.Contains(text, want) != deletes {
				t.Errorf("deletes %v: the template has %q: %v", deletes, want, !deletes)
			}
		}
		// The journal's entries are deleted either way.
		if got, want := strings.Count(text, `"s3:DeleteObject"`), 1; got != want && !deletes || got != want+1 && deletes {
			t.Errorf("deletes %v: s3:DeleteObject is allowed %d times", deletes, got)
		}
		if !strings.Contains(text, `"S3FERRY_MAX_ROUNDS": "7"`) || strings.Contains(text, "S3FERRY_DELETES") != deletes {
			t.Errorf("deletes %v: the environment does not say so", deletes)
		}
	}
}

func TestANewBucketWaitsForThePermissionToNotify(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) { ferry.NewSender(stack, "Sender", nil) })
	bucket, policy := tpl.Only(t, "AWS::S3::Bucket", ""), tpl.Only(t, "AWS::SQS::QueuePolicy", "SenderOutboxPolicy")
	if !slices.Contains(bucket.Attributes["DependsOn"].([]any), any(policy.ID)) {
		t.Errorf("the bucket depends on %v, not on %s", bucket.Attributes["DependsOn"], policy.ID)
	}
}

// A consumer's tags must not reach an event source mapping: aws-cn refuses it.
func TestTagsOfAConsumerSpareEventSourceMappings(t *testing.T) {
	tpl := template(t, "cn-northwest-1", func(stack awscdk.Stack) {
		awscdk.Tags_Of(stack).Add(jsii.String("team"), jsii.String("data"), nil)
		ferry.NewSender(stack, "Sender", nil)
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil)})
	})
	if tpl.Only(t, "AWS::Lambda::Function", "Receiver").Get("Tags") == nil {
		t.Fatal("nothing is tagged, so this test proves nothing")
	}
	for _, mapping := range tpl.Resources("AWS::Lambda::EventSourceMapping") {
		if mapping.Get("Tags") != nil {
			t.Errorf("%s is tagged", mapping.ID)
		}
	}
}

// Feature flags of a consumer's app change neither what there is nor what it may
// do.
func TestFeatureFlagsDoNotMatter(t *testing.T) {
	build := func(context map[string]any) synth.Template {
		var stack awscdk.Stack
		synth.Safely(t, func() {
			stack = newStack("us-east-1", context)
			ferry.NewSender(stack, "Sender", nil)
			ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil)})
		})
		return synth.Of(t, stack)
	}
	without := build(nil)
	with := build(map[string]any{
		"@aws-cdk/aws-iam:minimizePolicies":                           true,
		"@aws-cdk/aws-apigateway:disableCloudWatchRole":               true,
		"@aws-cdk/aws-apigateway:usagePlanKeyOrderInsensitiveId":      true,
		"@aws-cdk/aws-apigateway:requestValidatorUniqueId":            true,
		"@aws-cdk/aws-apigateway:authorizerChangeDeploymentLogicalId": true,
		"@aws-cdk/aws-lambda:recognizeLayerVersion":                   true,
		"@aws-cdk/aws-lambda:createNewPoliciesWithAddToRolePolicy":    true,
		"@aws-cdk/aws-lambda:useCdkManagedLogGroup":                   true,
		"@aws-cdk/aws-s3:createDefaultLoggingPolicy":                  true,
		"@aws-cdk/aws-s3:publicAccessBlockedByDefault":                true,
		"@aws-cdk/aws-sqs:queuePolicyDependsOnQueue":                  true,
		"@aws-cdk/aws-events:eventsTargetQueueSameAccount":            true,
		"@aws-cdk/aws-iam:importedRoleStackSafeDefaultPolicyName":     true,
		"@aws-cdk/core:enablePartitionLiterals":                       false,
		"@aws-cdk/core:stackRelativeExports":                          true,
	})
	ids := func(tpl synth.Template) (out []string) {
		for _, r := range tpl.Resources("") {
			out = append(out, r.Type+" "+r.ID)
		}
		return out
	}
	if diff := cmp.Diff(ids(without), ids(with)); diff != "" {
		t.Errorf("resources without (-) and with (+) flags differ: %s", diff)
	}
	if diff := cmp.Diff(without.IAM(), with.IAM()); diff != "" {
		t.Errorf("roles without (-) and with (+) flags differ: %s", diff)
	}
}

func TestOwnCodeIsNotBuilt(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		code := awslambda.Code_FromBucket(awss3.Bucket_FromBucketName(stack, jsii.String("Bundles"), jsii.String("bundles")), jsii.String("b.zip"), nil)
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{SenderCode: code, CourierCode: code, Architecture: awslambda.Architecture_ARM_64()})
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil), Code: code})
	})
	built := template(t, "us-east-1", func(stack awscdk.Stack) {
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{Architecture: awslambda.Architecture_ARM_64()})
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil)})
	})
	for i, f := range tpl.Resources("AWS::Lambda::Function") {
		if got := f.Get("Code", "S3Bucket"); got != "bundles" {
			t.Errorf("%s: the code comes from %v", f.ID, got)
		}
		same := built.Resources("AWS::Lambda::Function")[i]
		delete(f.Properties, "Code")
		delete(same.Properties, "Code")
		if diff := cmp.Diff(same, f); diff != "" {
			t.Errorf("built (-) and given (+) differ in more than the code: %s", diff)
		}
	}
}

// CloudWatch, and nobody else, may publish to a topic for alarms.
func TestAlarmTopic(t *testing.T) {
	tpl := template(t, "cn-north-1", func(stack awscdk.Stack) {
		topic := ferry.NewAlarmTopic(stack, "Alarms", "ops@example.com")
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{AlarmTopic: topic, MaxLag: 10 * time.Minute})
	})
	subscription := tpl.Only(t, "AWS::SNS::Subscription", "")
	if subscription.Get("Protocol") != "email" || subscription.Get("Endpoint") != "ops@example.com" {
		t.Errorf("got %v", subscription.Properties)
	}
	topic := tpl.Only(t, "AWS::SNS::Topic", "").ID
	policy := tpl.Only(t, "AWS::SNS::TopicPolicy", "").Get("PolicyDocument", "Statement")
	want := map[string]any{
		"Effect": "Allow", "Action": "sns:Publish", "Resource": "${" + topic + "}", "Sid": "1",
		"Principal": map[string]any{"Service": "cloudwatch.amazonaws.com"},
		"Condition": map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": "${AWS::AccountId}"}},
	}
	allowed := 0
	for _, s := range synth.Resolve(policy).([]any) {
		if s.(map[string]any)["Effect"] != "Allow" {
			continue
		}
		if allowed++; !cmp.Equal(s, any(want)) {
			t.Errorf("the topic's policy (-want +got): %s", cmp.Diff(any(want), s))
		}
	}
	if allowed != 1 {
		t.Errorf("%d statements allow something", allowed)
	}
	if lag := tpl.Only(t, "AWS::CloudWatch::Alarm", "SenderLagAlarm"); lag.Get("Threshold") != 600_000.0 || lag.Get("ExtendedStatistic") != "p90" {
		t.Errorf("the lag alarm is %v", lag.Properties)
	}
}

func TestNoDashboard(t *testing.T) {
	for without, want := range map[bool]int{false: 2, true: 0} {
		tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
			ferry.NewSender(stack, "Sender", &ferry.SenderProps{NoDashboard: without})
			ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: ferry.NewMailbox(stack, "Mailbox", nil), NoDashboard: without})
		})
		if n := len(tpl.Resources("AWS::CloudWatch::Dashboard")); n != want {
			t.Errorf("NoDashboard=%v: %d dashboards, want %d", without, n, want)
		}
	}
}

func TestAlarmsTellTheTopic(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		topic := awssns.NewTopic(stack, jsii.String("Topic"), nil)
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{AlarmTopic: topic, OldestMessageAge: 2 * time.Hour})
		mailbox := ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{AlarmTopic: topic, OldestMessageAge: 2 * time.Hour})
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: mailbox, AlarmTopic: topic})
	})
	alarms := tpl.Resources("AWS::CloudWatch::Alarm")
	if len(alarms) != 13 {
		t.Errorf("%d alarms, want 13", len(alarms))
	}
	for _, a := range alarms {
		if len(a.Get("AlarmActions").([]any)) != 1 {
			t.Errorf("%s tells nobody", a.ID)
		}
		if a.Get("MetricName") == "ApproximateAgeOfOldestMessage" && a.Get("Threshold") != 7200.0 {
			t.Errorf("%s rings at %v seconds, want 7200", a.ID, a.Get("Threshold"))
		}
	}
}

func TestGrants(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		operator := awsiam.NewRole(stack, jsii.String("Operator"), &awsiam.RoleProps{AssumedBy: awsiam.NewAccountRootPrincipal()})
		mailbox := ferry.NewMailbox(stack, "Mailbox", nil)
		ferry.NewSender(stack, "Sender", nil).GrantLink(operator)
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: mailbox}).GrantTrust(operator)
		mailbox.GrantReadAPIKey(operator)
	})
	_, operator, _ := strings.Cut(tpl.IAM(), "\nOperator\n")
	operator, _, _ = strings.Cut(operator, "\nReceiverRole")
	want := `  for {"AWS":"arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
  Allow apigateway:GET on arn:${AWS::Partition}:apigateway:us-east-1::/apikeys/${MailboxApiKey}
  Allow s3:GetBucketNotification on ${SenderSourceBucket.Arn}
  Allow secretsmanager:GetSecretValue on ${SenderLinkSecret}
  Allow secretsmanager:PutSecretValue on ${SenderLinkSecret}
  Allow ssm:GetParameter on arn:${AWS::Partition}:ssm:us-east-1:${AWS::AccountId}:parameter/${ReceiverTrust}
  Allow ssm:PutParameter on arn:${AWS::Partition}:ssm:us-east-1:${AWS::AccountId}:parameter/${ReceiverTrust}`
	if diff := cmp.Diff(want, operator); diff != "" {
		t.Error(diff)
	}
}

func TestGrantReadAPIKeyWithIAM(t *testing.T) {
	tpl := template(t, "cn-north-1", func(stack awscdk.Stack) {
		operator := awsiam.NewRole(stack, jsii.String("Operator"), &awsiam.RoleProps{AssumedBy: awsiam.NewAccountRootPrincipal()})
		mailbox := ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{Authorization: ferry.IAM, AccessKeySerial: 3})
		mailbox.GrantReadAPIKey(operator)
		if mailbox.AccessKey() == nil || ferry.NewMailbox(stack, "Other", nil).AccessKey() != nil {
			t.Error("a mailbox has an access key with IAM, and only then")
		}
	})
	want := []string{"Allow secretsmanager:GetSecretValue on ${MailboxSenderAccessKeySecret}"}
	if diff := cmp.Diff(want, statementsOf(tpl, "Operator", "secretsmanager")); diff != "" {
		t.Error(diff)
	}
	if got := tpl.Only(t, "AWS::IAM::AccessKey", "").Get("Serial"); got != 3.0 {
		t.Errorf("the serial is %v, want 3", got)
	}
}

func TestMisuseReportsEveryProblemAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		build func(awscdk.Stack)
		want  []string
	}{
		"sender": {
			func(s awscdk.Stack) {
				ferry.NewSender(s, "S", &ferry.SenderProps{
					SourceEvents: "Pigeons", Prefix: "a*", URLLife: 2 * time.Hour, Concurrency: 1, OldestMessageAge: time.Second,
					MemoryMiB: 64, Subnets: &awsec2.SubnetSelection{}, SecurityGroups: []awsec2.ISecurityGroup{},
				})
			},
			[]string{
				`the props of Sender "S" have 9 problem(s)`,
				"SourceEvents: got Pigeons, expected EventBridge or Notifications",
				"SourceEvents: got Pigeons, expected nothing without a SourceBucket",
				"Prefix: got a*, expected text without * ? $",
				"URLLife: got 2h0m0s, expected 1m to 1h",
				"Concurrency: got 1, expected 2 to 1000 invocations: leave it out for 10",
				"OldestMessageAge: got 1s, expected 1m to 336h0m0s",
				"MemoryMiB: got 64, expected 128 to 10240 MiB",
				"Subnets: got some, expected none without a VPC", "SecurityGroups: got 0, expected none without a VPC",
			},
		},
		"mailbox": {
			func(s awscdk.Stack) {
				ferry.NewMailbox(s, "M", &ferry.MailboxProps{Rate: -1, Burst: 5001, Quota: -7, QuotaPeriod: awsapigateway.Period_WEEK,
					Authorization: "mTLS", AccessKeySerial: 1, AllowedNetworks: []string{"203.0.113.0/24", "10.0.0.0/8", "0.0.0.0/0"}})
			},
			[]string{
				`Authorization: got "mTLS", expected APIKeyOnly or IAM`, "AccessKeySerial: got 1, expected none without IAM",
				"AllowedNetworks: got 10.0.0.0/8, expected public networks", "AllowedNetworks: got 0.0.0.0/0, expected public networks",
				"have 8 problem(s)", "Rate: got -1", "Burst: got 5001", "Quota: got -7",
				"QuotaPeriod: got WEEK, expected a period only beside a Quota: set Quota, or leave out QuotaPeriod",
			},
		},
		"receiver": {
			func(s awscdk.Stack) {
				ferry.NewReceiver(s, "R", &ferry.ReceiverProps{Concurrency: 1001, MemoryMiB: 64, Connections: 5000, PartSizeMiB: 80, SegmentSizeMiB: 63})
			},
			[]string{
				"have 7 problem(s)", "Mailbox: got nil, expected a mailbox: make one with ferry.NewMailbox",
				"Concurrency: got 1001", "MemoryMiB: got 64", "Connections: got 5000", "PartSizeMiB: got 80, expected 5 to 64 MiB",
				"PartSizeMiB: got 80, expected at most a quarter of MemoryMiB, which is 16", "SegmentSizeMiB: got 63",
			},
		},
		"mapping": {
			func(s awscdk.Stack) {
				ferry.NewReceiver(s, "R", &ferry.ReceiverProps{
					Mailbox: ferry.NewMailbox(s, "M", nil), AddPrefix: "{Bucket}/*", StripPrefix: strings.Repeat("x", 513),
					StorageClasses: map[string]string{"STANDARD": "SNOW", "Standard": "STANDARD"},
					SourceNetworks: []string{"10.1.0.0/16", "10.1.2.3/16", "8.8.8.0/24", "127.0.0.0/8", "0.0.0.0/0", "10.0.0.0"},
				})
			},
			[]string{
				"have 10 problem(s)", "AddPrefix: got {Bucket}/*, expected text without * ? $",
				"AddPrefix: got {Bucket}/*, expected no braces but those of {bucket} and {region}",
				"StripPrefix: got 513, expected at most 512 bytes",
				"StorageClasses: got STANDARD: SNOW, expected one of STANDARD, REDUCED_REDUNDANCY",
				"StorageClasses: got Standard, expected storage classes such as STANDARD, or *",
				"SourceNetworks: got 10.1.2.3/16, expected a private network such as 10.1.0.0/16",
				"SourceNetworks: got 8.8.8.0/24", "SourceNetworks: got 127.0.0.0/8", "SourceNetworks: got 0.0.0.0/0", "SourceNetworks: got 10.0.0.0,",
			},
		},
		"added source": {
			func(s awscdk.Stack) {
				ferry.NewSender(s, "S", nil).AddSource("More", ferry.Source{Events: "Pigeons", Prefix: "a?"})
			},
			[]string{
				`the props of Source "More" have 3 problem(s)`, "Events: got Pigeons, expected nothing without a Bucket", "Prefix: got a?",
			},
		},
		"worker": {
			func(s awscdk.Stack) {
				ferry.NewWorker(s, "W", &ferry.WorkerProps{Tasks: -1, Concurrency: 2000, CPU: 1, MemoryMiB: 512})
			},
			[]string{
				"have 7 problem(s)", "Receiver: got nil", "Cluster: got nil", "Image: got nil", "Tasks: got -1",
				"Concurrency: got 2000", "CPU: got 1,", "MemoryMiB: got 512",
			},
		},
		"receiver without props": {func(s awscdk.Stack) { ferry.NewReceiver(s, "R", nil) }, []string{"have 1 problem(s)"}},
	} {
		got := synth.Panic(func() { tc.build(newStack("us-east-1", nil)) })
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the panic does not say %q:\n%s", name, want, got)
			}
		}
	}
}
