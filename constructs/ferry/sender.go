package ferry

import (
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3notifications"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

const senderTimeout = time.Minute

// signatureSlack is how much older than a URL's life a signature may be, for
// clocks that disagree.
const signatureSlack = 5 * time.Minute

// maxURLLife is the longest that credentials from one role for another last.
const maxURLLife = time.Hour

// Events is how a given source bucket tells the outbox of new objects.
type Events string

const (
	// EventBridge leaves the bucket alone: a rule picks its events from the
	// account's event bus. The bucket must send them there, which is one switch
	// of the bucket and no harm to its other notifications.
	EventBridge Events = "EventBridge"
	// Notifications adds a notification to the bucket, through a function that
	// CDK adds to the stack and that keeps the bucket's other notifications.
	Notifications Events = "Notifications"
)

// paceUnknown is what the pace parameter starts with. CloudFormation writes the
// parameter only when this text changes: never change it.
const paceUnknown = "{}"

// SenderProps configures a Sender. The zero value is ready to use.
type SenderProps struct {
	// SourceBucket is the bucket to carry from. If it has an EncryptionKey, the
	// sender and the signer may decrypt with it. Default: a new bucket,
	// versioned, private, encrypted, and retained when the stack is deleted.
	//
	// Several senders may carry from one bucket, each to a mailbox of its own: by
	// EventBridge, since S3 notifies only one queue of a key. Sender.AddSource
	// carries from several buckets to one mailbox.
	SourceBucket awss3.IBucket
	// SourceEvents is how SourceBucket tells of new objects; a new bucket always
	// notifies the outbox itself. Default: EventBridge.
	SourceEvents Events
	// Prefix and Suffix choose the keys to carry. Nothing outside Prefix can be
	// read or signed for. Default: all keys.
	Prefix string
	Suffix string
	// EncryptionKey encrypts what is made: the objects of new buckets, the queues,
	// the link secret and the logs. If its policy is another app's, synthesis says
	// what has to be in it. Default: keys of AWS's.
	EncryptionKey awskms.IKey

	// Outbox is a standard queue that is told of SourceBucket's new objects
	// already, by S3 or EventBridge and in their own words: for a bucket whose
	// notifications have no room for another queue. The sender takes every message
	// from it, and makes neither a notification nor a rule. Its visibility timeout
	// has to be 6 minutes at least, and its retention, redrive policy and alarms
	// are yours. Default: a new queue.
	Outbox awssqs.IQueue
	// DeadLetterQueue is a standard queue that takes what is given up, from this
	// sender only: s3ferry redrive puts what is in it into the outbox. The policy of
	// an imported one has to let EventBridge send to it. Default: a new queue.
	DeadLetterQueue awssqs.IQueue
	// Deletes carries deletions too, also those by lifecycle rules; the receiver has
	// the same switch. A given Outbox has to be told of them. Default: objects stay
	// at the destination.
	Deletes bool
	// TagChanges carries tags that change after their object was made; the receiver
	// has the same switch. A given Outbox has to be told of them. Default: an object
	// keeps the tags it came with.
	TagChanges bool
	// MaxRounds is how often a transfer is sent again, because its URL died first or
	// the receiver gave it back, 1 to 10000. Then it is a dead letter. Default: 400,
	// an hour each for as long as queues keep messages.
	MaxRounds int
	// URLLife is how long a signed URL should work, a minute to an hour. It ends
	// earlier when the credentials it is signed with do. Default: an hour.
	URLLife time.Duration

	// Concurrency is how many invocations of the sender run at once, 2 to 1000.
	// Default: 10.
	Concurrency int
	// MemoryMiB is the memory of an invocation of the sender, 128 to 10240 MiB.
	// Default: 512.
	MemoryMiB int
	// Architecture is the functions'. Default: x86_64, which every region has.
	Architecture awslambda.Architecture
	// SenderCode and CourierCode are bundles with an executable named bootstrap.
	// Default: built from the source of this module.
	SenderCode  awslambda.Code
	CourierCode awslambda.Code
	// LogRetention is how long logs are kept. Default: three months.
	LogRetention awslogs.RetentionDays

	// VPC is the network that the functions work in. From it they have to reach
	// the mailbox, SQS, S3, STS, SSM and Secrets Manager. Default: no VPC.
	VPC awsec2.IVpc
	// Subnets are those of VPC. Default: CDK's choice, the private ones.
	Subnets *awsec2.SubnetSelection
	// SecurityGroups are the functions'. Default: for each a new one that lets
	// everything out and nothing in.
	SecurityGroups []awsec2.ISecurityGroup

	// OldestMessageAge is the age at which a waiting event raises an alarm. At
	// least a minute. Default: an hour.
	OldestMessageAge time.Duration
	// MaxLag is the time from event to copy that raises an alarm when one object in
	// ten takes as long. At least a minute. Default: an hour.
	MaxLag time.Duration
	// AlarmTopic is told of every alarm; NewAlarmTopic makes one that sends e-mail.
	// Default: alarms show in the console only.
	AlarmTopic awssns.ITopic
	// NoDashboard leaves out the dashboard. Default: there is one, named by
	// CloudFormation.
	NoDashboard bool
}

// Sender turns events of the source bucket into signed transfers and posts them
// to a mailbox; its courier fetches the receipts. Which mailbox, and with which
// keys, is in the link secret, which is empty at first: until it is filled,
// events wait in the outbox.
type Sender struct {
	constructs.Construct

	source     awss3.IBucket
	events     Events // of source
	outbox     awssqs.IQueue
	outboxDLQ  awssqs.IQueue
	secret     awssecretsmanager.ISecret
	role       awsiam.Role
	signerRole awsiam.Role
	key        awskms.IKey // of what the sender makes, or nil
	urlLife    time.Duration
	deletes    bool
	tagChanges bool
	notified   []Source // whose buckets got a notification
	pace       awsssm.StringParameter
	function   awslambda.Function
	courier    awslambda.Function
}

// NewSender makes a Sender. Nil props mean the defaults.
func NewSender(scope constructs.Construct, id string, props *SenderProps) *Sender {
	p := props.resolve(scope, id)
	s := &Sender{urlLife: p.URLLife, key: p.EncryptionKey, deletes: p.Deletes, tagChanges: p.TagChanges}
	constructs.NewConstruct_Override(s, scope, jsii.String(id))

	if s.outboxDLQ = p.DeadLetterQueue; s.outboxDLQ == nil {
		s.outboxDLQ = newQueue(s, "OutboxDeadLetters", time.Minute, p.EncryptionKey, nil, 0)
	}
	if s.outbox = p.Outbox; s.outbox == nil {
		s.outbox = newQueue(s, "Outbox", visibilityOf(senderTimeout), p.EncryptionKey, s.outboxDLQ, outboxReceives)
	}
	source := p.source()
	letLog(s, s.key)
	s.source, s.events = s.newSource(s, source), source.events()
	s.secret = s.newLinkSecret()
	s.role = newFunctionRole(s, "SenderRole", "s3ferry sender")
	s.signerRole = s.newSignerRole()
	s.pace = awsssm.NewStringParameter(s, jsii.String("Pace"), &awsssm.StringParameterProps{
		Description: jsii.String("s3ferry: how fast the receiver is, as the courier sees it"),
		StringValue: jsii.String(paceUnknown),
		Tier:        awsssm.ParameterTier_STANDARD,
	})
	s.grantSender()
	s.grantRead(s.source, source.Prefix)
	s.function = newFunction(s, "SenderFunction", functionProps{
		name:         "sender",
		description:  "s3ferry sender: signs URLs of new objects and posts them to the mailbox",
		role:         s.role,
		timeout:      senderTimeout,
		memoryMiB:    p.MemoryMiB,
		architecture: p.Architecture,
		code:         p.SenderCode,
		logRetention: p.LogRetention,
		logKey:       s.key,
		network:      p.network(),
		environment: envcfg.Encode(&envcfg.Sender{
			Name: nameOf(s),

			OutboxURL:    *s.outbox.QueueUrl(),
			OutboxDLQURL: *s.outboxDLQ.QueueUrl(),
			LinkSecret:   *s.secret.SecretArn(),
			SignerRole:   *s.signerRole.RoleArn(),
			URLLife:      p.URLLife,

			Concurrency:   p.Concurrency,
			PaceParameter: *s.pace.ParameterName(),
			Deletes:       p.Deletes,
			TagChanges:    p.TagChanges,
		}),
	})
	consume(s, "SenderOutbox", s.function, s.outbox, p.Concurrency)
	s.courier = s.newCourier(p)

	a := alarms{scope: s, topic: p.AlarmTopic}
	a.deadLetters("OutboxDeadLettersAlarm", s.outboxDLQ)
	a.age("OutboxAgeAlarm", s.outbox, p.OldestMessageAge)
	a.function("Sender", s.function)
	a.function("Courier", s.courier)
	a.lag("LagAlarm", measured(nameOf(s)), p.MaxLag)
	a.givenUp("GivenUpAlarm", measured(nameOf(s)))
	if !p.NoDashboard {
		s.newDashboard(s)
	}
	return s
}

// SourceBucket returns the bucket that objects are carried from.
func (s *Sender) SourceBucket() awss3.IBucket { return s.source }

// Outbox returns the queue of events to send.
func (s *Sender) Outbox() awssqs.IQueue { return s.outbox }

// OutboxDeadLetterQueue returns the queue of events given up.
func (s *Sender) OutboxDeadLetterQueue() awssqs.IQueue { return s.outboxDLQ }

// LinkSecret returns the secret with the mailbox's address, its API key and the
// signing key. It has no value until an operator gives it one, and goes with
// the stack: linking again makes another.
func (s *Sender) LinkSecret() awssecretsmanager.ISecret { return s.secret }

// SignerRole returns the role whose credentials sign URLs. Only the sender
// function may assume it.
func (s *Sender) SignerRole() awsiam.IRole { return s.signerRole }

// SenderFunction returns the function that sends.
func (s *Sender) SenderFunction() awslambda.IFunction { return s.function }

// CourierFunction returns the function that fetches receipts.
func (s *Sender) CourierFunction() awslambda.IFunction { return s.courier }

// GrantLink lets grantee read and write the link secret, and read whom the
// source bucket notifies, and so link the sender to a mailbox.
func (s *Sender) GrantLink(grantee awsiam.IGrantable) awsiam.Grant {
	grant := awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      grantee,
		Actions:      jsii.Strings("secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
		ResourceArns: &[]*string{s.secret.SecretArn()},
	}).Combine(awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      grantee,
		Actions:      jsii.Strings("s3:GetBucketNotification"),
		ResourceArns: &[]*string{s.source.BucketArn()},
	}))
	if s.key == nil {
		return grant
	}
	return grant.Combine(s.key.Grant(grantee, jsii.String("kms:Decrypt"), jsii.String("kms:GenerateDataKey")))
}

