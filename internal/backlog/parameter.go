package backlog

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// SSM is what a Parameter asks of *ssm.Client.
type SSM interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
	PutParameter(context.Context, *ssm.PutParameterInput, ...func(*ssm.Options)) (*ssm.PutParameterOutput, error)
}

var _ SSM = (*ssm.Client)(nil)

// Parameter is the SSM parameter that holds the Pace, as JSON.
type Parameter struct {
	SSM  SSM
	Name string
}

// Load reads the Pace.
func (p Parameter) Load(ctx context.Context) (Pace, error) {
	out, err := p.SSM.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(p.Name)})
	if err != nil {
		return Pace{}, fmt.Errorf("get the receiver's pace from parameter %s: %w", p.Name, err)
	}
	var pace Pace
	if err := json.Unmarshal([]byte(aws.ToString(out.Parameter.Value)), &pace); err != nil {
		return Pace{}, fmt.Errorf("read the receiver's pace in parameter %s: %w", p.Name, err)
	}
	return pace, nil
}

// Save writes the Pace.
func (p Parameter) Save(ctx context.Context, pace Pace) error {
	text, err := json.Marshal(pace)
	if err != nil {
		return fmt.Errorf("encode the receiver's pace: %w", err)
	}
	_, err = p.SSM.PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(p.Name), Value: aws.String(string(text)), Type: types.ParameterTypeString, Overwrite: aws.Bool(true),
	})
	if err != nil {
		return fmt.Errorf("put the receiver's pace into parameter %s: %w", p.Name, err)
	}
	return nil
}
