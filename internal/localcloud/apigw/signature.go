package apigw

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/s3ferry/s3ferry/internal/door"
)

// maxSkew is how far the date of a signature may be from now.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
const maxSkew = 5 * time.Minute

var (
	incomplete = failure{http.StatusForbidden, "IncompleteSignatureException", "The Authorization header is not that of a signed request."}
	stranger   = failure{http.StatusForbidden, "UnrecognizedClientException", "The security token included in the request is invalid."}
	wrongDate  = failure{http.StatusForbidden, "InvalidSignatureException", "Signature expired or not yet current."}
	wrongSign  = failure{http.StatusForbidden, "InvalidSignatureException", "The request signature we calculated does not match the signature you provided."}
)

// authorization is the header of a request that is signed with Signature Version 4.
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)/[^,]+, SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}$`)

// authorize says why IAM does not let the request in, or nil. The signature is
// right if the SDK, given the headers that were signed, makes the same header of
// them: scope, headers and digest are in it.
func (a *api) authorize(r *http.Request, body []byte, now time.Time) *failure {
	if a.accessKey.AccessKeyID == "" {
		return nil
	}
	given := r.Header.Get("Authorization")
	if given == "" {
		return &noRoute // which has the words for no signature, too
	}
	parts := authorization.FindStringSubmatch(given)
	if parts == nil {
		return &incomplete
	}
	if parts[1] != a.accessKey.AccessKeyID {
		return &stranger
	}
	date, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || now.Sub(date).Abs() > maxSkew {
		return &wrongDate
	}
	again := r.Clone(r.Context())
	signed := strings.Split(parts[2], ";")
	for name := range again.Header {
		if !slices.Contains(signed, strings.ToLower(name)) {
			again.Header.Del(name)
		}
	}
	if !slices.Contains(signed, "content-length") {
		again.ContentLength = 0 // the SDK signs it where there is one
	}
	again.URL.Host = r.Host
	digest := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{
		AccessKeyID: a.accessKey.AccessKeyID, SecretAccessKey: a.accessKey.SecretAccessKey.Reveal(),
	}, again, hex.EncodeToString(digest[:]), door.SigningName, a.accessKey.Region, date)
	if err != nil || subtle.ConstantTimeCompare([]byte(again.Header.Get("Authorization")), []byte(given)) != 1 {
		return &wrongSign
	}
	return nil
}
