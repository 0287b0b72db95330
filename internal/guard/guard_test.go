package guard_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/guard"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// presigned is what the real presigner makes of a source.
type presigned struct {
	region, bucket, key, version, token string
	options                             func(*s3.Options)
	input                               func(*s3.GetObjectInput)
}

func (p presigned) transfer(t testing.TB) *wire.Transfer {
	t.Helper()
	client := s3.New(s3.Options{
		Region: p.region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: p.token}, nil
		}),
	}, func(o *s3.Options) {
		if p.options != nil {
			p.options(o)
		}
	})
	in := &s3.GetObjectInput{Bucket: &p.bucket, Key: &p.key, ChecksumMode: types.ChecksumModeEnabled}
	if p.version != "" {
		in.VersionId = &p.version
	}
	if p.input != nil {
		p.input(in)
	}
	r, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return &wire.Transfer{
		Op:     wire.OpPut,
		Source: wire.Source{Region: p.region, Bucket: p.bucket, Key: p.key, VersionID: p.version, ETag: "e", Sequencer: "1"},
		URL:    secret.New(r.URL),
	}
}

func newGuard(t testing.TB, endpoint string) *guard.Guard {
	t.Helper()
	g, err := guard.New(guard.Options{TestSourceEndpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func same(t *testing.T, got, want string) {
	t.Helper()
	g, err := url.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := url.Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	if g.Scheme != w.Scheme || g.Host != w.Host || g.EscapedPath() != w.EscapedPath() || g.Query().Encode() != w.Query().Encode() {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestRebuildAcceptsWhatThePresignerWrites(t *testing.T) {
	keys := []string{
		"a", "dir/file.txt", "a//b", "/a", "dir/", "../../etc/passwd", "./a/./b", "年报/表 1.pdf", "a+b %41%2F",
		`quotes "'` + "`", "back\\slash", "?query=1&b#frag", "~!*'()$@=:,;[]{}|^<>", "🚢", "tab\tand\nnewline",
		"http://evil.example/", strings.Repeat("k", 1024),
	}
	for _, region := range []string{
		"us-east-1", "eu-west-1", "ap-southeast-3", "cn-north-1", "cn-northwest-1", "us-gov-west-1", "eusc-de-east-1",
	} {
		for _, bucket := range []string{"reports", "a.dotted.name"} {
			for name, options := range endpoints {
				if (bucket != "reports" || !strings.HasPrefix(region, "us-east") && !strings.HasPrefix(region, "eu-")) && strings.Contains(name, "accelerate") ||
					strings.HasPrefix(region, "cn-") && strings.Contains(name, "FIPS") {
					continue // AWS has none
				}
				for i, key := range keys {
					p := presigned{region: region, bucket: bucket, key: key, options: options}
					if i%2 == 0 {
						p.version, p.token = "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo", "IQoJb3/+=="
					}
					transfer := p.transfer(t)
					got, err := newGuard(t, "").Rebuild(transfer)
					if err != nil {
						t.Fatalf("%s %s %s %q: %v", region, bucket, name, key, err)
					}
					same(t, got.Reveal(), transfer.URL.Reveal())
				}
			}
		}
	}
}

// endpoints are those that the SDK can be told to use.
var endpoints = map[string]func(*s3.Options){
	"usual":      nil,
	"dual-stack": func(o *s3.Options) { o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled },
	"FIPS":       func(o *s3.Options) { o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled },
	"FIPS dual-stack": func(o *s3.Options) {
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
	},
	"accelerate": func(o *s3.Options) { o.UseAccelerate = true },
	"accelerate dual-stack": func(o *s3.Options) {
		o.UseAccelerate = true
		o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
	},
}

// The places are written out here, since guard and presigner ask the same
// resolver.
// https://docs.aws.amazon.com/general/latest/gr/s3.html
func TestRebuildAcceptsThePlacesOfS3(t *testing.T) {
	for _, tc := range []struct{ region, bucket, endpoint, place string }{
		{"us-east-1", "reports", "usual", "reports.s3.us-east-1.amazonaws.com"},
		{"us-east-1", "reports", "dual-stack", "reports.s3.dualstack.us-east-1.amazonaws.com"},
		{"us-east-1", "reports", "FIPS", "reports.s3-fips.us-east-1.amazonaws.com"},
		{"us-east-1", "reports", "FIPS dual-stack", "reports.s3-fips.dualstack.us-east-1.amazonaws.com"},
		{"eu-west-1", "reports", "accelerate", "reports.s3-accelerate.amazonaws.com"},
		{"eu-west-1", "reports", "accelerate dual-stack", "reports.s3-accelerate.dualstack.amazonaws.com"},
		{"eu-west-1", "dotted.name", "usual", "s3.eu-west-1.amazonaws.com/dotted.name"},
		{"eu-west-1", "dotted.name", "dual-stack", "s3.dualstack.eu-west-1.amazonaws.com/dotted.name"},
		{"us-east-1", "dotted.name", "FIPS", "s3-fips.us-east-1.amazonaws.com/dotted.name"},
		{"cn-north-1", "reports", "usual", "reports.s3.cn-north-1.amazonaws.com.cn"},
		{"cn-northwest-1", "reports", "dual-stack", "reports.s3.dualstack.cn-northwest-1.amazonaws.com.cn"},
		{"cn-north-1", "dotted.name", "usual", "s3.cn-north-1.amazonaws.com.cn/dotted.name"},
		{"us-gov-west-1", "reports", "usual", "reports.s3.us-gov-west-1.amazonaws.com"},
		{"us-gov-west-1", "reports", "FIPS", "reports.s3-fips.us-gov-west-1.amazonaws.com"},
		{"eusc-de-east-1", "reports", "usual", "reports.s3.eusc-de-east-1.amazonaws.eu"},
	} {
		transfer := presigned{region: tc.region, bucket: tc.bucket, key: "dir/k", version: "v", options: endpoints[tc.endpoint]}.transfer(t)
		got, err := newGuard(t, "").Rebuild(transfer)
		if err != nil {
			t.Errorf("%s endpoint of %s in %s: %v", tc.endpoint, tc.bucket, tc.region, err)
		} else if !strings.HasPrefix(got.Reveal(), "https://"+tc.place+"/dir/k?") {
			t.Errorf("%s endpoint of %s in %s: got %s, want it at %s", tc.endpoint, tc.bucket, tc.region, got.Reveal(), tc.place)
		}
	}
}

func TestRebuildAcceptsEveryPinTheSenderMaySign(t *testing.T) {
	for name, input := range map[string]func(*s3.GetObjectInput){
		"if-match":         func(in *s3.GetObjectInput) { in.IfMatch = aws.String(`"e"`) },
		"no checksum mode": func(in *s3.GetObjectInput) { in.ChecksumMode = "" },
	} {
		transfer := presigned{region: "us-east-1", bucket: "reports", key: "k", version: "v", input: input}.transfer(t)
		got, err := newGuard(t, "").Rebuild(transfer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, got.Reveal(), transfer.URL.Reveal())
	}
}

// The URL of tags is that of an object with another query, and neither passes for
// the other.
func TestRebuildKnowsTagsFromObjects(t *testing.T) {
	object := presigned{region: "us-east-1", bucket: "reports", key: "k", version: "v", input: func(in *s3.GetObjectInput) { in.ChecksumMode = "" }}.transfer(t)
	tags := *object
	tags.Op = wire.OpTag
	tags.URL = secret.New(strings.Replace(object.URL.Reveal(), "x-id=GetObject", "tagging=&x-id=GetObjectTagging", 1))
	got, err := newGuard(t, "").Rebuild(&tags)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got.Reveal(), tags.URL.Reveal())

	for name, bent := range map[string]struct {
		op  wire.Op
		url string
	}{
		"an object for tags":     {wire.OpTag, object.URL.Reveal()},
		"tags for an object":     {wire.OpPut, tags.URL.Reveal()},
		"tags with a value":      {wire.OpTag, strings.Replace(tags.URL.Reveal(), "tagging=", "tagging=1", 1)},
		"tags of another object": {wire.OpTag, strings.Replace(tags.URL.Reveal(), "/k?", "/l?", 1)},
		"an ACL":                 {wire.OpTag, strings.Replace(tags.URL.Reveal(), "tagging=", "acl=", 1)},
	} {
		u := tags
		u.Op, u.URL = bent.op, secret.New(bent.url)
		if _, err := newGuard(t, "").Rebuild(&u); fault.Class(err) != guard.Class {
			t.Errorf("%s: got %v, want %s", name, err, guard.Class)
		}
	}
}

func TestRebuildIsAssembledFromOurParts(t *testing.T) {
	transfer := presigned{region: "us-east-1", bucket: "reports", key: "k", version: "v"}.transfer(t)
	place, query, _ := strings.Cut(transfer.URL.Reveal(), "?")
	pairs := strings.Split(query, "&")
	pairs[0], pairs[4] = pairs[4], pairs[0]
	swapped := *transfer
	swapped.URL = secret.New(place + "?" + strings.Join(pairs, "&"))
	a, err := newGuard(t, "").Rebuild(transfer)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newGuard(t, "").Rebuild(&swapped)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Equal(b) {
		t.Errorf("two orders of the parameters gave two URLs:\n%s\n%s", a.Reveal(), b.Reveal())
	}
}

func TestRebuildRefusesHostileSources(t *testing.T) {
	good := presigned{region: "us-east-1", bucket: "reports", key: "k"}.transfer(t)
	for name, change := range map[string]func(*wire.Source){
		"bucket is an access point": func(s *wire.Source) { s.Bucket = "arn:aws:s3:us-east-1:123456789012:accesspoint/x" },
		"bucket is an alias":        func(s *wire.Source) { s.Bucket = "x-s3alias" },
		"bucket is a directory":     func(s *wire.Source) { s.Bucket = "x--use1-az4--x-s3" },
		"bucket is an outpost":      func(s *wire.Source) { s.Bucket = "x--op-s3" },
		"bucket with slash":         func(s *wire.Source) { s.Bucket = "evil.example/x" },
		"bucket with hash":          func(s *wire.Source) { s.Bucket = "evil.example#" },
		"bucket with at":            func(s *wire.Source) { s.Bucket = "a@b" },
		"bucket of dots":            func(s *wire.Source) { s.Bucket = "a..b" },
		"region is a host":          func(s *wire.Source) { s.Region = "evil.example" },
		"region ends the host":      func(s *wire.Source) { s.Region = "x-1.evil.example/" },
		"region is an endpoint":     func(s *wire.Source) { s.Region = "aws-global" },
		"region is another":         func(s *wire.Source) { s.Region = "us-east-2" },
		"region of China":           func(s *wire.Source) { s.Region = "cn-north-1" },
		"version":                   func(s *wire.Source) { s.VersionID = "v" },
	} {
		bent := *good
		change(&bent.Source)
		if _, err := newGuard(t, "").Rebuild(&bent); fault.Class(err) != guard.Class {
			t.Errorf("%s: got %v, want %s", name, err, guard.Class)
		}
	}
}

func TestTestEndpointIsTheOnlyPlace(t *testing.T) {
	const endpoint = "http://127.0.0.1:7070"
	local := presigned{region: "us-east-1", bucket: "reports", key: "a//年+b", version: "v", options: func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = aws.String(endpoint), true
	}}.transfer(t)
	g := newGuard(t, endpoint)
	got, err := g.Rebuild(local)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got.Reveal(), local.URL.Reveal())
	if _, err := newGuard(t, "").Rebuild(local); fault.Class(err) != guard.Class {
		t.Errorf("a loopback URL without the test endpoint: got %v", err)
	}
	if _, err := newGuard(t, "http://127.0.0.1:7071").Rebuild(local); fault.Class(err) != guard.Class {
		t.Errorf("another port: got %v", err)
	}
	cloud := presigned{region: "us-east-1", bucket: "reports", key: "k"}.transfer(t)
	if _, err := g.Rebuild(cloud); fault.Class(err) != guard.Class {
		t.Errorf("the real place beside the test endpoint: got %v", err)
	}
}

func TestNewRefusesMalformedTestEndpoints(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:1", "http://localhost:1", "http://127.0.0.1", "http://u@127.0.0.1:1", "http://127.0.0.1:1/x", "http://127.0.0.1:1?x", "ftp://127.0.0.1:1", "%"} {
		if _, err := guard.New(guard.Options{TestSourceEndpoint: endpoint}); err == nil {
			t.Errorf("%q was accepted", endpoint)
		}
	}
}

func TestClientRefusesLoopbackAfterResolution(t *testing.T) {
	var asked bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer server.Close()
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		_, err := get(t, newGuard(t, "").Client(), "https://"+host+":"+port+"/")
		if err == nil || !strings.Contains(err.Error(), "expected a public one") {
			t.Errorf("%s: got %v", host, err)
		}
	}
	if asked {
		t.Error("the server was reached")
	}
}

