package courier

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/s3ferry/s3ferry/internal/backlog"
	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/linksecret"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/settle"
)

// FromEnvironment returns a Courier as envcfg.Courier and the AWS SDK's own
// variables describe it. It makes no call.
func FromEnvironment(ctx context.Context) (*Courier, error) {
	var env envcfg.Courier
	if err := envcfg.Decode(&env, os.LookupEnv); err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	log := obs.Logger()
	queues := sqs.NewFromConfig(cfg)
	return &Courier{
		Link:   linksecret.New(secretsmanager.NewFromConfig(cfg), env.LinkSecret),
		HTTP:   mailbox.NewHTTPClient(),
		SQS:    queues,
		Pace:   backlog.Parameter{SSM: ssm.NewFromConfig(cfg), Name: env.PaceParameter},
		Outbox: &settle.Queue{SQS: queues, URL: env.OutboxURL, DeadLetterURL: env.OutboxDLQURL, Log: log},
		Log:    log,
		Name:   env.Name,

		MaxRounds: env.MaxRounds,
	}, nil
}
