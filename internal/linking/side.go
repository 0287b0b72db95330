package linking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// The stacks as the app of this repository names them.
const (
	GlobalStack = "GlobalSender"
	ChinaStack  = "ChinaReceiver"
)

// Side says where one side is, and as whom it is reached.
type Side struct {
	Profile string // of the AWS configuration files
	Region  string // "": the profile's
	Stack   string
	// Other is the other side's stack, by which swapped profiles are noticed.
	Other string

	flag string // "global" or "china": the flags that describe it
}

// STS is what a side asks of *sts.Client.
type STS interface {
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

// CloudFormation is what a side asks of *cloudformation.Client.
type CloudFormation interface {
	DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
}

var (
	_ STS            = (*sts.Client)(nil)
	_ CloudFormation = (*cloudformation.Client)(nil)
)

// load returns the SDK's configuration of the side and fills in its region. A
// profile means its own region, whatever the environment says: two sides share
// one environment.
func (s *Side) load(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(s.Profile))
	if _, ok := errors.AsType[config.SharedConfigProfileNotExistError](err); ok {
		return aws.Config{}, fmt.Errorf("--%s-profile: no profile %q in the AWS configuration files: `aws configure --profile %s` makes it",
			s.flag, s.Profile, s.Profile)
	}
	if err != nil {
		return aws.Config{}, fmt.Errorf("load profile %q: %w", s.Profile, err)
	}
	if s.Region != "" {
		cfg.Region = s.Region
	} else {
		for _, source := range cfg.ConfigSources {
			if file, ok := source.(config.SharedConfig); ok && file.Region != "" {
				cfg.Region = file.Region
			}
		}
	}
	if cfg.Region == "" {
		return aws.Config{}, fmt.Errorf("profile %q has no region: name the region of stack %s by --%s-region", s.Profile, s.Stack, s.flag)
	}
	s.Region = cfg.Region
	return cfg, nil
}

// identity is who asks.
type identity struct{ account, partition string }

func (s *Side) identify(ctx context.Context, client STS) (identity, error) {
	out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return identity{}, s.explain("ask who it is", "sts:GetCallerIdentity", err)
	}
	who, err := arn.Parse(aws.ToString(out.Arn))
	if err != nil {
		return identity{}, fmt.Errorf("profile %q: read who it is: %w", s.Profile, err)
	}
	return identity{account: aws.ToString(out.Account), partition: who.Partition}, nil
}

// outputs returns the outputs of the side's stack, which has those named.
func (s *Side) outputs(ctx context.Context, client CloudFormation, who identity, names ...string) (map[string]string, error) {
	_, outputs, err := s.deployed(ctx, client, who, names...)
	return outputs, err
}

// deployed returns the side's stack and its outputs, which has those named.
func (s *Side) deployed(ctx context.Context, client CloudFormation, who identity, names ...string) (*types.Stack, map[string]string, error) {
	stack, err := s.describe(ctx, client, s.Stack)
	if err != nil {
		return nil, nil, err
	}
	if stack == nil {
		return nil, nil, s.missing(ctx, client, who)
	}
	switch status := stack.StackStatus; {
	case slices.Contains(settled, status):
	case strings.HasSuffix(string(status), "_IN_PROGRESS"):
		return nil, nil, fmt.Errorf("stack %s of profile %q is being deployed (%s): wait until that is done", s.Stack, s.Profile, status)
	default:
		return nil, nil, fmt.Errorf("stack %s of profile %q is not whole (%s): deploy it again", s.Stack, s.Profile, status)
	}
	outputs := map[string]string{}
	for _, o := range stack.Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	var absent []string
	for _, name := range names {
		if outputs[name] == "" {
			absent = append(absent, name)
		}
	}
	if len(absent) > 0 {
		return nil, nil, fmt.Errorf("stack %s of profile %q has no output %s: deploy it with this version of s3ferry, or name another stack by --%s-stack",
			s.Stack, s.Profile, strings.Join(absent, ", "), s.flag)
	}
	return stack, outputs, nil
}

// settled are the states in which a stack has all that its template says, or all
// that it had before.
var settled = []types.StackStatus{
	types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete,
	types.StackStatusUpdateCompleteCleanupInProgress, types.StackStatusUpdateRollbackCompleteCleanupInProgress,
	types.StackStatusImportComplete, types.StackStatusImportRollbackComplete,
}

// describe returns a stack, or nil if there is none of that name.
func (s *Side) describe(ctx context.Context, client CloudFormation, name string) (*types.Stack, error) {
	out, err := client.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(name)})
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "ValidationError" && strings.Contains(e.ErrorMessage(), "does not exist") {
		return nil, nil
	}
	if err != nil {
		return nil, s.explain("describe stack "+name, "cloudformation:DescribeStacks", err)
	}
	if len(out.Stacks) == 0 {
		return nil, nil
	}
	return &out.Stacks[0], nil
}

// missing says that the side's stack is not there, and what is instead.
func (s *Side) missing(ctx context.Context, client CloudFormation, who identity) error {
	err := fmt.Errorf("no stack %s in %s of account %s (%s), where profile %q leads", s.Stack, s.Region, who.account, who.partition, s.Profile)
	if other, otherErr := s.describe(ctx, client, s.Other); otherErr == nil && other != nil {
		return fmt.Errorf("%w, but the other side's, %s: --global-profile and --china-profile are swapped", err, s.Other)
	}
	return fmt.Errorf("%w: deploy it, or name the right place by --%s-profile, --%s-region or --%s-stack", err, s.flag, s.flag, s.flag)
}

// explain says of a failed call whose it was and what to do. needs is the
// permission for it.
func (s *Side) explain(doing, needs string, err error) error {
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return fmt.Errorf("profile %q: %s: %w%s", s.Profile, doing, err, s.credentialAdvice(err))
	}
	advice := ""
	switch code := e.ErrorCode(); {
	case strings.HasPrefix(code, "ExpiredToken"), code == "RequestExpired":
		advice = fmt.Sprintf(": its session has expired: log in again (`aws sso login --profile %s`, say)", s.Profile)
	case slices.Contains([]string{"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure", "SignatureDoesNotMatch"}, code):
		advice = fmt.Sprintf(": region %s does not know its credentials: they are of another partition, or not valid any more", s.Region)
	case strings.HasPrefix(code, "AccessDenied"), code == "UnauthorizedOperation":
		advice = ": it needs the permission " + needs
	}
	return fmt.Errorf("profile %q: %s: %w%s", s.Profile, doing, e, advice)
}

// credentialAdvice is for errors that no service has sent: the SDK found no
// credentials, or those it found are a login that has ended.
func (s *Side) credentialAdvice(err error) string {
	text := err.Error()
	if strings.Contains(text, "SSO") || strings.Contains(text, "sso") {
		return fmt.Sprintf(": log in with `aws sso login --profile %s`", s.Profile)
	}
	if strings.Contains(text, "credentials") {
		return fmt.Sprintf(": give the profile credentials with `aws configure --profile %s`", s.Profile)
	}
	return ""
}
