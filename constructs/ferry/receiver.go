package ferry

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

const receiverTimeout = 15 * time.Minute // the longest that Lambda allows

// trustNobody is what the trust parameter starts with. CloudFormation writes the
// parameter only when this text changes, and would then overwrite the keys that
// operators have put there: never change it.
const trustNobody = `{"keys":[],"sources":[]}`

// ReceiverProps configures a Receiver. Only Mailbox is required.
type ReceiverProps struct {
	// Mailbox is the door that transfers come through and receipts leave by. It
	// has one receiver.
	Mailbox *Mailbox
	// DestinationBucket takes the objects. If it has an EncryptionKey, the
	// receiver may use it. Several receivers may share one. Default: a new
	// bucket, versioned, private, encrypted, and retained when the stack is
	// deleted.
	DestinationBucket awss3.IBucket
	// EncryptionKey encrypts what is made: the objects of new buckets and the logs.
	// If its policy is another app's, synthesis says what has to be in it. The
	// trust parameter holds no secret, and CloudFormation can encrypt none.
	// Default: keys of AWS's.
	EncryptionKey awskms.IKey

	// StripPrefix is taken off the key of every object. A transfer whose key does
	// not begin with it fails: its receipt and its dead letter say so. Default:
	// nothing.
	StripPrefix string
	// AddPrefix is then put before the key, with the source's in place of
	// {bucket} and {region}: sources that have keys in common are told apart so.
	// Nothing outside of it can be written. Default: nothing.
	AddPrefix string
	// StorageClasses gives the storage class of objects by that of their source,
	// as S3's API spells them; "*" is every class not named. Default: the same.
	StorageClasses map[string]string

	// Deletes carries deletions too; a sender has the same switch. Without it the
	// receiver refuses them. Default: objects stay.
	Deletes bool
	// TagChanges carries tags that change after their object was made; a sender has
	// the same switch. Without it the receiver refuses them. Default: an object keeps
	// the tags it came with.
	TagChanges bool
	// UnconditionalWrites is for a partition whose S3 has no conditional writes.
	// Order then holds only as long as no two events of a key are carried at once.
	// Default: every write has a condition.
	UnconditionalWrites bool

	// Concurrency is how many invocations run at once, 2 to 1000. Default: 10.
	Concurrency int
	// MemoryMiB is the memory of an invocation, 512 to 10240 MiB; a quarter of it
	// is for parts of objects. Default: 2048.
	MemoryMiB int
	// Connections is how many ranges an invocation pulls at once at most, 1 to
	// 1024; it begins with few and takes more while that is faster. Default: 256.
	Connections int
	// PartSizeMiB is the size of a part of a multipart upload, 5 to 64 MiB, which
	// many ranges fill. The receiver takes larger ones where an object would have
	// more than 10,000. Default: 8.
	PartSizeMiB int
	// SegmentSizeMiB is the size of the segments, 64 to 1048576 MiB, in which
	// several invocations carry a larger object at once. Default: 1024.
	SegmentSizeMiB int

	// Architecture is the function's. Default: x86_64, which every region has.
	Architecture awslambda.Architecture
	// Code is a bundle with an executable named bootstrap. Default: built from
	// the source of this module.
	Code awslambda.Code
	// LogRetention is how long logs are kept. Default: three months.
	LogRetention awslogs.RetentionDays

	// VPC is the network that the function works in. From it the function has to
	// reach the source's S3, and SQS, S3 and SSM of its own region. Default: no
	// VPC.
	VPC awsec2.IVpc
	// Subnets are those of VPC. Default: CDK's choice, the private ones.
	Subnets *awsec2.SubnetSelection
	// SecurityGroups are the function's. Default: a new one that lets everything
	// out and nothing in.
	SecurityGroups []awsec2.ISecurityGroup
	// SourceNetworks are private networks, such as "10.1.0.0/16", in which the
	// source's S3 may be found: where a leased line ends. A VPC has to resolve the
	// names of S3 to them. Default: a source has public addresses only.
	SourceNetworks []string

	// AlarmTopic is told of every alarm; NewAlarmTopic makes one that sends e-mail.
	// Default: alarms show in the console only.
	AlarmTopic awssns.ITopic
	// NoDashboard leaves out the dashboard of the receiver and its mailbox. Default:
	// there is one, named by CloudFormation.
	NoDashboard bool
}

