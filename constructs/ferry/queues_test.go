package ferry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/constructs/ferry"
	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/test/synth"
)

const givenKey = "arn:aws:kms:us-east-1:111122223333:key/queues"

// givenQueue is an encrypted queue of another stack.
func givenQueue(stack awscdk.Stack, name string) awssqs.IQueue {
	return awssqs.Queue_FromQueueAttributes(stack, jsii.String(name), &awssqs.QueueAttributes{
		QueueArn: jsii.String("arn:aws:sqs:us-east-1:111122223333:" + name),
		KeyArn:   jsii.String(givenKey),
	})
}

// Given queues take the place of new ones in everything: what the functions read
// and write, what they may do, and what rings.
func TestGivenQueues(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		sender := ferry.NewSender(stack, "Sender", &ferry.SenderProps{
			SourceBucket: importedBucket(stack), Outbox: givenQueue(stack, "events"), DeadLetterQueue: givenQueue(stack, "sender-dead"),
		})
		mailbox := ferry.NewMailbox(stack, "Mailbox", &ferry.MailboxProps{DeadLetterQueue: givenQueue(stack, "inbox-dead")})
		ferry.NewReceiver(stack, "Receiver", &ferry.ReceiverProps{Mailbox: mailbox})
		sender.AddOutputs()
		for got, want := range map[awssqs.IQueue]string{
			sender.Outbox(): "events", sender.OutboxDeadLetterQueue(): "sender-dead", mailbox.InboxDeadLetterQueue(): "inbox-dead",
		} {
			if *got.QueueName() != want {
				t.Errorf("got queue %s, want %s", *got.QueueName(), want)
			}
		}
	})
	var made []string
	for _, q := range tpl.Resources("AWS::SQS::Queue") {
		made = append(made, q.ID[:len(q.ID)-8])
	}
	if diff := cmp.Diff([]string{"MailboxInbox", "MailboxReceipts"}, made); diff != "" {
		t.Errorf("queues made: %s", diff)
	}
	// The bucket tells the queue already.
	if rules := tpl.Resources("AWS::Events::Rule"); len(rules) != 1 || len(tpl.Resources("Custom::S3BucketNotifications")) != 0 {
		t.Errorf("%d rules, want the courier's only, and no notification", len(rules))
	}
	if got := tpl.Only(t, "AWS::Lambda::EventSourceMapping", "SenderSenderOutbox").Get("EventSourceArn"); got != "arn:aws:sqs:us-east-1:111122223333:events" {
		t.Errorf("the sender reads %v", got)
	}
	var sender envcfg.Sender
	var courier envcfg.Courier
	var receiver envcfg.Receiver
	for prefix, cfg := range map[string]any{"SenderSenderFunction": &sender, "SenderCourierFunction": &courier, "ReceiverFunction": &receiver} {
		block := tpl.Environments()[tpl.Only(t, "AWS::Lambda::Function", prefix).ID]
		if err := envcfg.Decode(cfg, func(name string) (string, bool) { v, ok := block[name]; return v, ok }); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
	}
	for url, want := range map[string]string{
		sender.OutboxURL: "/111122223333/events", courier.OutboxURL: "/111122223333/events",
		sender.OutboxDLQURL: "/111122223333/sender-dead", courier.OutboxDLQURL: "/111122223333/sender-dead",
		receiver.InboxDLQURL: "/111122223333/inbox-dead",
	} {
		if !strings.HasSuffix(url, want) {
			t.Errorf("a function uses %s, want %s", url, want)
		}
	}
	for role, want := range map[string][]string{
		"SenderSenderRole":  {"sqs:ReceiveMessage on arn:aws:sqs:us-east-1:111122223333:events", "sqs:SendMessage on arn:aws:sqs:us-east-1:111122223333:sender-dead", "kms:Decrypt on " + givenKey},
		"SenderCourierRole": {"sqs:SendMessage on arn:aws:sqs:us-east-1:111122223333:events", "sqs:SendMessage on arn:aws:sqs:us-east-1:111122223333:sender-dead", "kms:GenerateDataKey on " + givenKey},
		"ReceiverRole":      {"sqs:SendMessage on arn:aws:sqs:us-east-1:111122223333:inbox-dead", "kms:GenerateDataKey on " + givenKey},
	} {
		for _, statement := range want {
			if got := statementsOf(tpl, role, statement); len(got) == 0 {
				t.Errorf("%s may not %s", role, statement)
			}
		}
	}
	for id, want := range map[string]string{"SenderOutboxDeadLettersAlarm": "sender-dead", "SenderOutboxAgeAlarm": "events", "MailboxInboxDeadLettersAlarm": "inbox-dead"} {
		if got := tpl.Only(t, "AWS::CloudWatch::Alarm", id).Get("Dimensions", 0, "Value"); got != want {
			t.Errorf("%s watches %v, want %s", id, got, want)
		}
	}
	redrive := tpl.Only(t, "AWS::SQS::Queue", "MailboxInbox").Get("RedrivePolicy", "deadLetterTargetArn")
	if redrive != "arn:aws:sqs:us-east-1:111122223333:inbox-dead" {
		t.Errorf("the inbox gives up to %v", redrive)
	}
	outputs, _ := tpl["Outputs"].(map[string]any)
	if got := synth.Resolve(outputs["SourceEvents"]); cmp.Diff(map[string]any{"Value": "Outbox", "Description": "How the source bucket tells of new objects"}, got) != "" {
		t.Errorf("the outputs say %v", got)
	}
}

