package guard

import (
	"maps"
	"net/url"
	"regexp"
	"strings"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// parameter is one of the query: what it must look like, and whether it must be
// there. SigV4 in a query:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
type parameter struct {
	pattern  *regexp.Regexp
	required bool
	expected string // in words, for the error
}

func pattern(s string) *regexp.Regexp { return regexp.MustCompile(`\A(?:` + s + `)\z`) }

// parameters are those whose value does not depend on the transfer. Everything
// that is not here, such as response-content-type, is refused.
var parameters = map[string]parameter{
	"X-Amz-Algorithm":  {pattern(`AWS4-HMAC-SHA256`), true, "AWS4-HMAC-SHA256"},
	"X-Amz-Credential": {pattern(`\w{1,128}/[0-9]{8}/[a-z0-9-]+/s3/aws4_request`), true, "access key, day, region, s3 and aws4_request"},
	"X-Amz-Date":       {pattern(`[0-9]{8}T[0-9]{6}Z`), true, "a basic ISO 8601 time"},
	"X-Amz-Expires":    {pattern(`[1-9][0-9]{0,5}`), true, "1 to 604800 seconds"},
	// A signed If-Match is the source's ETag, which every pull sends anyway.
	"X-Amz-SignedHeaders":  {pattern(`host|host;if-match`), true, "host or host;if-match"},
	"X-Amz-Signature":      {pattern(`[0-9a-f]{64}`), true, "64 hex digits"},
	"X-Amz-Security-Token": {pattern(`[A-Za-z0-9+/=_-]+`), false, "a session token"},
}

// more are the parameters of an op: what it gets.
var more = map[wire.Op]map[string]parameter{
	wire.OpPut: {
		"X-Amz-Checksum-Mode": {pattern(`ENABLED`), false, "ENABLED"},
		"x-id":                {pattern(`GetObject`), false, "GetObject"},
	},
	wire.OpTag: {
		"tagging": {pattern(``), true, "no value"},
		"x-id":    {pattern(`GetObjectTagging`), false, "GetObjectTagging"},
	},
}

// maxExpires is the longest life of a presigned URL, in seconds: 7 days.
const maxExpires = "604800"

// rebuildQuery checks raw, the query of a URL, and writes it anew. The order of
// parameters is not signed.
func rebuildQuery(raw string, op wire.Op, s wire.Source) (string, error) {
	allowed := maps.Clone(parameters)
	maps.Copy(allowed, more[op])
	got := url.Values{}
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, err := unescape(pair)
		if err != nil {
			return "", err
		}
		if got.Has(name) {
			return "", fault.Permanentf(Class, "check URL: parameter %.32q: got it twice, expected once", name)
		}
		got.Set(name, value)
	}
	for name := range got {
		if _, known := allowed[name]; !known && name != "versionId" {
			return "", fault.Permanentf(Class, "check URL: got parameter %.32q, expected only those of a presigned GET", name)
		}
	}
	for name, p := range allowed {
		if !got.Has(name) && !p.required {
			continue
		}
		if !p.pattern.MatchString(got.Get(name)) {
			return "", fault.Permanentf(Class, "check URL: parameter %s: got %d bytes, expected %s", name, len(got.Get(name)), p.expected)
		}
	}
	if expires := got.Get("X-Amz-Expires"); len(expires) == len(maxExpires) && expires > maxExpires {
		return "", fault.Permanentf(Class, "check URL: parameter X-Amz-Expires: got more than a week, expected at most %s seconds", maxExpires)
	}
	day, _, _ := strings.Cut(got.Get("X-Amz-Date"), "T")
	if _, scope, _ := strings.Cut(got.Get("X-Amz-Credential"), "/"); scope != day+"/"+s.Region+"/s3/aws4_request" {
		return "", fault.Permanentf(Class, "check URL: scope of X-Amz-Credential: got another, expected the day of X-Amz-Date and region %s", s.Region)
	}
	if got.Has("versionId") != (s.VersionID != "") || got.Get("versionId") != s.VersionID {
		return "", fault.Permanentf(Class, "check URL: parameter versionId: got another, expected that of the source, %q", s.VersionID)
	}
	return encode(got), nil
}

// unescape reads one parameter in the only spelling that the SDK writes.
func unescape(pair string) (name, value string, err error) {
	rawName, rawValue, found := strings.Cut(pair, "=")
	name, nameErr := url.QueryUnescape(rawName)
	value, valueErr := url.QueryUnescape(rawValue)
	if !found || nameErr != nil || valueErr != nil || encode(url.Values{name: {value}}) != pair {
		return "", "", fault.Permanentf(Class, "check URL: parameter %.32q: got it in another spelling, expected name=value as the SDK escapes them", rawName)
	}
	return name, value, nil
}

// encode writes a space as SigV4 does.
func encode(v url.Values) string { return strings.ReplaceAll(v.Encode(), "+", "%20") }
