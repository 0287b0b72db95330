package ferry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/constructs/ferry"
	"github.com/s3ferry/s3ferry/test/synth"
)

// statementsOf returns what the role may do, of what concerns text.
func statementsOf(tpl synth.Template, role, text string) []string {
	_, rest, _ := strings.Cut("\n"+tpl.IAM(), "\n"+role+"\n")
	var found []string
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "  ") {
			break
		}
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func newReceiver(stack awscdk.Stack, id string, props ferry.ReceiverProps) *ferry.Receiver {
	props.Mailbox = ferry.NewMailbox(stack, id+"Mailbox", nil)
	return ferry.NewReceiver(stack, id, &props)
}

func TestMappingReachesTheReceiver(t *testing.T) {
	tpl := template(t, "cn-north-1", func(stack awscdk.Stack) {
		newReceiver(stack, "Receiver", ferry.ReceiverProps{
			StripPrefix: "outgoing/", AddPrefix: "from/{bucket}/",
			StorageClasses: map[string]string{"EXPRESS_ONEZONE": "STANDARD", "*": "STANDARD_IA"},
			SourceNetworks: []string{"10.1.0.0/16", "fd00:1::/32"},
		})
	})
	got := tpl.Environments()[tpl.Only(t, "AWS::Lambda::Function", "Receiver").ID]
	for name, want := range map[string]string{
		"S3FERRY_STRIP_PREFIX": "outgoing/", "S3FERRY_ADD_PREFIX": "from/{bucket}/",
		"S3FERRY_STORAGE_CLASSES": "*=STANDARD_IA,EXPRESS_ONEZONE=STANDARD", "S3FERRY_SOURCE_NETWORKS": "10.1.0.0/16,fd00:1::/32",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	want := []string{"Allow s3:PutObject on ${ReceiverDestinationBucket.Arn}/from/*", "Allow s3:PutObject on ${ReceiverJournalBucket.Arn}/*"}
	if diff := cmp.Diff(want, statementsOf(tpl, "ReceiverRole", "s3:PutObject on")); diff != "" {
		t.Error(diff)
	}
}

func TestFunctionsInAVPC(t *testing.T) {
	build := func(groups func(awscdk.Stack) []awsec2.ISecurityGroup) synth.Template {
		return template(t, "us-east-1", func(stack awscdk.Stack) {
			vpc := awsec2.NewVpc(stack, jsii.String("VPC"), &awsec2.VpcProps{
				MaxAzs: jsii.Number(1), RestrictDefaultSecurityGroup: jsii.Bool(false),
				SubnetConfiguration: &[]*awsec2.SubnetConfiguration{
					{Name: jsii.String("Line"), SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED},
				},
			})
			line := &awsec2.SubnetSelection{SubnetGroupName: jsii.String("Line")}
			ferry.NewSender(stack, "Sender", &ferry.SenderProps{VPC: vpc, Subnets: line, SecurityGroups: groups(stack)})
			newReceiver(stack, "Receiver", ferry.ReceiverProps{VPC: vpc, Subnets: line, SecurityGroups: groups(stack)})
		})
	}
	own := build(func(awscdk.Stack) []awsec2.ISecurityGroup { return nil })
	given := build(func(stack awscdk.Stack) []awsec2.ISecurityGroup {
		id := fmt.Sprintf("Group%d", len(*stack.Node().Children()))
		return []awsec2.ISecurityGroup{awsec2.SecurityGroup_FromSecurityGroupId(stack, jsii.String(id), jsii.String("sg-1"), nil)}
	})
	if n := len(own.Resources("AWS::EC2::SecurityGroup")); n != 3 {
		t.Errorf("%d security groups, want one a function", n)
	}
	if n := len(given.Resources("AWS::EC2::SecurityGroup")); n != 0 {
		t.Errorf("%d security groups beside those given", n)
	}
	for _, f := range given.Resources("AWS::Lambda::Function") {
		if got := f.Get("VpcConfig", "SecurityGroupIds", 0); got != "sg-1" {
			t.Errorf("%s has security group %v", f.ID, got)
		}
		if got := fmt.Sprint(synth.Resolve(f.Get("VpcConfig", "SubnetIds", 0))); !strings.HasPrefix(got, "${VPCLineSubnet1") {
			t.Errorf("%s is in %s", f.ID, got)
		}
	}
	for _, role := range []string{"SenderSenderRole", "SenderCourierRole", "ReceiverRole"} {
		if got := statementsOf(own, role, "ec2:"); len(got) != 6 || !strings.HasPrefix(got[1], "Allow ec2:CreateNetworkInterface on *") {
			t.Errorf("%s may %v", role, got)
		}
	}
	if got := statementsOf(own, "SenderSignerRole", "ec2:"); got != nil {
		t.Errorf("the signer may %v", got)
	}
}

func TestNewBucketsTakeTheKey(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		key := awskms.NewKey(stack, jsii.String("Key"), nil)
		ferry.NewSender(stack, "Sender", &ferry.SenderProps{EncryptionKey: key})
		newReceiver(stack, "Receiver", ferry.ReceiverProps{EncryptionKey: key})
	})
	buckets := tpl.Resources("AWS::S3::Bucket")
	if len(buckets) != 3 {
		t.Fatalf("%d buckets, want 3", len(buckets))
	}
	for _, b := range buckets {
		rule := synth.Resolve(b.Get("BucketEncryption", "ServerSideEncryptionConfiguration", 0))
		if got := fmt.Sprint(rule); !strings.Contains(got, "BucketKeyEnabled:true") || !strings.Contains(got, "${Key961B73FD.Arn}") {
			t.Errorf("%s is encrypted with %s", b.ID, got)
		}
	}
}