func TestClientKeepsToTheTestEndpointAndFollowsNothing(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other server was reached") }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	client := newGuard(t, server.URL).Client()
	status, err := get(t, client, server.URL)
	if err != nil || status != http.StatusTemporaryRedirect {
		t.Errorf("got %d, %v, want the redirect itself", status, err)
	}
	if _, err := get(t, client, other.URL); err == nil || !strings.Contains(err.Error(), "expected the test endpoint") {
		t.Errorf("another address: got %v", err)
	}
}

func TestClientUsesNoProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	if newGuard(t, "").Transport().Proxy != nil {
		t.Error("the transport has a proxy")
	}
	if _, err := get(t, newGuard(t, proxy.URL).Client(), "http://reports.invalid/"); err == nil {
		t.Error("an unknown host was reached")
	}
}

func get(t *testing.T, client *http.Client, target string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	return resp.StatusCode, resp.Body.Close()
}

// FuzzRebuild looks for a URL that is accepted though it is not the one and only.
func FuzzRebuild(f *testing.F) {
	good := presigned{region: "us-east-1", bucket: "reports", key: "dir/年 k", version: "v1", token: "token"}.transfer(f)
	g := newGuard(f, "")
	f.Add(good.URL.Reveal())
	f.Add("https://u@reports.s3.us-east-1.amazonaws.com/?#")
	f.Fuzz(func(t *testing.T, text string) {
		bent := *good
		bent.URL = secret.New(text)
		got, err := g.Rebuild(&bent)
		if err != nil {
			if fault.Class(err) != guard.Class {
				t.Fatalf("%q: unclassified: %v", text, err)
			}
			return
		}
		place, _, _ := strings.Cut(got.Reveal(), "?")
		if host, ok := strings.CutSuffix(place, ".amazonaws.com/dir/%E5%B9%B4%20k"); !ok || !slices.Contains([]string{
			"https://reports.s3.us-east-1", "https://reports.s3.dualstack.us-east-1", "https://reports.s3-fips.us-east-1",
			"https://reports.s3-fips.dualstack.us-east-1", "https://reports.s3-accelerate", "https://reports.s3-accelerate.dualstack",
		}, host) {
			t.Fatalf("%q became %q", text, got.Reveal())
		}
		again := bent
		again.URL = got
		if twice, err := g.Rebuild(&again); err != nil || !twice.Equal(got) {
			t.Fatalf("%q is not stable: %v", text, err)
		}
	})
}
