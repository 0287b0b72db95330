// Package linksecret reads the link secret from where it is kept.
package linksecret

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
)

// Classes of this package's errors, all transient: what waits for a link waits
// in its queue.
const (
	NotLinked  = "not-linked"      // with link.ErrNotLinked
	Unreadable = "link-unreadable" // the secret is there, or should be
)

// How long the link secret is believed: a new signing key is used after life,
// and a new API key at once, but a denial cannot make the functions read more
// often than every pause.
const (
	life  = time.Minute
	pause = 5 * time.Second
)

// SecretsManager is what a cache asks of *secretsmanager.Client.
type SecretsManager interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

var _ SecretsManager = (*secretsmanager.Client)(nil)

// New returns a cache of the link secret with the given ARN or name. A secret
// that has no value yet is link.ErrNotLinked.
func New(store SecretsManager, id string) *link.Cache[link.Secret] {
	return &link.Cache[link.Secret]{
		Life: life, Pause: pause,
		Fetch: func(ctx context.Context) (link.Secret, error) { return read(ctx, store, id) },
	}
}

func read(ctx context.Context, store SecretsManager, id string) (link.Secret, error) {
	out, err := store.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(id)})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return link.Secret{}, fault.Transientf(NotLinked, "%w (secret %s: %w)", link.ErrNotLinked, id, err)
	}
	if err != nil {
		return link.Secret{}, fault.Transientf(Unreadable, "get secret %s: %w", id, err)
	}
	secret, err := link.DecodeSecret([]byte(aws.ToString(out.SecretString)))
	if errors.Is(err, link.ErrNotLinked) {
		return link.Secret{}, fault.Transient(NotLinked, err)
	}
	return secret, fault.Transient(Unreadable, err)
}