func bucketIn(stack awscdk.Stack, region string) awss3.IBucket {
	return awss3.Bucket_FromBucketAttributes(stack, jsii.String("In"+region), &awss3.BucketAttributes{
		BucketName: jsii.String("theirs"), Region: jsii.String(region),
	})
}

func TestResourcesThatCannotServe(t *testing.T) {
	queue := func(stack awscdk.Stack, region, name string) awssqs.IQueue {
		return awssqs.Queue_FromQueueArn(stack, jsii.String(fmt.Sprintf("Q%d", len(*stack.Node().Children()))), jsii.String("arn:aws:sqs:"+region+":111122223333:"+name))
	}
	for name, tc := range map[string]struct {
		build func(awscdk.Stack)
		want  []string
	}{
		"buckets elsewhere": {
			func(stack awscdk.Stack) {
				ferry.NewSender(stack, "S", &ferry.SenderProps{SourceBucket: bucketIn(stack, "eu-west-1")})
			},
			[]string{"SourceBucket: got one in eu-west-1, expected one in us-east-1, where the stack is"},
		},
		"a further source elsewhere": {
			func(stack awscdk.Stack) {
				ferry.NewSender(stack, "S", nil).AddSource("More", ferry.Source{Bucket: bucketIn(stack, "eu-west-1")})
			},
			[]string{"Bucket: got one in eu-west-1, expected one in us-east-1"},
		},
		"a destination elsewhere": {
			func(stack awscdk.Stack) {
				newReceiver(stack, "R", ferry.ReceiverProps{DestinationBucket: bucketIn(stack, "cn-north-1")})
			},
			[]string{"DestinationBucket: got one in cn-north-1, expected one in us-east-1"},
		},
		"queues elsewhere, in order, and without a bucket": {
			func(stack awscdk.Stack) {
				ferry.NewSender(stack, "S", &ferry.SenderProps{
					Outbox: queue(stack, "eu-west-1", "a"), DeadLetterQueue: queue(stack, "us-east-1", "b.fifo"),
				})
			},
			[]string{"Outbox: got a queue, expected one beside a SourceBucket", "Outbox: got one in eu-west-1", "DeadLetterQueue: got a FIFO queue, expected a standard queue"},
		},
		"one queue for both": {
			func(stack awscdk.Stack) {
				q := queue(stack, "us-east-1", "a")
				ferry.NewSender(stack, "S", &ferry.SenderProps{SourceBucket: importedBucket(stack), SourceEvents: ferry.EventBridge, Outbox: q, DeadLetterQueue: q})
			},
			[]string{"DeadLetterQueue: got the Outbox, expected another queue", "SourceEvents: got EventBridge, expected nothing beside an Outbox"},
		},
		"a new bucket beside a given outbox": {
			func(stack awscdk.Stack) {
				ferry.NewSender(stack, "S", &ferry.SenderProps{SourceBucket: importedBucket(stack), Outbox: queue(stack, "us-east-1", "a")}).AddSource("More", ferry.Source{})
			},
			[]string{"beside the Outbox of the sender"},
		},
		"a mailbox's": {
			func(stack awscdk.Stack) {
				ferry.NewMailbox(stack, "M", &ferry.MailboxProps{DeadLetterQueue: queue(stack, "us-east-1", "b.fifo")})
			},
			[]string{"DeadLetterQueue: got a FIFO queue"},
		},
		"notifications that overlap": {
			func(stack awscdk.Stack) {
				bucket := importedBucket(stack)
				ferry.NewSender(stack, "One", &ferry.SenderProps{SourceBucket: bucket, SourceEvents: ferry.Notifications, Prefix: "a/"})
				ferry.NewSender(stack, "Two", &ferry.SenderProps{SourceBucket: bucket, SourceEvents: ferry.Notifications, Prefix: "a/b/", Suffix: ".csv"})
			},
			[]string{"SourceEvents: got Notifications, expected other keys than Stack/One is notified of by this bucket"},
		},
		"notifications of one sender that overlap": {
			func(stack awscdk.Stack) {
				bucket := importedBucket(stack)
				ferry.NewSender(stack, "One", &ferry.SenderProps{SourceBucket: bucket, SourceEvents: ferry.Notifications, Suffix: ".csv"}).
					AddSource("More", ferry.Source{Bucket: bucket, Events: ferry.Notifications, Suffix: "v"})
			},
			[]string{"Events: got Notifications, expected other keys than Stack/One is notified of by this bucket"},
		},
	} {
		got := synth.Panic(func() { tc.build(newStack("us-east-1", nil)) })
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: got %q, want %q in it", name, got, want)
			}
		}
		if n := strings.Count(got, ": got "); n != len(tc.want) {
			t.Errorf("%s: got %d problems, want %d: %s", name, n, len(tc.want), got)
		}
	}
}

// Prefixes and suffixes of which none is part of another share a bucket.
func TestNotificationsThatDoNotOverlap(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		bucket := importedBucket(stack)
		ferry.NewSender(stack, "One", &ferry.SenderProps{SourceBucket: bucket, SourceEvents: ferry.Notifications, Prefix: "a/"})
		ferry.NewSender(stack, "Two", &ferry.SenderProps{SourceBucket: bucket, SourceEvents: ferry.Notifications, Prefix: "b/"}).
			AddSource("More", ferry.Source{Bucket: bucket, Events: ferry.Notifications, Prefix: "c/"})
	})
	custom := tpl.Only(t, "Custom::S3BucketNotifications", "")
	if got, _ := custom.Get("NotificationConfiguration", "QueueConfigurations").([]any); len(got) != 3 {
		t.Errorf("got %d notifications, want 3", len(got))
	}
}
