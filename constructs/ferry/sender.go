package ferry

import (
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3notifications"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
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

// SenderProps configures a Sender. The zero value is ready to use.
type SenderProps struct {
	// SourceBucket is the bucket to carry from. If it has an EncryptionKey, the
	// sender and the signer may decrypt with it. Default: a new bucket,
	// versioned, private, encrypted, and retained when the stack is deleted.
	SourceBucket awss3.IBucket
	// SourceEvents is how SourceBucket tells of new objects; a new bucket always
	// notifies the outbox itself. Default: EventBridge.
	SourceEvents Events
	// Prefix and Suffix choose the keys to carry. Nothing outside Prefix can be
	// read or signed for. Default: all keys.
	Prefix string
	Suffix string
	// URLLife is how long a signed URL should work, a minute to an hour. It ends
	// earlier when the credentials it is signed with do. Default: an hour.
	URLLife time.Duration

	// Concurrency is how many invocations of the sender run at once, 2 to 1000.
	// Default: 10.
	Concurrency int
	// Architecture is the functions'. Default: x86_64, which every region has.
	Architecture awslambda.Architecture
	// SenderCode and CourierCode are bundles with an executable named bootstrap.
	// Default: built from the source of this module.
	SenderCode  awslambda.Code
	CourierCode awslambda.Code
	// LogRetention is how long logs are kept. Default: three months.
	LogRetention awslogs.RetentionDays

	// OldestMessageAge is the age at which a waiting event raises an alarm. At
	// least a minute. Default: an hour.
	OldestMessageAge time.Duration
	// AlarmTopic is told of every alarm. Default: alarms show in the console only.
	AlarmTopic awssns.ITopic
}

// Sender turns events of the source bucket into signed transfers and posts them
// to a mailbox; its courier fetches the receipts. Which mailbox, and with which
// keys, is in the link secret, which is empty at first: until it is filled,
// events wait in the outbox.
type Sender struct {
	constructs.Construct

	source     awss3.IBucket
	outbox     awssqs.Queue
	outboxDLQ  awssqs.Queue
	secret     awssecretsmanager.ISecret
	role       awsiam.Role
	signerRole awsiam.Role
	function   awslambda.Function
	courier    awslambda.Function
}

// NewSender makes a Sender. Nil props mean the defaults.
func NewSender(scope constructs.Construct, id string, props *SenderProps) *Sender {
	p := props.resolve(id)
	s := &Sender{}
	constructs.NewConstruct_Override(s, scope, jsii.String(id))

	s.outboxDLQ = newQueue(s, "OutboxDeadLetters", time.Minute, nil, 0)
	s.outbox = newQueue(s, "Outbox", visibilityOf(senderTimeout), s.outboxDLQ, outboxReceives)
	s.source = s.newSource(p)
	s.secret = s.newLinkSecret()
	s.role = newFunctionRole(s, "SenderRole", "s3ferry sender")
	s.signerRole = s.newSignerRole(p)
	s.grantSender(p)
	s.function = newFunction(s, "SenderFunction", functionProps{
		name:         "sender",
		description:  "s3ferry sender: signs URLs of new objects and posts them to the mailbox",
		role:         s.role,
		timeout:      senderTimeout,
		memoryMiB:    512,
		architecture: p.Architecture,
		code:         p.SenderCode,
		logRetention: p.LogRetention,
		environment: envcfg.Encode(&envcfg.Sender{
			OutboxURL:    *s.outbox.QueueUrl(),
			OutboxDLQURL: *s.outboxDLQ.QueueUrl(),
			LinkSecret:   *s.secret.SecretArn(),
			SignerRole:   *s.signerRole.RoleArn(),
			URLLife:      p.URLLife,
		}),
	})
	consume(s, "SenderOutbox", s.function, s.outbox, p.Concurrency)
	s.courier = s.newCourier(p)

	a := alarms{scope: s, topic: p.AlarmTopic}
	a.deadLetters("OutboxDeadLettersAlarm", s.outboxDLQ)
	a.age("OutboxAgeAlarm", s.outbox, p.OldestMessageAge)
	a.function("Sender", s.function)
	a.function("Courier", s.courier)
	return s
}

// SourceBucket returns the bucket that objects are carried from.
func (s *Sender) SourceBucket() awss3.IBucket { return s.source }

// Outbox returns the queue of events to send.
func (s *Sender) Outbox() awssqs.IQueue { return s.outbox }

// OutboxDeadLetterQueue returns the queue of events given up.
func (s *Sender) OutboxDeadLetterQueue() awssqs.IQueue { return s.outboxDLQ }

// LinkSecret returns the secret with the mailbox's address, its API key and the
// signing key. It has no value until an operator gives it one, and is retained
// when the stack is deleted.
func (s *Sender) LinkSecret() awssecretsmanager.ISecret { return s.secret }

// SignerRole returns the role whose credentials sign URLs. Only the sender
// function may assume it.
func (s *Sender) SignerRole() awsiam.IRole { return s.signerRole }

// SenderFunction returns the function that sends.
func (s *Sender) SenderFunction() awslambda.IFunction { return s.function }

// CourierFunction returns the function that fetches receipts.
func (s *Sender) CourierFunction() awslambda.IFunction { return s.courier }

// GrantLink lets grantee read and write the link secret, and so link the sender
// to a mailbox.
func (s *Sender) GrantLink(grantee awsiam.IGrantable) awsiam.Grant {
	return awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      grantee,
		Actions:      jsii.Strings("secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
		ResourceArns: &[]*string{s.secret.SecretArn()},
	})
}

