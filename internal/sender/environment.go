package sender

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/s3ferry/s3ferry/internal/backlog"
	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/linksecret"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/obs"
	"github.com/s3ferry/s3ferry/internal/settle"
)

const (
	// sessionLife is what AWS grants at most to a role assumed by a role.
	sessionLife = time.Hour
	// longestDelay is the longest wait of an event between two tries.
	longestDelay = time.Hour
)

// FromEnvironment returns a Sender as envcfg.Sender and the AWS SDK's own
// variables describe it. It makes no call.
func FromEnvironment(ctx context.Context) (*Sender, error) {
	var env envcfg.Sender
	if err := envcfg.Decode(&env, os.LookupEnv); err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	log := obs.Logger()
	objects := s3.NewFromConfig(cfg)
	return &Sender{
		Link:   linksecret.New(secretsmanager.NewFromConfig(cfg), env.LinkSecret),
		Source: &Source{S3: objects},
		Signer: &Signer{
			Presign: s3.NewPresignClient(s3.New(objects.Options(), func(o *s3.Options) {
				if env.TestSourceEndpoint != "" {
					o.BaseEndpoint = aws.String(env.TestSourceEndpoint)
				}
			})),
			Credentials: stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), env.SignerRole, func(o *stscreds.AssumeRoleOptions) {
				o.RoleSessionName = "s3ferry-sender"
				o.Duration = sessionLife
			}),
			Life: env.URLLife,
		},
		HTTP: mailbox.NewHTTPClient(),
		Gate: &backlog.Gate{
			Life: env.URLLife, Senders: env.Concurrency, Log: log,
			Pace: backlog.Parameter{SSM: ssm.NewFromConfig(cfg), Name: env.PaceParameter}.Load,
		},
		Outbox: &settle.Queue{
			SQS: sqs.NewFromConfig(cfg), URL: env.OutboxURL, DeadLetterURL: env.OutboxDLQURL,
			MaxDelay: longestDelay, Log: log,
		},
		Log: log, Name: env.Name,
		Deletes: env.Deletes, TagChanges: env.TagChanges,
	}, nil
}