// Several buckets to one mailbox: one sender, whose courier gets all receipts.
func TestSeveralSources(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		sender := ferry.NewSender(stack, "Sender", &ferry.SenderProps{Prefix: "out/"})
		second := sender.AddSource("Photos", ferry.Source{Suffix: ".jpg"})
		if *second.Node().Path() != "Stack/Sender/Photos/SourceBucket" {
			t.Errorf("got %s", *second.Node().Path())
		}
		sender.AddSource("Theirs", ferry.Source{Bucket: importedBucket(stack), Prefix: "theirs/"})
	})
	if n := len(tpl.Resources("AWS::S3::Bucket")); n != 2 {
		t.Errorf("%d buckets, want 2", n)
	}
	rule := tpl.Only(t, "AWS::Events::Rule", "SenderTheirs")
	if got := fmt.Sprint(synth.Resolve(rule.Get("Targets", 0, "Arn"))); got != "${"+outboxID+".Arn}" {
		t.Errorf("events of the imported bucket go to %s", got)
	}
	photos := tpl.Only(t, "AWS::S3::Bucket", "SenderPhotos")
	if got := fmt.Sprint(synth.Resolve(photos.Get("NotificationConfiguration", "QueueConfigurations", 0, "Queue"))); got != "${"+outboxID+".Arn}" {
		t.Errorf("the new bucket notifies %s", got)
	}
	want := []string{
		"${SenderPhotosSourceBucket.Arn}/*", "${SenderSourceBucket.Arn}/out/*", "arn:${AWS::Partition}:s3:::theirs/theirs/*",
	}
	for _, role := range []string{"SenderSenderRole", "SenderSignerRole"} {
		var got []string
		for _, line := range statementsOf(tpl, role, "s3:GetObject on ") {
			line, _, _ = strings.Cut(strings.TrimPrefix(line, "Allow s3:GetObject on "), " if ")
			got = append(got, line)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s reads (-want +got): %s", role, diff)
		}
	}
}

// One bucket to several mailboxes: a sender for each.
func TestSeveralSendersOfOneBucket(t *testing.T) {
	tpl := template(t, "us-east-1", func(stack awscdk.Stack) {
		bucket := importedBucket(stack)
		ferry.NewSender(stack, "North", &ferry.SenderProps{SourceBucket: bucket})
		ferry.NewSender(stack, "West", &ferry.SenderProps{SourceBucket: bucket, Prefix: "west/"})
	})
	for _, id := range []string{"North", "West"} {
		rule := tpl.Only(t, "AWS::Events::Rule", id+"SourceEvents")
		if got := fmt.Sprint(synth.Resolve(rule.Get("Targets", 0, "Arn"))); !strings.HasPrefix(got, "${"+id+"Outbox") {
			t.Errorf("%s: events go to %s", id, got)
		}
	}

	got := synth.Panic(func() {
		stack := newStack("us-east-1", nil)
		first := ferry.NewSender(stack, "First", nil)
		first.AddSource("More", ferry.Source{})
		ferry.NewSender(stack, "Second", &ferry.SenderProps{SourceBucket: first.SourceBucket()})
	})
	if !strings.Contains(got, "SourceBucket: got that of another sender, expected one that tells EventBridge") {
		t.Errorf("got %q", got)
	}
}

