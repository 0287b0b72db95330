package linking

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// ReachGlobal returns the configuration of the sending side, as s leads there, and
// the outputs of its stack. The outputs named are there; without them it fails.
func ReachGlobal(ctx context.Context, s Side, names ...string) (aws.Config, map[string]string, error) {
	return s.reach(ctx, "global", names)
}

// ReachChina is ReachGlobal of the receiving side.
func ReachChina(ctx context.Context, s Side, names ...string) (aws.Config, map[string]string, error) {
	return s.reach(ctx, "china", names)
}

func (s Side) reach(ctx context.Context, flag string, names []string) (aws.Config, map[string]string, error) {
	s.flag = flag
	cfg, err := s.load(ctx)
	if err != nil {
		return aws.Config{}, nil, err
	}
	stack, err := s.Inspect(ctx, cfg, names...)
	return cfg, stack.Outputs, err
}

// Load returns the configuration of a side, which is "global" or "china", as s
// leads there, and fills in its region.
func (s *Side) Load(ctx context.Context, side string) (aws.Config, error) {
	s.flag = side
	return s.load(ctx)
}

// Stack is a stack as it is deployed.
type Stack struct {
	Status   string
	Deployed time.Time // last
	Outputs  map[string]string
}

// Inspect looks at the stack of a side, which has the outputs named.
func (s *Side) Inspect(ctx context.Context, cfg aws.Config, names ...string) (Stack, error) {
	who, err := s.identify(ctx, sts.NewFromConfig(cfg))
	if err != nil {
		return Stack{}, err
	}
	stack, outputs, err := s.deployed(ctx, cloudformation.NewFromConfig(cfg), who, names...)
	if err != nil {
		return Stack{}, err
	}
	at := stack.LastUpdatedTime
	if at == nil {
		at = stack.CreationTime
	}
	return Stack{Status: string(stack.StackStatus), Deployed: aws.ToTime(at).UTC(), Outputs: outputs}, nil
}

// Explain says of a failed call to the side whose it was and what to do. needs is
// the permission for it.
func (s *Side) Explain(doing, needs string, err error) error { return s.explain(doing, needs, err) }
