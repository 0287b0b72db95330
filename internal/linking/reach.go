package linking

import (
	"context"

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
	who, err := s.identify(ctx, sts.NewFromConfig(cfg))
	if err != nil {
		return aws.Config{}, nil, err
	}
	outputs, err := s.outputs(ctx, cloudformation.NewFromConfig(cfg), who, names...)
	return cfg, outputs, err
}
