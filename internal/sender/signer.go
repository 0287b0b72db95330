package sender

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Classes of a Signer's errors.
const (
	noSigner = "signer-unavailable" // transient: no credentials that live long enough
	unsigned = "unsignable"         // permanent
)

const (
	// margin is how long before the credentials die a URL has to.
	margin = time.Minute
	// shortestLife is what a URL made with dying credentials must have left to
	// be worth sending.
	shortestLife = time.Minute
)

// Signer signs URLs with credentials whose end it knows: S3 refuses a URL once
// the credentials that signed it are dead, whatever the URL says.
type Signer struct {
	Presign     *s3.PresignClient
	Credentials aws.CredentialsProvider // asked again once less than half their life is left
	Life        time.Duration           // wanted life of a URL, whole seconds

	mu      sync.Mutex
	current secret.Value[aws.Credentials]
	renewAt time.Time
}

// Sign returns a URL that gets exactly the version that source names, and the
// time from which on it is dead. Its life is Life, or less where the credentials
// die first.
func (s *Signer) Sign(ctx context.Context, source wire.Source) (secret.String, time.Time, error) {
	return s.sign(ctx, source, &s3.GetObjectInput{ChecksumMode: types.ChecksumModeEnabled})
}

// SignTags is Sign for the tags of the version.
func (s *Signer) SignTags(ctx context.Context, source wire.Source) (secret.String, time.Time, error) {
	return s.sign(ctx, source, &s3.GetObjectInput{}, func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, getsTags)
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired // else the SDK asks for a checksum
	})
}

// getsTags makes a GetObjectTagging of a GetObject, since the SDK presigns only
// the latter. They differ in the query.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html
func getsTags(stack *middleware.Stack) error {
	return stack.Build.Add(middleware.BuildMiddlewareFunc("GetsTags", func(
		ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler,
	) (middleware.BuildOutput, middleware.Metadata, error) {
		if request, ok := in.Request.(*smithyhttp.Request); ok {
			query := request.URL.Query()
			query.Set("tagging", "")
			query.Set("x-id", "GetObjectTagging")
			request.URL.RawQuery = query.Encode()
		}
		return next.HandleBuild(ctx, in)
	}), middleware.After)
}

func (s *Signer) sign(ctx context.Context, source wire.Source, get *s3.GetObjectInput, options ...func(*s3.Options)) (secret.String, time.Time, error) {
	credentials, err := s.credentials(ctx)
	if err != nil {
		return secret.String{}, time.Time{}, err
	}
	now := time.Now().UTC().Truncate(time.Second) // the URL's own date is in whole seconds too
	life := s.Life
	if credentials.CanExpire {
		life = min(life, credentials.Expires.Sub(now)-margin).Truncate(time.Second)
	}
	if life < min(s.Life, shortestLife) {
		return secret.String{}, time.Time{}, fault.Transientf(noSigner,
			"the signer's credentials end %s, too soon to sign a URL for %q", credentials.Expires.UTC().Format(time.RFC3339), source.Key)
	}
	get.Bucket, get.Key, get.VersionId = &source.Bucket, &source.Key, version(source)
	request, err := s.Presign.PresignGetObject(ctx, get, func(o *s3.PresignOptions) {
		o.Expires = life
		o.ClientOptions = append(o.ClientOptions, options...)
		o.ClientOptions = append(o.ClientOptions, func(o *s3.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil })
		})
	})
	if err != nil {
		return secret.String{}, time.Time{}, fault.Permanent(unsigned, fmt.Errorf("sign a URL for %q: %w", source.Key, err))
	}
	return secret.New(request.URL), now.Add(life), nil
}

// credentials returns credentials with at least half their life left.
func (s *Signer) credentials(ctx context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if current := s.current.Reveal(); current.HasKeys() && (!current.CanExpire || now.Before(s.renewAt)) {
		return current, nil
	}
	fresh, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fault.Transient(noSigner, fmt.Errorf("assume the signer role: %w", err))
	}
	s.current, s.renewAt = secret.New(fresh), now.Add(fresh.Expires.Sub(now)/2)
	return fresh, nil
}
