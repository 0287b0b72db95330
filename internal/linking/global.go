package linking

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/s3ferry/s3ferry/internal/link"
)

// Secrets is what the sending side asks of *secretsmanager.Client.
type Secrets interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
	PutSecretValue(context.Context, *secretsmanager.PutSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error)
}

var _ Secrets = (*secretsmanager.Client)(nil)

// Global is the sending side, as an operator of it reaches it.
type Global struct {
	Side
	STS            STS
	CloudFormation CloudFormation
	Secrets        Secrets
	Buckets        Buckets
}

// OpenGlobal returns the sending side that a profile leads to. It makes no call.
func OpenGlobal(ctx context.Context, s Side) (*Global, error) {
	s.flag = "global"
	cfg, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	return NewGlobal(cfg, s), nil
}

// NewGlobal returns the sending side that a configuration leads to.
func NewGlobal(cfg aws.Config, s Side) *Global {
	s.flag = "global"
	return &Global{
		Side: s, STS: sts.NewFromConfig(cfg), CloudFormation: cloudformation.NewFromConfig(cfg),
		Secrets: secretsmanager.NewFromConfig(cfg), Buckets: s3.NewFromConfig(cfg),
	}
}

// The staging labels of the link secret's versions. Functions read the current
// one only.
const (
	stageCurrent = "AWSCURRENT"
	stagePending = "s3ferry-pending"
)

// globalState is the sending side as it is.
type globalState struct {
	who       identity
	secretARN string
	source    link.Source
	events    string // how its new objects are told of; "": unknown
	outbox    string // URL

	empty  bool // the link secret has no value yet
	linked bool
	secret link.Secret // if linked
	broken error       // the link secret has a value that is none
}

func (g *Global) read(ctx context.Context) (globalState, error) {
	who, err := g.identify(ctx, g.STS)
	if err != nil {
		return globalState{}, err
	}
	outputs, err := g.outputs(ctx, g.CloudFormation, who, "LinkSecretArn", "SourceBucketName", "SourceBucketRegion", "OutboxUrl")
	if err != nil {
		return globalState{}, err
	}
	state := globalState{
		who: who, secretARN: outputs["LinkSecretArn"],
		source: link.Source{Bucket: outputs["SourceBucketName"], Region: outputs["SourceBucketRegion"]},
		events: outputs["SourceEvents"], outbox: outputs["OutboxUrl"],
	}
	text, found, err := g.readSecret(ctx, state.secretARN, stageCurrent)
	if err != nil {
		return globalState{}, err
	}
	state.empty = !found
	state.secret, err = link.DecodeSecret([]byte(text))
	if state.linked = err == nil; !state.linked && !errors.Is(err, link.ErrNotLinked) {
		state.broken = fmt.Errorf("secret %s is not what `s3ferry link` writes: %w", state.secretARN, err)
	}
	return state, nil
}

// readSecret returns the version of the link secret with a staging label, if
// there is one.
func (g *Global) readSecret(ctx context.Context, id, stage string) (text string, found bool, err error) {
	out, err := g.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: &stage})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return "", false, nil
	}
	if err != nil {
		return "", false, g.explain("read secret "+id, "secretsmanager:GetSecretValue", err)
	}
	return aws.ToString(out.SecretString), true, nil
}

func (g *Global) putSecret(ctx context.Context, id, stage string, text []byte) error {
	_, err := g.Secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &id, SecretString: aws.String(string(text)), VersionStages: []string{stage},
	})
	if err != nil {
		return g.explain("write secret "+id, "secretsmanager:PutSecretValue", err)
	}
	return nil
}

// errUncertain says that nobody knows whether a write has happened.
var errUncertain = errors.New("it may or may not have been written, so the new key stays trusted: run `s3ferry link` again")

// writeSecret makes s the link secret. If it does not know whether it did, which
// an answer lost on the way makes possible, the error is errUncertain.
func (g *Global) writeSecret(ctx context.Context, id string, s link.Secret) error {
	text, err := link.EncodeSecret(s)
	if err != nil {
		return fmt.Errorf("encode link secret: %w", err)
	}
	if err = g.putSecret(ctx, id, stageCurrent, text); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	is, _, readErr := g.readSecret(ctx, id, stageCurrent)
	switch {
	case readErr != nil:
		return fmt.Errorf("%w: %w: %w", err, errUncertain, readErr)
	case is == string(text):
		return nil
	}
	return err
}
