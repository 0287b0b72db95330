package linking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigateway"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Parameters is what the receiving side asks of *ssm.Client.
type Parameters interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
	PutParameter(context.Context, *ssm.PutParameterInput, ...func(*ssm.Options)) (*ssm.PutParameterOutput, error)
}

// APIKeys is what the receiving side asks of *apigateway.Client.
type APIKeys interface {
	GetApiKey(context.Context, *apigateway.GetApiKeyInput, ...func(*apigateway.Options)) (*apigateway.GetApiKeyOutput, error)
}

// AccessKeys is where the receiving side keeps the access key of the sender, if
// its mailbox asks for one: *secretsmanager.Client.
type AccessKeys interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// Queues is what the receiving side asks of *sqs.Client.
type Queues interface {
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

var (
	_ Parameters = (*ssm.Client)(nil)
	_ APIKeys    = (*apigateway.Client)(nil)
	_ AccessKeys = (*secretsmanager.Client)(nil)
	_ Queues     = (*sqs.Client)(nil)
)

// China is the receiving side, as an operator of it reaches it.
type China struct {
	Side
	STS            STS
	CloudFormation CloudFormation
	Parameters     Parameters
	APIKeys        APIKeys
	AccessKeys     AccessKeys
	Queues         Queues
	Buckets        Buckets
}

// OpenChina returns the receiving side that a profile leads to. It makes no call.
func OpenChina(ctx context.Context, s Side) (*China, error) {
	s.flag = "china"
	cfg, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	return NewChina(cfg, s), nil
}

// NewChina returns the receiving side that a configuration leads to.
func NewChina(cfg aws.Config, s Side) *China {
	s.flag = "china"
	return &China{
		Side: s, STS: sts.NewFromConfig(cfg), CloudFormation: cloudformation.NewFromConfig(cfg),
		Parameters: ssm.NewFromConfig(cfg), APIKeys: apigateway.NewFromConfig(cfg),
		AccessKeys: secretsmanager.NewFromConfig(cfg), Queues: sqs.NewFromConfig(cfg),
		Buckets: s3.NewFromConfig(cfg),
	}
}

// chinaState is the receiving side as it is.
type chinaState struct {
	who       identity
	stack     string
	url       string // of the mailbox API's stage, without a slash at the end
	apiKey    secret.String
	accessKey link.Credentials // zero: the API asks for none
	parameter string           // with the trust document
	trust     trust
	inbox     string // URL

	bucket, region string // of the destination
}

// secretWith is the link secret of a sender that signs transfers with key.
func (c chinaState) secretWith(key wire.SigningKey) link.Secret {
	return link.Secret{APIURL: c.url, APIKey: c.apiKey, SigningKey: key, Credentials: c.accessKey}
}

func (c *China) read(ctx context.Context) (chinaState, error) {
	who, err := c.identify(ctx, c.STS)
	if err != nil {
		return chinaState{}, err
	}
	outputs, err := c.outputs(ctx, c.CloudFormation, who, "MailboxUrl", "MailboxApiKeyId", "TrustParameterName", "InboxUrl",
		"DestinationBucketName", "DestinationBucketRegion")
	if err != nil {
		return chinaState{}, err
	}
	state := chinaState{
		who: who, stack: c.Stack, url: strings.TrimSuffix(outputs["MailboxUrl"], "/"),
		parameter: outputs["TrustParameterName"], inbox: outputs["InboxUrl"],
		bucket: outputs["DestinationBucketName"], region: outputs["DestinationBucketRegion"],
	}
	var errs [3]error
	state.apiKey, errs[0] = c.readAPIKey(ctx, outputs["MailboxApiKeyId"])
	state.trust, errs[1] = c.readTrust(ctx, state.parameter)
	if arn := outputs[accessKeyOutput]; arn != "" {
		state.accessKey, errs[2] = c.readAccessKey(ctx, arn)
	}
	return state, errors.Join(errs[:]...)
}

// checkDestination reports a destination bucket that is elsewhere.
func (c *China) checkDestination(ctx context.Context, state chinaState) error {
	return c.checkBucket(ctx, c.Buckets, "destination", state.bucket, state.region)
}

func (c *China) readAPIKey(ctx context.Context, id string) (secret.String, error) {
	out, err := c.APIKeys.GetApiKey(ctx, &apigateway.GetApiKeyInput{ApiKey: &id, IncludeValue: aws.Bool(true)})
	switch {
	case err != nil:
		return secret.String{}, c.explain("read API key "+id, "apigateway:GET on it", err)
	case !out.Enabled:
		return secret.String{}, fmt.Errorf("profile %q: API key %s is disabled: enable it in API Gateway", c.Profile, id)
	case aws.ToString(out.Value) == "":
		return secret.String{}, fmt.Errorf("profile %q: API Gateway does not tell the value of API key %s", c.Profile, id)
	}
	return secret.New(*out.Value), nil
}

// accessKeyOutput is the output of a stack whose mailbox asks for signed
// requests, and of no other.
const accessKeyOutput = "MailboxAccessKeySecretArn"

// readAccessKey reads what requests to the mailbox are signed with.
func (c *China) readAccessKey(ctx context.Context, arn string) (link.Credentials, error) {
	out, err := c.AccessKeys.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &arn})
	if err != nil {
		return link.Credentials{}, c.explain("read secret "+arn, "secretsmanager:GetSecretValue on it", err)
	}
	var key struct{ AccessKeyID, SecretAccessKey string }
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &key); err != nil || key.AccessKeyID == "" || key.SecretAccessKey == "" {
		return link.Credentials{}, fmt.Errorf("profile %q: secret %s is no access key: deploy stack %s again", c.Profile, arn, c.Stack)
	}
	return link.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: secret.New(key.SecretAccessKey), Region: c.Region}, nil
}

