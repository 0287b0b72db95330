package secret

import "regexp"

var (
	// query is that of any URL: signed ones have no other place for what is secret.
	query = regexp.MustCompile(`(https?://[^\s"'?]*)\?[^\s"']*`)
	// parameter is one of SigV4 in a query that lost its URL, escaped or not.
	parameter = regexp.MustCompile(`(?i)(X-Amz-(?:Signature|Security-Token|Credential)(?:=|%3D))[^\s"'&]+`)
)

// Scrub returns text, such as that of an error from below, which quotes what it
// was given, with the query of every URL redacted, and what SigV4 puts there
// wherever it stands. Secrets that have a type of this package need no Scrub.
func Scrub(text string) string {
	return parameter.ReplaceAllString(query.ReplaceAllString(text, "${1}?"+Redacted), "${1}"+Redacted)
}