// Two of everything in one stack share nothing but what they are given.
func TestTwoOfEachInOneStack(t *testing.T) {
	one := func(stack awscdk.Stack, id string) {
		ferry.NewSender(stack, id+"Sender", nil)
		newReceiver(stack, id+"Receiver", ferry.ReceiverProps{})
	}
	single := template(t, "us-east-1", func(stack awscdk.Stack) { one(stack, "A") })
	double := template(t, "us-east-1", func(stack awscdk.Stack) { one(stack, "A"); one(stack, "B") })
	counts := func(tpl synth.Template) map[string]int {
		found := map[string]int{}
		for _, r := range tpl.Resources("") {
			found[r.Type]++
		}
		return found
	}
	want := counts(single)
	for resource := range want {
		want[resource] *= 2
	}
	if diff := cmp.Diff(want, counts(double)); diff != "" {
		t.Error(diff)
	}
	for _, role := range []string{"ASenderSenderRole", "ASenderSignerRole", "ASenderCourierRole", "AReceiverRole"} {
		if got := statementsOf(double, role, "${B"); got != nil {
			t.Errorf("%s reaches over: %v", role, got)
		}
	}

	got := synth.Panic(func() {
		stack := newStack("us-east-1", nil)
		mailbox := ferry.NewMailbox(stack, "Mailbox", nil)
		ferry.NewReceiver(stack, "First", &ferry.ReceiverProps{Mailbox: mailbox})
		ferry.NewReceiver(stack, "Second", &ferry.ReceiverProps{Mailbox: mailbox})
	})
	if !strings.Contains(got, "Mailbox: got that of First, expected one without a receiver") {
		t.Errorf("got %q", got)
	}
}

func TestSeveralReceiversOfOneBucket(t *testing.T) {
	tpl := template(t, "cn-north-1", func(stack awscdk.Stack) {
		bucket := awss3.NewBucket(stack, jsii.String("Shared"), nil)
		newReceiver(stack, "East", ferry.ReceiverProps{DestinationBucket: bucket, AddPrefix: "east/"})
		newReceiver(stack, "West", ferry.ReceiverProps{DestinationBucket: bucket, AddPrefix: "west/"})
	})
	for id, prefix := range map[string]string{"East": "east", "West": "west"} {
		want := []string{"Allow s3:PutObject on ${Shared.Arn}/" + prefix + "/*"}
		if diff := cmp.Diff(want, statementsOf(tpl, id+"Role", "s3:PutObject on ${Shared")); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
}

func TestMetrics(t *testing.T) {
	synth.Safely(t, func() {
		stack := newStack("us-east-1", nil)
		sender, mailbox := ferry.NewSender(stack, "Sender", nil), ferry.NewMailbox(stack, "Mailbox", nil)
		for name, tc := range map[string]struct {
			metric func(*awscloudwatch.MetricOptions) awscloudwatch.Metric
			want   string
		}{
			"outbox depth":        {sender.MetricOutboxDepth, "ApproximateNumberOfMessagesVisible of " + *sender.Outbox().QueueName()},
			"outbox age":          {sender.MetricOutboxAge, "ApproximateAgeOfOldestMessage of " + *sender.Outbox().QueueName()},
			"outbox dead letters": {sender.MetricOutboxDeadLetters, "ApproximateNumberOfMessagesVisible of " + *sender.OutboxDeadLetterQueue().QueueName()},
			"inbox depth":         {mailbox.MetricInboxDepth, "ApproximateNumberOfMessagesVisible of " + *mailbox.Inbox().QueueName()},
			"inbox age":           {mailbox.MetricInboxAge, "ApproximateAgeOfOldestMessage of " + *mailbox.Inbox().QueueName()},
			"inbox dead letters":  {mailbox.MetricInboxDeadLetters, "ApproximateNumberOfMessagesVisible of " + *mailbox.InboxDeadLetterQueue().QueueName()},
			"receipts depth":      {mailbox.MetricReceiptsDepth, "ApproximateNumberOfMessagesVisible of " + *mailbox.Receipts().QueueName()},
			"requests":            {mailbox.MetricRequests, "Count of " + *mailbox.API().RestApiName()},
			"refused":             {mailbox.MetricRefused, "4XXError of " + *mailbox.API().RestApiName()},
		} {
			m := tc.metric(&awscloudwatch.MetricOptions{Statistic: jsii.String("p99")})
			dimensions := *m.Dimensions()
			of := dimensions["QueueName"]
			if of == nil {
				of = dimensions["ApiName"]
			}
			if got := fmt.Sprintf("%s of %v", *m.MetricName(), of); got != tc.want || *m.Statistic() != "p99" {
				t.Errorf("%s: got %s, statistic %s, want %s", name, got, *m.Statistic(), tc.want)
			}
		}
	})
}