// readTrust reads the trust document in a parameter, at the version after a
// colon if there is one.
func (c *China) readTrust(ctx context.Context, parameter string) (trust, error) {
	out, err := c.Parameters.GetParameter(ctx, &ssm.GetParameterInput{Name: &parameter})
	if err != nil {
		return trust{}, c.explain("read parameter "+parameter, "ssm:GetParameter", err)
	}
	t, err := parseTrust(aws.ToString(out.Parameter.Value), out.Parameter.Version)
	if err != nil {
		return trust{}, fmt.Errorf("parameter %s has version %d, which is no trust document, and the keys of other senders may be in it: put an earlier version back: %w",
			parameter, out.Parameter.Version, err)
	}
	return t, nil
}

// edits is how often an edit is done again before it gives way.
const edits = 5

// edit changes the trust document, last read as from, and returns it as it is
// then. SSM knows no conditional write, but numbers them: where somebody else's
// came in between, and is covered up by ours, change is applied to theirs.
func (c *China) edit(ctx context.Context, parameter string, from trust, change func(trust) (trust, error)) (trust, error) {
	base, stored := from, from
	for range edits {
		edited, err := change(base)
		if err != nil {
			return trust{}, err
		}
		if edited.text == stored.text {
			return stored, nil
		}
		if stored, err = c.writeTrust(ctx, parameter, edited.text); err != nil {
			return trust{}, err
		}
		if stored.version == base.version+1 {
			return stored, nil
		}
		theirs := parameter + ":" + strconv.FormatInt(stored.version-1, 10)
		if base, err = c.readTrust(ctx, theirs); err != nil {
			return trust{}, fmt.Errorf("somebody else changed the trust document at the same time; %s, which is what they wrote, is covered up: put it back: %w", theirs, err)
		}
		base.version = stored.version
	}
	return trust{}, fmt.Errorf("somebody else keeps changing parameter %s: run this again later", parameter)
}

func (c *China) writeTrust(ctx context.Context, parameter, text string) (trust, error) {
	if _, err := parseTrust(text, 0); err != nil {
		return trust{}, fmt.Errorf("check the trust document to be written: %w", err)
	}
	out, err := c.Parameters.PutParameter(ctx, &ssm.PutParameterInput{Name: &parameter, Value: &text, Overwrite: aws.Bool(true)})
	if err != nil {
		return trust{}, c.explain(fmt.Sprintf("write %d bytes to parameter %s", len(text), parameter), "ssm:PutParameter", err)
	}
	return parseTrust(text, out.Version)
}

// inboxEmpty reports whether the inbox has no message, also none under way.
func (c *China) inboxEmpty(ctx context.Context, url string) (bool, error) {
	out, err := c.Queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &url,
		AttributeNames: []sqstypes.QueueAttributeName{
			sqstypes.QueueAttributeNameApproximateNumberOfMessages,
			sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
			sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed,
		},
	})
	if err != nil {
		return false, c.explain("look into the inbox", "sqs:GetQueueAttributes", err)
	}
	for _, n := range out.Attributes {
		if n != "0" {
			return false, nil
		}
	}
	return len(out.Attributes) > 0, nil
}
