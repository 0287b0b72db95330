package guard

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// Control sees the address after resolution, so this table is what a name that
// is bound to another address meets.
func TestControlAllowsOnlyPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"52.216.1.1:443":               true,
		"8.8.8.8:443":                  true,
		"[2600:1fa0:80fc::1]:443":      true,
		"52.216.1.1:80":                false,
		"0.0.0.0:443":                  false,
		"10.1.2.3:443":                 false,
		"100.64.0.1:443":               false,
		"100.127.255.255:443":          false,
		"127.0.0.1:443":                false,
		"127.9.9.9:443":                false,
		"169.254.169.254:443":          false,
		"172.16.0.1:443":               false,
		"172.31.255.255:443":           false,
		"192.0.0.170:443":              false,
		"192.0.2.1:443":                false,
		"192.168.1.1:443":              false,
		"169.254.100.1:443":            false, // Lambda runtime API
		"169.254.100.1:9001":           false,
		"127.0.0.1:9001":               false,
		"169.254.170.2:443":            false, // credentials of containers
		"192.88.99.1:443":              false,
		"0.1.2.3:443":                  false,
		"239.255.255.250:443":          false,
		"[64:ff9b::a9fe:a9fe]:443":     false, // NAT64 of the metadata service
		"[64:ff9b::34d8:101]:443":      false,
		"[2002:a9fe:a9fe::]:443":       false,
		"[2001:0:34d8:101::1]:443":     false,
		"[::ffff:0:127.0.0.1]:443":     false,
		"[::ffff:169.254.169.254]:443": false,
		"[fec0::1]:443":                false,
		"[4000::1]:443":                false,
		"198.18.0.1:443":               false,
		"203.0.113.9:443":              false,
		"224.0.0.1:443":                false,
		"240.0.0.1:443":                false,
		"255.255.255.255:443":          false,
		"[::]:443":                     false,
		"[::1]:443":                    false,
		"[::ffff:52.216.1.1]:443":      false,
		"[::ffff:127.0.0.1]:443":       false,
		"[::127.0.0.1]:443":            false,
		"[64:ff9b::7f00:1]:443":        false,
		"[64:ff9b:1::a00:1]:443":       false,
		"[100::1]:443":                 false,
		"[2001::1]:443":                false,
		"[2001:db8::1]:443":            false,
		"[2002:7f00:1::]:443":          false,
		"[3fff::1]:443":                false,
		"[fc00::1]:443":                false,
		"[fd00:ec2::254]:443":          false,
		"[fe80::1]:443":                false,
		"[fe80::1%eth0]:443":           false,
		"[2600:1fa0::1%eth0]:443":      false,
		"[ff02::1]:443":                false,
		"reports.example:443":          false,
		"52.216.1.1":                   false,
		"":                             false,
	} {
		if err := (&Guard{}).control("tcp4", address, nil); (err == nil) != want {
			t.Errorf("%q: got %v, want allowed %v", address, err, want)
		}
	}
	if err := (&Guard{}).control("udp", "52.216.1.1:443", nil); err == nil {
		t.Error("udp was allowed")
	}
	leased := &Guard{networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}}
	for address, want := range map[string]bool{
		"10.1.2.3:443": true, "[fd00:1::5]:443": true, "52.216.1.1:443": true,
		"10.2.0.1:443": false, "10.1.2.3:80": false, "[fd00:2::5]:443": false, "169.254.169.254:443": false,
	} {
		if err := leased.control("tcp4", address, nil); (err == nil) != want {
			t.Errorf("leased line, %q: got %v, want allowed %v", address, err, want)
		}
	}
	wide := &Guard{networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	for address, want := range map[string]bool{
		"10.1.2.3:443": true, "100.64.0.1:443": true, "[fd00:1::5]:443": true,
		"127.0.0.1:443": false, "0.0.0.0:443": false, "169.254.169.254:443": false, "169.254.100.1:443": false, "224.0.0.1:443": false,
		"[::1]:443": false, "[::]:443": false, "[::ffff:127.0.0.1]:443": false, "[::ffff:10.1.2.3]:443": false,
		"[64:ff9b::7f00:1]:443": false, "[2002:7f00:1::]:443": false, "[2001::1]:443": false,
		"[fe80::1]:443": false, "[fe80::1%eth0]:443": false, "[ff02::1]:443": false, "[fd00:ec2::254]:443": false,
	} {
		if err := wide.control("tcp4", address, nil); (err == nil) != want {
			t.Errorf("all networks, %q: got %v, want allowed %v", address, err, want)
		}
	}
	only := &Guard{only: netip.MustParseAddrPort("127.0.0.1:7070")}
	for address, want := range map[string]bool{"127.0.0.1:7070": true, "127.0.0.1:7071": false, "127.0.0.2:7070": false, "52.216.1.1:443": false} {
		if err := only.control("tcp4", address, nil); (err == nil) != want {
			t.Errorf("test endpoint, %q: got %v, want allowed %v", address, err, want)
		}
	}
}

// FuzzControl holds the addresses that may be dialled against what the standard
// library says of them.
func FuzzControl(f *testing.F) {
	for _, address := range []string{"52.216.1.1:443", "[2600:1fa0:80fc::1]:443", "[64:ff9b::a9fe:a9fe]:443", "[::ffff:127.0.0.1]:443", "100.64.0.1:443", "[fe80::1%eth0]:443"} {
		f.Add(address)
	}
	g := &Guard{}
	f.Fuzz(func(t *testing.T, address string) {
		if g.control("tcp", address, nil) == nil || g.control("udp4", address, nil) == nil {
			t.Fatalf("%q: a network of no address family is allowed", address)
		}
		if g.control("tcp6", address, nil) != nil {
			return
		}
		host, port, err := net.SplitHostPort(address)
		ip := net.ParseIP(host)
		if err != nil || port != "443" || ip == nil {
			t.Fatalf("%q was allowed", address)
		}
		if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() ||
			strings.Contains(host, ":") && ip.To4() != nil {
			t.Fatalf("%q was allowed", address)
		}
	})
}