// Receiver pulls what the transfers in the mailbox's inbox name into the
// destination bucket, and answers each with a receipt. It trusts nobody until an
// operator puts public keys and sources into its trust parameter.
type Receiver struct {
	constructs.Construct

	mailbox     *Mailbox
	destination awss3.IBucket
	journal     awss3.Bucket
	trust       awsssm.StringParameter
	key         awskms.IKey // of what the receiver makes, or nil
	settings    envcfg.Receiver
	role        awsiam.Role
	function    awslambda.Function
}

// NewReceiver makes a Receiver.
func NewReceiver(scope constructs.Construct, id string, props *ReceiverProps) *Receiver {
	p := props.resolve(scope, id)
	r := &Receiver{mailbox: p.Mailbox, destination: p.DestinationBucket}
	constructs.NewConstruct_Override(r, scope, jsii.String(id))

	if r.destination == nil {
		r.destination = newBucket(r, "DestinationBucket", true, p.EncryptionKey, abortUploads(14))
	}
	// Entries of unfinished uploads outlive every transfer: 14 days in the outbox
	// and 14 in the inbox. The newest event of a key outlives older ones even where
	// those have been in both dead-letter queues too, and so does the note that the
	// tags of a version have changed. Records of order stay.
	r.journal = newBucket(r, "JournalBucket", false, p.EncryptionKey, abortUploads(7),
		expire("ExpireUploads", envcfg.JournalUploads, 30), expire("ExpireNewest", envcfg.JournalNewest, 90), expire("ExpireTags", envcfg.JournalTags, 90))
	r.trust = awsssm.NewStringParameter(r, jsii.String("Trust"), &awsssm.StringParameterProps{
		Description: jsii.String("s3ferry: whose transfers the receiver takes (keys, a JWKS) and from which buckets (sources)"),
		StringValue: jsii.String(trustNobody),
		Tier:        awsssm.ParameterTier_STANDARD,
	})
	p.Mailbox.receiver = id
	r.key = p.EncryptionKey
	r.settings = envcfg.Receiver{
		Name: nameOf(r),

		InboxURL:          *p.Mailbox.inbox.QueueUrl(),
		InboxDLQURL:       *p.Mailbox.inboxDLQ.QueueUrl(),
		ReceiptsURL:       *p.Mailbox.receipts.QueueUrl(),
		TrustParameter:    *r.trust.ParameterName(),
		DestinationBucket: *r.destination.BucketName(),
		JournalBucket:     *r.journal.BucketName(),
		Connections:       p.Connections,
		PartSize:          int64(p.PartSizeMiB) << 20,
		SegmentSize:       int64(p.SegmentSizeMiB) << 20,
		MemoryMiB:         int64(p.MemoryMiB) / 4,
		Deletes:           p.Deletes,
		TagChanges:        p.TagChanges,
		Unconditional:     p.UnconditionalWrites,
		InboxReceives:     inboxReceives,
		StripPrefix:       p.StripPrefix,
		AddPrefix:         p.AddPrefix,
		StorageClasses:    p.StorageClasses,
		SourceNetworks:    networks(p.SourceNetworks),
	}
	letLog(r, p.EncryptionKey)
	r.role = newFunctionRole(r, "Role", "s3ferry receiver")
	r.grantPull(r.role)
	r.function = newFunction(r, "Function", functionProps{
		name:         "receiver",
		description:  "s3ferry receiver: pulls objects into the destination bucket",
		role:         r.role,
		timeout:      receiverTimeout,
		memoryMiB:    p.MemoryMiB,
		architecture: p.Architecture,
		code:         p.Code,
		logRetention: p.LogRetention,
		logKey:       p.EncryptionKey,
		network:      p.network(),
		loops:        true, // what cannot be finished in one invocation goes back to the inbox
		environment:  envcfg.Encode(&r.settings),
	})
	consume(r, "Inbox", r.function, p.Mailbox.inbox, p.Concurrency)

	alarms{scope: r, topic: p.AlarmTopic}.function("Function", r.function)
	if !p.NoDashboard {
		r.newDashboard(r)
	}
	return r
}

// DestinationBucket returns the bucket that objects arrive in.
func (r *Receiver) DestinationBucket() awss3.IBucket { return r.destination }

// JournalBucket returns the bucket that holds the state of unfinished transfers.
func (r *Receiver) JournalBucket() awss3.IBucket { return r.journal }

