package guard

import (
	"context"
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

// places returns scheme, host and path of the object in s, escaped as the SDK's
// presigner does: the bucket in the host where it can be there, else in the
// path; first at the usual endpoint, then at the dual-stack one.
func (g *Guard) places(s wire.Source) ([]string, error) {
	if !bucketName.MatchString(s.Bucket) || strings.Contains(s.Bucket, "..") {
		return nil, fault.Permanentf(Class, "check URL: source bucket: got %q, expected the name of a general purpose bucket", abbreviate(s.Bucket))
	}
	for _, suffix := range specialNames {
		if strings.HasSuffix(s.Bucket, suffix) {
			return nil, fault.Permanentf(Class, "check URL: source bucket: got %q, expected no name ending in %s", s.Bucket, suffix)
		}
	}
	if !regionName.MatchString(s.Region) {
		return nil, fault.Permanentf(Class, "check URL: source region: got %q, expected one such as us-east-1", abbreviate(s.Region))
	}
	key := httpbinding.EscapePath(s.Key, false)
	if g.endpoint != "" {
		return []string{g.endpoint + "/" + s.Bucket + "/" + key}, nil
	}
	var places []string
	for _, dualStack := range []bool{false, true} {
		endpoint, err := s3.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), s3.EndpointParameters{
			Region: aws.String(s.Region), Bucket: aws.String(s.Bucket), UseDualStack: aws.Bool(dualStack),
			UseFIPS: aws.Bool(false), UseGlobalEndpoint: aws.Bool(false),
		})
		if err != nil {
			return nil, fault.Permanentf(Class, "check URL: resolve endpoint of bucket %q in %q: %w", s.Bucket, s.Region, err)
		}
		places = append(places, strings.TrimSuffix(endpoint.URI.String(), "/")+"/"+key)
	}
	return places, nil
}
