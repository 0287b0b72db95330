package guard

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
)

// Limits of a connection to the source. A border at its worst takes seconds for
// each round trip of a handshake.
const (
	dialTimeout      = 15 * time.Second
	handshakeTimeout = 15 * time.Second
	idleTimeout      = 90 * time.Second
	// maxIdle is as large as a connection budget may be: a fresh TLS connection costs
	// more than half a second on the way, so none is given up early.
	maxIdle = 1024
)

// Client returns an HTTP client that reaches only what Rebuild may return. It
// hands redirects back as answers instead of following them.
func (g *Guard) Client() *http.Client {
	return &http.Client{
		Transport:     g.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Transport returns a transport without proxy, compression and HTTP/2 (which
// would put every range on one TCP connection), whose dials Control refuses
// unless they go to a public address, a configured network, or the test endpoint.
func (g *Guard) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second, Control: g.control}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: handshakeTimeout,
		DisableCompression:  true,
		MaxIdleConns:        maxIdle,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     idleTimeout,
		Protocols:           protocols,
		ReadBufferSize:      64 << 10,
	}
}

// control runs after resolution, on the very address that is about to be
// dialled, so a name that resolves to another address the second time gains
// nothing. A refusal is a permanent fault of Class.
func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	got, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return fault.Permanentf(Class, "dial source: got address %q, expected IP and port", address)
	case g.only.IsValid() && got != g.only:
		return fault.Permanentf(Class, "dial source: got address %s, expected the test endpoint %s", address, g.only)
	case g.only.IsValid():
		return nil
	case network != "tcp4" && network != "tcp6", got.Port() != 443, !public(got.Addr()) && !g.configured(got.Addr()):
		return fault.Permanentf(Class, "dial source: got %s address %s, expected a public one, or one of the source networks %v, at port 443",
			network, address, g.networks)
	}
	return nil
}

// configured reports whether a is in one of the configured networks, none of
// which, however wide, opens what is behind no line.
func (g *Guard) configured(a netip.Addr) bool {
	within := func(network netip.Prefix) bool { return network.Contains(a) }
	return slices.ContainsFunc(g.networks, within) && !slices.ContainsFunc(local, within)
}

// local is this machine and its link, where the Lambda runtime API and the
// metadata services are, and IPv6 that stands for IPv4 of any kind.
var local = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/8"),          // unspecified, loopback, mapped, NAT64
	netip.MustParsePrefix("2001::/32"),     // Teredo
	netip.MustParsePrefix("2002::/16"),     // 6to4
	netip.MustParsePrefix("fd00:ec2::/32"), // metadata service
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// public reports whether a is an address of the public Internet. IPv6 addresses
// that stand for IPv4 ones are not, whatever is inside.
func public(a netip.Addr) bool {
	if a.Is6() && (a.Zone() != "" || !globalUnicast6.Contains(a)) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}

// globalUnicast6 is all of IPv6 that is handed out; mapped addresses, NAT64,
// unique local, link local and multicast lie outside.
var globalUnicast6 = netip.MustParsePrefix("2000::/3")

// special is what the IANA special-purpose registries take out of the rest.
// https://www.iana.org/assignments/iana-ipv4-special-registry
// https://www.iana.org/assignments/iana-ipv6-special-registry
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("10.0.0.0/8"),      // private
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback
	netip.MustParsePrefix("169.254.0.0/16"),  // link local, instance metadata
	netip.MustParsePrefix("172.16.0.0/12"),   // private
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("192.168.0.0/16"),  // private
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("224.0.0.0/3"),     // multicast, reserved, broadcast
	netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4
	netip.MustParsePrefix("3fff::/20"),       // documentation
}
