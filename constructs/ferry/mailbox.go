package ferry

import (
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/door"
)

// How often a message may be received before its queue gives it up. Waiting is
// no failure, so the functions end hopeless messages themselves, and these only
// catch a message that crashes its reader.
const (
	inboxReceives  = 20
	outboxReceives = 1000
)

// receiptsVisibility is how long the courier has between taking receipts and
// deleting them.
const receiptsVisibility = 2 * time.Minute

// MailboxProps configures a Mailbox. The zero value is ready to use.
type MailboxProps struct {
	// Authorization is what the mailbox asks of a request beside its API key. Link
	// again after a change: until then the sender's events wait. Default:
	// APIKeyOnly.
	Authorization Authorization
	// AccessKeySerial replaces the access key of IAM where it is raised. Link
	// again afterwards: the replaced key is gone. Default: 0.
	AccessKeySerial int
	// AllowedNetworks are the only ones that requests may come from, such as
	// "203.0.113.7/32": the addresses of the NAT gateways of the sender's VPC, and
	// of whoever links. Default: all.
	AllowedNetworks []string
	// EncryptionKey encrypts the queues, and the access key of IAM. Default: keys
	// of AWS's.
	EncryptionKey awskms.IKey

	// Rate is how many requests a second the API key may make on average.
	// Default: 100.
	Rate int
	// Burst is how many requests the API key may make at once. Default: 200.
	Burst int
	// Quota is how many requests the API key may make in a QuotaPeriod. Default:
	// as many as Rate allows.
	Quota int
	// QuotaPeriod is the period of Quota. Default: a day.
	QuotaPeriod awsapigateway.Period

	// DeadLetterQueue is a standard queue that takes what is given up, from this
	// mailbox only. Default: a new queue.
	DeadLetterQueue awssqs.IQueue

	// OldestMessageAge is the age at which a waiting transfer or receipt raises
	// an alarm. At least a minute. Default: an hour.
	OldestMessageAge time.Duration
	// AlarmTopic is told of every alarm; NewAlarmTopic makes one that sends e-mail.
	// Default: alarms show in the console only.
	AlarmTopic awssns.ITopic
}

// Mailbox is the only door into the partition of the destination bucket: a
// regional REST API with one API key whose methods are SQS calls, with no code
// between. POST /transfers puts transfers into the inbox, GET /transfers/depth
// counts them, GET /receipts and POST /receipts/delete take and delete receipts.
// What doesn't fit a method's model is refused before SQS sees it; a failure of
// SQS is answered with 503.
//
// One mailbox is for one sender and one receiver: two couriers would take each
// other's receipts.
//
// The API key throttles and identifies. It does not authenticate: transfers are
// signed, and the receiver refuses what isn't. With IAM, requests are signed, too.
type Mailbox struct {
	constructs.Construct

	api       awsapigateway.RestApi
	apiKey    awsapigateway.ApiKey
	accessKey awssecretsmanager.ISecret // nil unless with IAM
	key       awskms.IKey               // of what the mailbox makes, or nil
	inbox     awssqs.Queue
	inboxDLQ  awssqs.IQueue
	receipts  awssqs.Queue
	receiver  string // id of the receiver that reads the inbox
}

// NewMailbox makes a Mailbox. Nil props mean the defaults.
func NewMailbox(scope constructs.Construct, id string, props *MailboxProps) *Mailbox {
	p := props.resolve(scope, id)
	m := &Mailbox{key: p.EncryptionKey}
	constructs.NewConstruct_Override(m, scope, jsii.String(id))

	if m.inboxDLQ = p.DeadLetterQueue; m.inboxDLQ == nil {
		m.inboxDLQ = newQueue(m, "InboxDeadLetters", time.Minute, p.EncryptionKey, nil, 0)
	}
	m.inbox = newQueue(m, "Inbox", visibilityOf(receiverTimeout), p.EncryptionKey, m.inboxDLQ, inboxReceives)
	// No dead-letter queue: the courier takes a receipt that it cannot read to the
	// dead letters of its own side, where somebody looks.
	m.receipts = newQueue(m, "Receipts", receiptsVisibility, p.EncryptionKey, nil, 0)
	m.api = m.newAPI(p)
	m.apiKey = m.newKey(p)
	if p.Authorization == IAM {
		m.accessKey = m.newAccessKey(p)
	}

	a := alarms{scope: m, topic: p.AlarmTopic}
	a.deadLetters("InboxDeadLettersAlarm", m.inboxDLQ)
	a.age("InboxAgeAlarm", m.inbox, p.OldestMessageAge)
	a.age("ReceiptsAgeAlarm", m.receipts, p.OldestMessageAge)
	return m
}

// API returns the REST API. Its Url is the mailbox's address.
func (m *Mailbox) API() awsapigateway.RestApi { return m.api }

// APIKey returns the key that every method demands. API Gateway made up its
// value, which no template knows: ask API Gateway for it by the key's id.
func (m *Mailbox) APIKey() awsapigateway.IApiKey { return m.apiKey }