// newSource returns the source bucket, whose new objects become messages of the
// outbox.
func (s *Sender) newSource(p SenderProps) awss3.IBucket {
	switch {
	case p.SourceBucket == nil:
		return s.newNotifyingBucket(p)
	case p.SourceEvents == Notifications:
		var filters []*awss3.NotificationKeyFilter
		if p.Prefix != "" || p.Suffix != "" {
			filters = append(filters, &awss3.NotificationKeyFilter{Prefix: jsii.String(p.Prefix), Suffix: jsii.String(p.Suffix)})
		}
		p.SourceBucket.AddEventNotification(awss3.EventType_OBJECT_CREATED, awss3notifications.NewSqsDestination(s.outbox), filters...)
	default:
		s.addEventRule(p)
	}
	return p.SourceBucket
}

// newNotifyingBucket makes a bucket that notifies the outbox itself. The L2
// would add a function to the stack for that.
func (s *Sender) newNotifyingBucket(p SenderProps) awss3.IBucket {
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
	bucket := newBucket(s, "SourceBucket", true, abortUploads(14))
	bucket.Node().AddDependency(s.outbox.Node().FindChild(jsii.String("Policy")))

	notification := map[string]any{"Event": "s3:ObjectCreated:*", "Queue": s.outbox.QueueArn()}
	var rules []any
	if p.Prefix != "" {
		rules = append(rules, map[string]any{"Name": "prefix", "Value": p.Prefix})
	}
	if p.Suffix != "" {
		rules = append(rules, map[string]any{"Name": "suffix", "Value": p.Suffix})
	}
	if len(rules) > 0 {
		notification["Filter"] = map[string]any{"S3Key": map[string]any{"Rules": rules}}
	}
	l1 := bucket.Node().DefaultChild().(awss3.CfnBucket) //nolint:errcheck,forcetypeassert // an L2 bucket's default child is the L1
	l1.AddPropertyOverride(jsii.String("NotificationConfiguration.QueueConfigurations"), []any{notification})
	return bucket
}

