package guard

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/encoding/httpbinding"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var (
	// The endpoint rules of the SDK read more into a bucket's name than a name
	// (ARNs of access points, suffixes of special buckets), so only plain names
	// reach them.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
	bucketName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	specialNames = []string{"--x-s3", "--op-s3", "--ol-s3", "-s3alias", ".mrap", "--table-s3"}

	// "aws-global" and its like are endpoints rather than regions.
	regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
)

// endpoints are the ways to a bucket for which the SDK's presigner can be set.
// Not every partition and name has all of them.
var endpoints = []s3.EndpointParameters{
	{},
	{UseDualStack: aws.Bool(true)},
	{UseFIPS: aws.Bool(true)},
	{UseFIPS: aws.Bool(true), UseDualStack: aws.Bool(true)},
	{Accelerate: aws.Bool(true)},
	{Accelerate: aws.Bool(true), UseDualStack: aws.Bool(true)},
}

// places returns scheme, host and path of the object in s at each endpoint,
// escaped as the SDK's presigner does: the bucket in the host where it can be
// there, else in the path.
func (g *Guard) places(s wire.Source) ([]string, error) {
	if !bucketName.MatchString(s.Bucket) || strings.Contains(s.Bucket, "..") {
		return nil, fault.Permanentf(Class, "check URL: source bucket: got %.64q, expected the name of a general purpose bucket", s.Bucket)
	}
	for _, suffix := range specialNames {
		if strings.HasSuffix(s.Bucket, suffix) {
			return nil, fault.Permanentf(Class, "check URL: source bucket: got %q, expected no name ending in %s", s.Bucket, suffix)
		}
	}
	if !regionName.MatchString(s.Region) {
		return nil, fault.Permanentf(Class, "check URL: source region: got %.64q, expected one such as us-east-1", s.Region)
	}
	key := httpbinding.EscapePath(s.Key, false)
	if g.endpoint != "" {
		return []string{g.endpoint + "/" + s.Bucket + "/" + key}, nil
	}
	var places []string
	var problems []error
	for _, params := range endpoints {
		if aws.ToBool(params.Accelerate) && strings.HasPrefix(s.Region, "us-gov-") {
			// The host would be that of the partition aws, where the name may be
			// somebody else's; the SDK does not know.
			// https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/govcloud-s3.html
			continue
		}
		params.Region, params.Bucket, params.UseGlobalEndpoint = aws.String(s.Region), aws.String(s.Bucket), aws.Bool(false)
		endpoint, err := s3.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), params)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		places = append(places, strings.TrimSuffix(endpoint.URI.String(), "/")+"/"+key)
	}
	if len(places) == 0 {
		return nil, fault.Permanentf(Class, "check URL: resolve endpoint of bucket %q in %q: %w", s.Bucket, s.Region, errors.Join(problems...))
	}
	return places, nil
}