// AccessKey returns the secret with the access key that requests are signed
// with, as accessKeyId and secretAccessKey; nil unless Authorization is IAM.
func (m *Mailbox) AccessKey() awssecretsmanager.ISecret { return m.accessKey }

// Inbox returns the queue of transfers.
func (m *Mailbox) Inbox() awssqs.IQueue { return m.inbox }

// InboxDeadLetterQueue returns the queue of transfers given up.
func (m *Mailbox) InboxDeadLetterQueue() awssqs.IQueue { return m.inboxDLQ }

// Receipts returns the queue of receipts.
func (m *Mailbox) Receipts() awssqs.IQueue { return m.receipts }

// GrantReadAPIKey lets grantee ask API Gateway for the value of the API key, and
// with IAM read the access key: what linking takes to the sender.
func (m *Mailbox) GrantReadAPIKey(grantee awsiam.IGrantable) awsiam.Grant {
	grant := awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      grantee,
		Actions:      jsii.Strings("apigateway:GET"),
		ResourceArns: &[]*string{m.apiKey.KeyArn()},
	})
	if m.accessKey == nil {
		return grant
	}
	grant = grant.Combine(awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      grantee,
		Actions:      jsii.Strings("secretsmanager:GetSecretValue"),
		ResourceArns: &[]*string{m.accessKey.SecretArn()},
	}))
	if m.key == nil {
		return grant
	}
	return grant.Combine(m.key.Grant(grantee, jsii.String("kms:Decrypt")))
}

func (m *Mailbox) newAPI(p MailboxProps) awsapigateway.RestApi {
	api := awsapigateway.NewRestApi(m, jsii.String("Api"), &awsapigateway.RestApiProps{
		RestApiName:      awscdk.Names_UniqueResourceName(m, &awscdk.UniqueResourceNameOptions{}),
		Description:      jsii.String("s3ferry mailbox: takes transfers, hands out receipts"),
		ApiKeySourceType: awsapigateway.ApiKeySourceType_HEADER,
		EndpointConfiguration: &awsapigateway.EndpointConfiguration{
			Types: &[]awsapigateway.EndpointType{awsapigateway.EndpointType_REGIONAL}, // EDGE is unknown in aws-cn
		},
		// The role by which API Gateway writes logs is one for the whole account:
		// whoever has set it may turn logging on through API().DeploymentStage().
		CloudWatchRole: jsii.Bool(false),
		Policy:         networkPolicy(p),
		DeployOptions:  &awsapigateway.StageOptions{StageName: jsii.String("v1")},
	})
	api.Node().TryRemoveChild(jsii.String("Endpoint")) // an output, which is the stack's to choose
	validator := api.AddRequestValidator(jsii.String("Request"), &awsapigateway.RequestValidatorOptions{
		ValidateRequestBody:       jsii.Bool(true),
		ValidateRequestParameters: jsii.Bool(true),
	})
	role := awsiam.NewRole(m, jsii.String("ApiRole"), &awsiam.RoleProps{
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("apigateway.amazonaws.com"), nil),
		Description: jsii.String("s3ferry mailbox: the SQS calls behind the API"),
	})
	allow(role, m.inbox.QueueArn(), "sqs:SendMessage", "sqs:GetQueueAttributes")
	allow(role, m.receipts.QueueArn(), "sqs:ReceiveMessage", "sqs:DeleteMessage")
	grantQueueKeys(role, m.inbox, m.receipts)

	for _, route := range door.Routes() {
		options := &awsapigateway.MethodOptions{
			OperationName:     jsii.String(route.Name),
			ApiKeyRequired:    jsii.Bool(true),
			AuthorizationType: p.Authorization.method(),
			RequestValidator:  validator,
			MethodResponses: &[]*awsapigateway.MethodResponse{
				{StatusCode: jsii.String("200")}, {StatusCode: jsii.String("503")},
			},
		}
		if schema := route.Model(); schema != nil {
			options.RequestModels = &map[string]awsapigateway.IModel{"application/json": m.newModel(api, route.Name, schema)}
		}
		api.Root().ResourceForPath(jsii.String(strings.TrimPrefix(route.Path, "/"))).
			AddMethod(jsii.String(route.Method), m.newIntegration(route, role), options)
	}
	return api
}

// newModel makes the model of a body. The schema is JSON as API Gateway takes
// it, so the L1 resource is used, and a changed schema has to be brought to the
// deployment's notice.
func (m *Mailbox) newModel(api awsapigateway.RestApi, name string, schema map[string]any) awsapigateway.IModel {
	model := awsapigateway.NewCfnModel(api, jsii.String(name+"Model"), &awsapigateway.CfnModelProps{
		RestApiId:   api.RestApiId(),
		Name:        jsii.String(name),
		ContentType: jsii.String("application/json"),
		Schema:      schema,
	})
	api.LatestDeployment().Node().AddDependency(model)
	api.LatestDeployment().AddToLogicalId(schema)
	return awsapigateway.Model_FromModelName(api, jsii.String(name+"ModelRef"), model.Ref())
}