// addEventRule sends the events that the source bucket puts on the event bus to
// the outbox.
func (s *Sender) addEventRule(p SenderProps) {
	detail := map[string]any{"bucket": map[string]any{"name": []any{p.SourceBucket.BucketName()}}}
	switch {
	case p.Prefix != "" && p.Suffix != "":
		// Two patterns in one list are alternatives, and a wildcard is both at once.
		detail["object"] = map[string]any{"key": []any{map[string]any{"wildcard": literal(p.Prefix) + "*" + literal(p.Suffix)}}}
	case p.Prefix != "":
		detail["object"] = map[string]any{"key": []any{map[string]any{"prefix": p.Prefix}}}
	case p.Suffix != "":
		detail["object"] = map[string]any{"key": []any{map[string]any{"suffix": p.Suffix}}}
	}
	awsevents.NewRule(s, jsii.String("SourceEvents"), &awsevents.RuleProps{
		Description: jsii.String("s3ferry: new objects of the source bucket to the outbox"),
		EventPattern: &awsevents.EventPattern{
			Source:     jsii.Strings("aws.s3"),
			DetailType: jsii.Strings("Object Created"),
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
	secret := awssecretsmanager.NewCfnSecret(s, jsii.String("LinkSecret"), &awssecretsmanager.CfnSecretProps{
		Description: jsii.String("s3ferry: address and API key of the mailbox, key that signs transfers"),
	})
	secret.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN, nil)
	return awssecretsmanager.Secret_FromSecretCompleteArn(s, jsii.String("LinkSecretRef"), secret.Ref())
}

func (s *Sender) newSignerRole(p SenderProps) awsiam.Role {
	role := awsiam.NewRole(s, jsii.String("SignerRole"), &awsiam.RoleProps{
		AssumedBy:          awsiam.NewArnPrincipal(s.role.RoleArn()),
		Description:        jsii.String("s3ferry signer: what a signed URL may read"),
		MaxSessionDuration: duration(maxURLLife),
	})
	s.grantRead(role, p, map[string]any{
		"NumericLessThan": map[string]any{"s3:signatureAge": (p.URLLife + signatureSlack).Milliseconds()},
	}, "s3:GetObject", "s3:GetObjectVersion")
	return role
}

func (s *Sender) grantSender(p SenderProps) {
	allow(s.role, s.outbox.QueueArn(), consumeActions...)
	allow(s.role, s.outboxDLQ.QueueArn(), "sqs:SendMessage")
	allow(s.role, s.secret.SecretArn(), "secretsmanager:GetSecretValue")
	allow(s.role, s.signerRole.RoleArn(), "sts:AssumeRole")
	s.grantRead(s.role, p, nil, "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging", "s3:GetObjectVersionTagging")
}

// grantRead lets role take the actions on the objects that are carried.
func (s *Sender) grantRead(role awsiam.Role, p SenderProps, conditions map[string]any, actions ...string) {
	allowIf(role, conditions, s.source.ArnForObjects(jsii.String(p.Prefix+"*")), actions...)
	// With s3:ListBucket a missing key is a 404, without it a 403. The question
	// behind a 404 names no prefix, hence IfExists.
	var within map[string]any
	if p.Prefix != "" {
		within = map[string]any{"StringLikeIfExists": map[string]any{"s3:prefix": p.Prefix + "*"}}
	}
	allowIf(role, within, s.source.BucketArn(), "s3:ListBucket")
	grantKey(s.source, role, "kms:Decrypt")
}

func (props *SenderProps) resolve(id string) SenderProps {
	var p SenderProps
	if props != nil {
		p = *props
	}
	var bad problems
	bad.check(p.SourceEvents == "" || p.SourceEvents == EventBridge || p.SourceEvents == Notifications,
		"SourceEvents", p.SourceEvents, "EventBridge or Notifications", "use one of the package's constants")
	bad.check(p.SourceEvents == "" || p.SourceBucket != nil, "SourceEvents", p.SourceEvents,
		"nothing without a SourceBucket", "give the bucket, or leave it out: a new bucket notifies the outbox itself")
	bad.check(*awscdk.Token_IsUnresolved(p.Prefix) || !strings.ContainsAny(p.Prefix, "*?$"),
		"Prefix", p.Prefix, "text without * ? $", "IAM reads these as patterns: shorten the prefix to what is before them")
	bad.check(p.URLLife == 0 || p.URLLife >= time.Minute && p.URLLife <= maxURLLife,
		"URLLife", p.URLLife, "1m to 1h", "leave it out for 1h, which is as long as the signer's credentials last")
	bad.checkConcurrency(p.Concurrency)
	bad.checkAge(p.OldestMessageAge)
	bad.report("Sender", id)

	p.URLLife = or(p.URLLife, maxURLLife)
	p.Concurrency = or(p.Concurrency, 10)
	p.OldestMessageAge = or(p.OldestMessageAge, time.Hour)
	return p
}