// newSource returns the source's bucket, whose new objects become messages of
// the outbox. What has to be made for that is made in scope.
func (s *Sender) newSource(scope constructs.Construct, source Source) awss3.IBucket {
	switch {
	case source.events() == toldAlready:
	case source.Bucket == nil:
		return s.newNotifyingBucket(scope, source)
	case source.events() == Notifications:
		var filters []*awss3.NotificationKeyFilter
		if source.Prefix != "" || source.Suffix != "" {
			filters = append(filters, &awss3.NotificationKeyFilter{Prefix: jsii.String(source.Prefix), Suffix: jsii.String(source.Suffix)})
		}
		s.notified = append(s.notified, source)
		letSend(scope, s.outbox, "s3.amazonaws.com")
		for _, event := range s.eventTypes() {
			source.Bucket.AddEventNotification(event, awss3notifications.NewSqsDestination(s.outbox), filters...)
		}
	default:
		s.addEventRule(scope, source)
	}
	return source.Bucket
}

// eventTypes are the notifications that the outbox is to get.
func (s *Sender) eventTypes() []awss3.EventType {
	types := []awss3.EventType{awss3.EventType_OBJECT_CREATED}
	if s.deletes {
		types = append(types, awss3.EventType_OBJECT_REMOVED, awss3.EventType_LIFECYCLE_EXPIRATION)
	}
	if s.tagChanges {
		types = append(types, awss3.EventType_OBJECT_TAGGING)
	}
	return types
}