// TrustParameter returns the parameter with the public keys of senders and the
// buckets they may name.
func (r *Receiver) TrustParameter() awsssm.IStringParameter { return r.trust }

// Function returns the receiver function.
func (r *Receiver) Function() awslambda.IFunction { return r.function }

// GrantTrust lets grantee read and write the trust parameter, and so say whose
// transfers are taken.
func (r *Receiver) GrantTrust(grantee awsiam.IGrantable) awsiam.Grant {
	return awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      grantee,
		Actions:      jsii.Strings("ssm:GetParameter", "ssm:PutParameter"),
		ResourceArns: &[]*string{r.trust.ParameterArn()},
	})
}

// grantPull lets role do what carrying transfers takes.
func (r *Receiver) grantPull(role awsiam.Role) {
	m := r.mailbox
	allow(role, m.inbox.QueueArn(), slices.Concat(consumeActions, []string{"sqs:SendMessage"})...)
	allow(role, m.inboxDLQ.QueueArn(), "sqs:SendMessage")
	grantQueueKeys(role, m.inbox, m.inboxDLQ, m.receipts)
	allow(role, m.receipts.QueueArn(), "sqs:SendMessage")
	allow(role, r.trust.ParameterArn(), "ssm:GetParameter")
	// With s3:ListBucket a missing key is a 404, without it a 403.
	allow(role, r.destination.BucketArn(), "s3:ListBucket", "s3:ListBucketMultipartUploads")
	within, _, _ := strings.Cut(r.settings.AddPrefix, "{")
	actions := []string{"s3:GetObject", "s3:PutObject", "s3:PutObjectTagging", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
	if r.settings.Deletes {
		actions = append(actions, "s3:DeleteObject")
	}
	if r.settings.TagChanges {
		actions = append(actions, "s3:PutObjectVersionTagging")
	}
	allow(role, r.destination.ArnForObjects(jsii.String(within+"*")), actions...)
	grantKey(r.destination, role, "kms:GenerateDataKey", "kms:Decrypt")
	grantKey(r.journal, role, "kms:GenerateDataKey", "kms:Decrypt")
	allow(role, r.journal.BucketArn(), "s3:ListBucket")
	allow(role, r.journal.ArnForObjects(jsii.String("*")), "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
}

func (props *ReceiverProps) network() network {
	return network{vpc: props.VPC, subnets: props.Subnets, groups: props.SecurityGroups}
}

func (props *ReceiverProps) resolve(scope constructs.Construct, id string) ReceiverProps {
	var p ReceiverProps
	if props != nil {
		p = *props
	}
	memory, part := or(p.MemoryMiB, 2048), or(p.PartSizeMiB, 8)
	var bad problems
	bad.check(p.Mailbox != nil, "Mailbox", "nil", "a mailbox", "make one with ferry.NewMailbox in the same stack")
	if p.Mailbox != nil {
		bad.check(p.Mailbox.receiver == "", "Mailbox", "that of "+p.Mailbox.receiver, "one without a receiver",
			"make another: two receivers would take each other's transfers")
	}
	if p.DestinationBucket != nil {
		bad.checkRegion(scope, "DestinationBucket", p.DestinationBucket)
	}
	bad.checkMapping(p)
	bad.checkNetwork(p.network())
	bad.checkConcurrency(p.Concurrency)
	bad.check(p.Connections >= 0 && p.Connections <= 1024, "Connections", p.Connections, "1 to 1024 connections", "leave it out for 256")
	bad.check(memory >= 512 && memory <= 10_240, "MemoryMiB", memory, "512 to 10240 MiB", "leave it out for 2048")
	bad.check(part >= 5 && part <= 64, "PartSizeMiB", part, "5 to 64 MiB", "leave it out for 8")
	bad.check(part <= memory/4, "PartSizeMiB", part,
		fmt.Sprintf("at most a quarter of MemoryMiB, which is %d", memory/4), "raise MemoryMiB or lower PartSizeMiB")
	segment := or(p.SegmentSizeMiB, 1024)
	bad.check(segment >= 64 && segment <= 1<<20, "SegmentSizeMiB", segment, "64 to 1048576 MiB", "leave it out for 1024")
	bad.report("Receiver", id)

	p.Concurrency = or(p.Concurrency, 10)
	p.Connections = or(p.Connections, envcfg.DefaultConnections)
	p.MemoryMiB = memory
	p.PartSizeMiB = part
	p.SegmentSizeMiB = segment
	return p
}
