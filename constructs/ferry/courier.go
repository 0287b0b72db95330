package ferry

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

const (
	courierInterval = time.Minute
	// courierTimeout leaves a round the whole minute to fetch receipts in, since it
	// fetches none in its last twelve seconds.
	courierTimeout = courierInterval + 10*time.Second
)

// newCourier makes the function that fetches receipts once a minute.
func (s *Sender) newCourier(p SenderProps) awslambda.Function {
	role := newFunctionRole(s, "CourierRole", "s3ferry courier")
	allow(role, s.outbox.QueueArn(), "sqs:SendMessage")
	allow(role, s.outboxDLQ.QueueArn(), "sqs:SendMessage")
	grantQueueKeys(role, s.outbox, s.outboxDLQ)
	s.grantReadLink(role)
	allow(role, s.pace.ParameterArn(), "ssm:GetParameter", "ssm:PutParameter")

	courier := newFunction(s, "CourierFunction", functionProps{
		name:         "courier",
		description:  "s3ferry courier: fetches receipts, has the failed ones sent again",
		role:         role,
		timeout:      courierTimeout,
		memoryMiB:    256,
		architecture: p.Architecture,
		code:         p.CourierCode,
		logRetention: p.LogRetention,
		logKey:       s.key,
		network:      p.network(),
		environment: envcfg.Encode(&envcfg.Courier{
			Name: nameOf(s),

			OutboxURL:    *s.outbox.QueueUrl(),
			OutboxDLQURL: *s.outboxDLQ.QueueUrl(),
			LinkSecret:   *s.secret.SecretArn(),

			PaceParameter: *s.pace.ParameterName(),
			MaxRounds:     p.MaxRounds,
		}),
	})
	// A missed round is made up for by the next one.
	courier.ConfigureAsyncInvoke(&awslambda.EventInvokeConfigOptions{
		MaxEventAge:   duration(courierInterval),
		RetryAttempts: jsii.Number(0),
	})
	awsevents.NewRule(s, jsii.String("CourierSchedule"), &awsevents.RuleProps{
		Description: jsii.String("s3ferry: the rounds of the courier"),
		Schedule:    awsevents.Schedule_Rate(duration(courierInterval)),
		Targets:     &[]awsevents.IRuleTarget{awseventstargets.NewLambdaFunction(courier, nil)},
	})
	return courier
}