// newNotifyingBucket makes a bucket that notifies the outbox itself. The L2
// would add a function to the stack for that.
func (s *Sender) newNotifyingBucket(scope constructs.Construct, source Source) awss3.IBucket {
	// S3 tries the queue when the bucket is made, so the queue's policy comes
	// first and cannot name the bucket: it names whose bucket it has to be.
	s.outbox.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("s3.amazonaws.com"), nil)},
		Actions:    jsii.Strings("sqs:SendMessage"),
		Resources:  &[]*string{s.outbox.QueueArn()},
		Conditions: &map[string]any{
			"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()},
			"ArnLike":      map[string]any{"aws:SourceArn": "arn:" + *awscdk.Aws_PARTITION() + ":s3:::*"},
		},
	}))
	letSend(scope, s.outbox, "s3.amazonaws.com")
	bucket := newBucket(scope, "SourceBucket", true, s.key, abortUploads(14))
	bucket.Node().AddDependency(s.outbox.Node().FindChild(jsii.String("Policy")))

	names := []string{"s3:ObjectCreated:*"}
	if s.deletes {
		names = append(names, "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*")
	}
	if s.tagChanges {
		names = append(names, "s3:ObjectTagging:*")
	}
	var rules []any
	if source.Prefix != "" {
		rules = append(rules, map[string]any{"Name": "prefix", "Value": source.Prefix})
	}
	if source.Suffix != "" {
		rules = append(rules, map[string]any{"Name": "suffix", "Value": source.Suffix})
	}
	var notifications []any
	for _, name := range names {
		notification := map[string]any{"Event": name, "Queue": s.outbox.QueueArn()}
		if len(rules) > 0 {
			notification["Filter"] = map[string]any{"S3Key": map[string]any{"Rules": rules}}
		}
		notifications = append(notifications, notification)
	}
	l1 := bucket.Node().DefaultChild().(awss3.CfnBucket) //nolint:errcheck,forcetypeassert // an L2 bucket's default child is the L1
	l1.AddPropertyOverride(jsii.String("NotificationConfiguration.QueueConfigurations"), notifications)
	return bucket
}