// newIntegration makes the SQS call behind a route. An error of SQS is never the
// caller's fault, since the model has refused what is: it is always a 503.
func (m *Mailbox) newIntegration(route door.Route, role awsiam.IRole) awsapigateway.Integration {
	queue := map[door.Queue]awssqs.IQueue{door.Inbox: m.inbox, door.Receipts: m.receipts}[route.Queue]
	unavailable := func(pattern string) *awsapigateway.IntegrationResponse {
		return &awsapigateway.IntegrationResponse{
			StatusCode:       jsii.String("503"),
			SelectionPattern: jsii.String(pattern),
			ResponseTemplates: &map[string]*string{
				"application/json": jsii.String(`{"message":"mailbox unavailable"}`),
			},
		}
	}
	return awsapigateway.NewAwsIntegration(&awsapigateway.AwsIntegrationProps{
		Service:               jsii.String("sqs"),
		Path:                  jsii.String(*awscdk.Aws_ACCOUNT_ID() + "/" + *queue.QueueName()),
		IntegrationHttpMethod: jsii.String("POST"),
		Options: &awsapigateway.IntegrationOptions{
			CredentialsRole:     role,
			PassthroughBehavior: awsapigateway.PassthroughBehavior_NEVER,
			RequestParameters: &map[string]*string{
				"integration.request.header.Content-Type": jsii.String("'application/x-amz-json-1.0'"),
				"integration.request.header.X-Amz-Target": jsii.String("'AmazonSQS." + route.Action + "'"),
			},
			RequestTemplates: &map[string]*string{
				"application/json": jsii.String(route.Template(*queue.QueueUrl())),
			},
			IntegrationResponses: &[]*awsapigateway.IntegrationResponse{
				{StatusCode: jsii.String("200"), SelectionPattern: jsii.String("200")},
				unavailable(`4\d{2}`),
				unavailable(`5\d{2}`),
			},
		},
	})
}

func (m *Mailbox) newKey(p MailboxProps) awsapigateway.ApiKey {
	key := awsapigateway.NewApiKey(m, jsii.String("ApiKey"), &awsapigateway.ApiKeyProps{
		Description: jsii.String("s3ferry mailbox: the sending side"),
	})
	plan := &awsapigateway.UsagePlanProps{
		Description: jsii.String("s3ferry mailbox"),
		Throttle:    &awsapigateway.ThrottleSettings{RateLimit: jsii.Number(p.Rate), BurstLimit: jsii.Number(p.Burst)},
		ApiStages:   &[]*awsapigateway.UsagePlanPerApiStage{{Api: m.api, Stage: m.api.DeploymentStage()}},
	}
	if p.Quota > 0 {
		plan.Quota = &awsapigateway.QuotaSettings{Limit: jsii.Number(p.Quota), Period: p.QuotaPeriod}
	}
	// The L1 resource ties key and plan, because the id of the L2's depends on a
	// feature flag of the app.
	awsapigateway.NewCfnUsagePlanKey(m, jsii.String("UsagePlanKey"), &awsapigateway.CfnUsagePlanKeyProps{
		KeyId:       key.KeyId(),
		KeyType:     jsii.String("API_KEY"),
		UsagePlanId: awsapigateway.NewUsagePlan(m, jsii.String("UsagePlan"), plan).UsagePlanId(),
	})
	return key
}

// visibilityOf is the visibility timeout for a queue read by a function with the
// timeout: Lambda asks for six times as long.
func visibilityOf(timeout time.Duration) time.Duration { return 6 * timeout }

func (props *MailboxProps) resolve(scope constructs.Construct, id string) MailboxProps {
	var p MailboxProps
	if props != nil {
		p = *props
	}
	var bad problems
	bad.check(p.Rate >= 0 && p.Rate <= 10_000, "Rate", p.Rate, "1 to 10000 requests a second", "leave it out for 100")
	bad.check(p.Burst >= 0 && p.Burst <= 5_000, "Burst", p.Burst, "1 to 5000 requests", "leave it out for 200")
	bad.check(p.Quota >= 0, "Quota", p.Quota, "at least 1 request", "leave it out for no quota")
	bad.check(p.QuotaPeriod == "" || p.Quota > 0, "QuotaPeriod", p.QuotaPeriod, "a period only beside a Quota", "set Quota, or leave out QuotaPeriod")
	bad.checkAge("OldestMessageAge", p.OldestMessageAge)
	bad.checkAuthorization(p)
	bad.checkQueue(scope, "DeadLetterQueue", p.DeadLetterQueue)
	bad.report("Mailbox", id)

	p.Rate = or(p.Rate, door.DefaultRate)
	p.Burst = or(p.Burst, door.DefaultBurst)
	p.QuotaPeriod = or(p.QuotaPeriod, awsapigateway.Period_DAY)
	p.OldestMessageAge = or(p.OldestMessageAge, time.Hour)
	return p
}
