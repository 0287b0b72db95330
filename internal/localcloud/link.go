package localcloud

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/localcloud/control"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/version"
	"github.com/s3ferry/s3ferry/internal/wire"
)

const (
	// apiKeyID is how API Gateway names the mailbox's API key.
	apiKeyID = "s3ferry-key"
	// accessKeySecret is where the receiving side keeps what requests to the
	// mailbox are signed with.
	accessKeySecret = "s3ferry-access-key"
)

// What a laptop cloud has beside its Description, under these names.
const (
	JournalBucket  = "journal"        // on the destination's S3 server
	TrustParameter = "/s3ferry/trust" // in the control plane, which is at the queues' endpoint
	PaceParameter  = "/s3ferry/pace"  // beside it
)

// deploy leaves what two deployed stacks leave: a link secret without a value, a
// trust document that trusts nobody, a pace that nobody knows, and the outputs.
func (c *Cloud) deploy(context.Context) error {
	none, err := link.EncodeTrust(link.Trust{Sources: []link.Source{}})
	if err != nil {
		return fmt.Errorf("encode trust document: %w", err)
	}
	if err := c.control.PutParameter(TrustParameter, string(none)); err != nil {
		return fmt.Errorf("write trust document: %w", err)
	}
	if err := c.control.PutParameter(PaceParameter, "{}"); err != nil {
		return fmt.Errorf("write the receiver's pace: %w", err)
	}
	secretARN := c.control.CreateSecret(linkSecret)
	c.control.PutAPIKey(apiKeyID, c.API.Key)
	c.control.PutBucket(control.Bucket{Region: sourceIn, Name: c.Source.Bucket, Queues: []string{c.queues["outbox"].ARN()}})
	c.control.PutBucket(control.Bucket{Region: destIn, Name: c.Destination.Bucket})
	stacks := []control.Stack{
		{Region: sourceIn, Name: "GlobalSender", Outputs: map[string]string{
			"LinkSecretArn": secretARN, "SourceBucketName": c.Source.Bucket, "SourceBucketRegion": c.Source.Region, "SourceEvents": "Notifications",
			"OutboxUrl": c.SQS.Queues.Outbox, "OutboxDeadLetterQueueUrl": c.SQS.Queues.OutboxDLQ,
			"SenderVersion": version.Version(),
		}},
		{Region: destIn, Name: "ChinaReceiver", Outputs: map[string]string{
			"MailboxUrl": c.endpoints.api + "/", "MailboxApiKeyId": apiKeyID, "TrustParameterName": TrustParameter,
			"DestinationBucketName": c.Destination.Bucket, "DestinationBucketRegion": c.Destination.Region,
			"JournalBucketName": JournalBucket,
			"InboxUrl":          c.SQS.Queues.Inbox, "InboxDeadLetterQueueUrl": c.SQS.Queues.InboxDLQ, "ReceiptsUrl": c.SQS.Queues.Receipts,
			"ReceiverVersion": version.Version(),
		}},
	}
	if c.options.IAM {
		stacks[1].Outputs["MailboxAccessKeySecretArn"] = c.control.CreateSecret(accessKeySecret)
		key, err := json.Marshal(map[string]string{"accessKeyId": c.API.AccessKeyID, "secretAccessKey": c.API.SecretAccessKey})
		if err != nil {
			return fmt.Errorf("encode access key: %w", err)
		}
		if err := c.control.PutSecret(accessKeySecret, string(key)); err != nil {
			return fmt.Errorf("write access key: %w", err)
		}
	}
	for _, stack := range stacks {
		stack.Status = "CREATE_COMPLETE"
		c.control.PutStack(stack)
	}
	return nil
}

// link ties the two sides together with a new signing key, as `s3ferry link`
// does with two accounts, only that nothing has to be proved.
func (c *Cloud) link(context.Context) error {
	if c.options.Unlinked {
		return nil
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("make signing key: %w", err)
	}
	c.secrets.add(base64.RawURLEncoding.EncodeToString(private.Seed()), base64.StdEncoding.EncodeToString(private))
	digest := sha256.Sum256(public)
	id := base64.RawURLEncoding.EncodeToString(digest[:12])

	trust, err := link.EncodeTrust(link.Trust{
		Keys:    wire.PublicKeys{id: public},
		Sources: []link.Source{{Bucket: c.Source.Bucket, Region: c.Source.Region}},
	})
	if err != nil {
		return fmt.Errorf("encode trust document: %w", err)
	}
	if err := c.control.PutParameter(TrustParameter, string(trust)); err != nil {
		return fmt.Errorf("write trust document: %w", err)
	}
	document, err := link.EncodeSecret(link.Secret{
		APIURL: c.endpoints.api, APIKey: secret.New(c.API.Key), SigningKey: wire.SigningKey{ID: id, Key: secret.New(private)},
		Credentials: c.API.credentials(),
	})
	if err != nil {
		return fmt.Errorf("encode link secret: %w", err)
	}
	if err := c.control.PutSecret(linkSecret, string(document)); err != nil {
		return fmt.Errorf("write link secret: %w", err)
	}
	return nil
}