// addEventRule sends the events that the source bucket puts on the event bus to
// the outbox.
func (s *Sender) addEventRule(scope constructs.Construct, source Source) {
	detail := map[string]any{"bucket": map[string]any{"name": []any{source.Bucket.BucketName()}}}
	switch {
	case source.Prefix != "" && source.Suffix != "":
		// Two patterns in one list are alternatives, and a wildcard is both at once.
		detail["object"] = map[string]any{"key": []any{map[string]any{"wildcard": literal(source.Prefix) + "*" + literal(source.Suffix)}}}
	case source.Prefix != "":
		detail["object"] = map[string]any{"key": []any{map[string]any{"prefix": source.Prefix}}}
	case source.Suffix != "":
		detail["object"] = map[string]any{"key": []any{map[string]any{"suffix": source.Suffix}}}
	}
	types := []string{"Object Created"}
	if s.deletes {
		types = append(types, "Object Deleted")
	}
	if s.tagChanges {
		types = append(types, "Object Tags Added", "Object Tags Deleted")
	}
	letSend(scope, s.outbox, "events.amazonaws.com")
	awsevents.NewRule(scope, jsii.String("SourceEvents"), &awsevents.RuleProps{
		Description: jsii.String("s3ferry: new objects of the source bucket to the outbox"),
		EventPattern: &awsevents.EventPattern{
			Source:     jsii.Strings("aws.s3"),
			DetailType: jsii.Strings(types...),
			Detail:     &detail,
		},
		Targets: &[]awsevents.IRuleTarget{awseventstargets.NewSqsQueue(s.outbox, &awseventstargets.SqsQueueProps{
			DeadLetterQueue: s.outboxDLQ,
		})},
	})
}

