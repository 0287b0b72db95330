// Package guard is the closed door in front of every pull: a URL from a message
// is only ever compared with the one that configuration allows, and the address
// behind it must be public after resolution.
package guard

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Class is the fault class of every URL that Rebuild refuses.
const Class = "url-refused"

// Options configures a Guard.
type Options struct {
	// Networks are not public and may be dialled all the same: where a leased
	// line ends, say. Default: public addresses only.
	Networks []netip.Prefix

	// TestSourceEndpoint, such as "http://127.0.0.1:7070", is for the laptop
	// cloud: it becomes the only accepted source, with path-style URLs, and its
	// address the only one that is dialled. It must name an IP address and a port.
	TestSourceEndpoint string
}

// Guard decides what may be pulled. It is safe for concurrent use.
type Guard struct {
	endpoint string         // test endpoint, without a slash at the end
	only     netip.AddrPort // what may be dialled; zero: any public address, and networks
	networks []netip.Prefix
}

// New returns a Guard. It fails if the test endpoint is malformed.
func New(o Options) (*Guard, error) {
	if o.TestSourceEndpoint == "" {
		return &Guard{networks: o.Networks}, nil
	}
	u, err := url.Parse(o.TestSourceEndpoint)
	if err != nil {
		return nil, fmt.Errorf("read test source endpoint: %w", err)
	}
	only, err := netip.ParseAddrPort(u.Host)
	endpoint := u.Scheme + "://" + u.Host
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || (o.TestSourceEndpoint != endpoint && o.TestSourceEndpoint != endpoint+"/") {
		return nil, fmt.Errorf("read test source endpoint: got %q, expected scheme, IP address and port such as http://127.0.0.1:7070", o.TestSourceEndpoint)
	}
	return &Guard{endpoint: endpoint, only: only}, nil
}

// Rebuild returns the URL to pull t from: a presigned SigV4 GET of exactly t's
// bucket, key and version, or of its tags where that is t.Op, put together from
// t.Source and the checked signing parameters of t.URL, never the string that came. Any URL that differs from it
// in more than the order of its parameters is refused with a permanent fault of
// Class that quotes neither path nor parameters. Whether t's bucket is trusted is not
// asked here.
func (g *Guard) Rebuild(t *wire.Transfer) (secret.String, error) {
	places, err := g.places(t.Source)
	if err != nil {
		return secret.String{}, err
	}
	got, err := split(t.URL.Reveal())
	if err != nil {
		return secret.String{}, err
	}
	i := slices.Index(places, got.place)
	if i < 0 {
		return secret.String{}, fault.Permanentf(Class, "check URL: scheme, host and path: got %.120q and a path of %d bytes, expected one of %q",
			got.host, len(got.place)-len(got.host), places)
	}
	query, err := rebuildQuery(got.query, t.Op, t.Source)
	if err != nil {
		return secret.String{}, err
	}
	return secret.New(places[i] + "?" + query), nil
}

// parts of a URL as they are written: nothing is decoded, so nothing can mean
// two things. The place begins with the host, and only that may be quoted: in a
// URL that was bent, the rest may have the signature in it.
type parts struct{ host, place, query string }

func split(text string) (parts, error) {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return parts{}, fault.Permanentf(Class, "check URL: got byte %#x at %d, expected printable ASCII without a fragment", c, i)
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return parts{}, fault.Permanentf(Class, "check URL: got something that is no URL, expected a presigned S3 GET")
	}
	if u.User != nil {
		return parts{}, fault.Permanentf(Class, "check URL: got user information before the host, expected none")
	}
	place := text
	if n := len(text) - len(u.RawQuery); u.RawQuery != "" {
		place = text[:n-1]
	}
	return parts{host: u.Scheme + "://" + u.Host, place: place, query: u.RawQuery}, nil
}