// literal escapes what a wildcard pattern of EventBridge reads as more than
// itself.
func literal(text string) string { return strings.NewReplacer(`\`, `\\`, `*`, `\*`).Replace(text) }

// newLinkSecret makes a secret without a value, so that no deployment touches
// the one that an operator puts there.
func (s *Sender) newLinkSecret() awssecretsmanager.ISecret {
	props := &awssecretsmanager.CfnSecretProps{
		Description: jsii.String("s3ferry: address and API key of the mailbox, key that signs transfers"),
	}
	if s.key != nil {
		props.KmsKeyId = s.key.KeyArn()
	}
	secret := awssecretsmanager.NewCfnSecret(s, jsii.String("LinkSecret"), props)
	// It costs something every month and is made anew by linking again, so it goes
	// with its stack. Only an update must not take it away.
	options := secret.CfnOptions()
	options.SetDeletionPolicy(awscdk.CfnDeletionPolicy_DELETE)
	options.SetUpdateReplacePolicy(awscdk.CfnDeletionPolicy_RETAIN)
	return awssecretsmanager.Secret_FromSecretCompleteArn(s, jsii.String("LinkSecretRef"), secret.Ref())
}

func (s *Sender) newSignerRole() awsiam.Role {
	return awsiam.NewRole(s, jsii.String("SignerRole"), &awsiam.RoleProps{
		AssumedBy:          awsiam.NewArnPrincipal(s.role.RoleArn()),
		Description:        jsii.String("s3ferry signer: what a signed URL may read"),
		MaxSessionDuration: duration(maxURLLife),
	})
}

func (s *Sender) grantSender() {
	allow(s.role, s.outbox.QueueArn(), consumeActions...)
	allow(s.role, s.outboxDLQ.QueueArn(), "sqs:SendMessage")
	grantQueueKeys(s.role, s.outbox, s.outboxDLQ)
	s.grantReadLink(s.role)
	allow(s.role, s.signerRole.RoleArn(), "sts:AssumeRole")
	allow(s.role, s.pace.ParameterArn(), "ssm:GetParameter")
}

// grantReadLink lets role read the link secret.
func (s *Sender) grantReadLink(role awsiam.Role) {
	allow(role, s.secret.SecretArn(), "secretsmanager:GetSecretValue")
	if s.key != nil {
		s.key.Grant(role, jsii.String("kms:Decrypt"))
	}
}

// grantRead lets the sender look at the bucket's objects below prefix, and the
// signer read them.
func (s *Sender) grantRead(bucket awss3.IBucket, prefix string) {
	objects := bucket.ArnForObjects(jsii.String(prefix + "*"))
	young := map[string]any{"NumericLessThan": map[string]any{"s3:signatureAge": (s.urlLife + signatureSlack).Milliseconds()}}
	signed := []string{"s3:GetObject", "s3:GetObjectVersion"}
	if s.tagChanges {
		signed = append(signed, "s3:GetObjectTagging", "s3:GetObjectVersionTagging")
	}
	allowIf(s.signerRole, young, objects, signed...)
	allow(s.role, objects, "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging", "s3:GetObjectVersionTagging")
	// With s3:ListBucket a missing key is a 404, without it a 403. The question
	// behind a 404 names no prefix, hence IfExists.
	var within map[string]any
	if prefix != "" {
		within = map[string]any{"StringLikeIfExists": map[string]any{"s3:prefix": prefix + "*"}}
	}
	for _, role := range []awsiam.Role{s.role, s.signerRole} {
		allowIf(role, within, bucket.BucketArn(), "s3:ListBucket")
		grantKey(bucket, role, "kms:Decrypt")
	}
}

func (props *SenderProps) source() Source {
	source := Source{Bucket: props.SourceBucket, Events: props.SourceEvents, Prefix: props.Prefix, Suffix: props.Suffix}
	if props.Outbox != nil && props.SourceEvents == "" {
		source.Events = toldAlready
	}
	return source
}

func (props *SenderProps) network() network {
	return network{vpc: props.VPC, subnets: props.Subnets, groups: props.SecurityGroups}
}

func (props *SenderProps) resolve(scope constructs.Construct, id string) SenderProps {
	var p SenderProps
	if props != nil {
		p = *props
	}
	var bad problems
	bad.checkSource(scope, "Source", p.source())
	bad.check(p.Outbox == nil || p.SourceBucket != nil, "Outbox", "a queue", "one beside a SourceBucket",
		"give the bucket that it is told of, or leave it out: a new bucket notifies a new queue")
	bad.check(p.Outbox == nil || p.SourceEvents == "", "SourceEvents", p.SourceEvents, "nothing beside an Outbox",
		"leave it out: the queue is told of new objects already")
	bad.check(p.Outbox == nil || p.DeadLetterQueue == nil || *p.Outbox.QueueArn() != *p.DeadLetterQueue.QueueArn(),
		"DeadLetterQueue", "the Outbox", "another queue", "leave it out for a new one")
	bad.checkQueue(scope, "Outbox", p.Outbox)
	bad.checkQueue(scope, "DeadLetterQueue", p.DeadLetterQueue)
	bad.check(p.URLLife == 0 || p.URLLife >= time.Minute && p.URLLife <= maxURLLife,
		"URLLife", p.URLLife, "1m to 1h", "leave it out for 1h, which is as long as the signer's credentials last")
	bad.check(p.MaxRounds >= 0 && p.MaxRounds <= 10_000, "MaxRounds", p.MaxRounds, "1 to 10000", "leave it out for 400")
	bad.checkConcurrency(p.Concurrency)
	bad.check(p.MemoryMiB == 0 || p.MemoryMiB >= 128 && p.MemoryMiB <= 10_240, "MemoryMiB", p.MemoryMiB, "128 to 10240 MiB", "leave it out for 512")
	bad.checkNetwork(p.network())
	bad.checkAge("OldestMessageAge", p.OldestMessageAge)
	bad.checkAge("MaxLag", p.MaxLag)
	bad.report("Sender", id)

	p.URLLife = or(p.URLLife, maxURLLife)
	p.MaxRounds = or(p.MaxRounds, envcfg.DefaultMaxRounds)
	p.Concurrency = or(p.Concurrency, 10)
	p.MemoryMiB = or(p.MemoryMiB, 512)
	p.OldestMessageAge = or(p.OldestMessageAge, time.Hour)
	p.MaxLag = or(p.MaxLag, time.Hour)
	return p
}
