package guard_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	dual := func(o *s3.Options) {
		o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
	}
	keys := []string{
		"a", "dir/file.txt", "a//b", "/a", "dir/", "../../etc/passwd", "./a/./b", "年报/表 1.pdf", "a+b %41%2F",
		`quotes "'` + "`", "back\\slash", "?query=1&b#frag", "~!*'()$@=:,;[]{}|^<>", "🚢", "tab\tand\nnewline",
		"http://evil.example/", strings.Repeat("k", 1024),
	}
	for _, region := range []string{
		"us-east-1", "eu-west-1", "ap-southeast-3", "cn-north-1", "cn-northwest-1", "us-gov-west-1", "eusc-de-east-1",
	} {
		for _, bucket := range []string{"reports", "a.dotted.name"} {
			for _, options := range []func(*s3.Options){nil, dual} {
				for i, key := range keys {
					p := presigned{region: region, bucket: bucket, key: key, options: options}
					if i%2 == 0 {
						p.version, p.token = "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo", "IQoJb3/+=="
					}
					transfer := p.transfer(t)
					got, err := newGuard(t, "").Rebuild(transfer)
					if err != nil {
						t.Fatalf("%s %s %q: %v", region, bucket, key, err)
					}
					same(t, got.Reveal(), transfer.URL.Reveal())
				}
			}
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

func TestRebuildRefusesHostileURLs(t *testing.T) {
	const good = "https://reports.s3.us-east-1.amazonaws.com/dir/k"
	transfer := presigned{region: "us-east-1", bucket: "reports", key: "dir/k", version: "v1", token: "tokentoken"}.transfer(t)
	query := strings.TrimPrefix(transfer.URL.Reveal(), good+"?")
	if query == transfer.URL.Reveal() {
		t.Fatalf("the presigner wrote %s", transfer.URL.Reveal())
	}
	at := func(place string) string { return place + "?" + query }
	edit := func(old, replacement string) string {
		if !strings.Contains(query, old) {
			t.Fatalf("no %s in %s", old, query)
		}
		return good + "?" + strings.Replace(query, old, replacement, 1)
	}
	drop := func(name string) string {
		var kept []string
		for pair := range strings.SplitSeq(query, "&") {
			if !strings.HasPrefix(pair, name+"=") {
				kept = append(kept, pair)
			}
		}
		return good + "?" + strings.Join(kept, "&")
	}
	for name, hostile := range map[string]string{
		"empty":                      "",
		"no query":                   good,
		"empty query":                good + "?",
		"http":                       at("http" + strings.TrimPrefix(good, "https")),
		"ftp":                        at("ftp" + strings.TrimPrefix(good, "https")),
		"file":                       at("file:///etc/passwd"),
		"scheme in capitals":         at("HTTPS" + strings.TrimPrefix(good, "https")),
		"no scheme":                  at(strings.TrimPrefix(good, "https:")),
		"port 443":                   at("https://reports.s3.us-east-1.amazonaws.com:443/dir/k"),
		"port 22":                    at("https://reports.s3.us-east-1.amazonaws.com:22/dir/k"),
		"empty port":                 at("https://reports.s3.us-east-1.amazonaws.com:/dir/k"),
		"user":                       at("https://u@reports.s3.us-east-1.amazonaws.com/dir/k"),
		"user and password":          at("https://u:p@reports.s3.us-east-1.amazonaws.com/dir/k"),
		"good host as user":          at("https://reports.s3.us-east-1.amazonaws.com@evil.example/dir/k"),
		"good host as escaped user":  at("https://reports.s3.us-east-1.amazonaws.com%40evil.example/dir/k"),
		"backslash host":             at(`https://evil.example\@reports.s3.us-east-1.amazonaws.com/dir/k`),
		"other host":                 at("https://evil.example/dir/k"),
		"host with good suffix":      at("https://evil-reports.s3.us-east-1.amazonaws.com/dir/k"),
		"host with good prefix":      at("https://reports.s3.us-east-1.amazonaws.com.evil.example/dir/k"),
		"host in capitals":           at("https://REPORTS.s3.us-east-1.amazonaws.com/dir/k"),
		"host with final dot":        at("https://reports.s3.us-east-1.amazonaws.com./dir/k"),
		"host escaped":               at("https://reports%2es3.us-east-1.amazonaws.com/dir/k"),
		"other bucket":               at("https://secrets.s3.us-east-1.amazonaws.com/dir/k"),
		"other region":               at("https://reports.s3.us-east-2.amazonaws.com/dir/k"),
		"other partition":            at("https://reports.s3.us-east-1.amazonaws.com.cn/dir/k"),
		"global endpoint":            at("https://reports.s3.amazonaws.com/dir/k"),
		"old endpoint":               at("https://reports.s3-us-east-1.amazonaws.com/dir/k"),
		"accelerate":                 at("https://reports.s3-accelerate.amazonaws.com/dir/k"),
		"fips":                       at("https://reports.s3-fips.us-east-1.amazonaws.com/dir/k"),
		"website":                    at("https://reports.s3-website-us-east-1.amazonaws.com/dir/k"),
		"path style":                 at("https://s3.us-east-1.amazonaws.com/reports/dir/k"),
		"access point":               at("https://reports-123456789012.s3-accesspoint.us-east-1.amazonaws.com/dir/k"),
		"loopback":                   at("https://127.0.0.1/dir/k"),
		"loopback in decimal":        at("https://2130706433/dir/k"),
		"loopback in octal":          at("https://0177.0.0.1/dir/k"),
		"loopback in IPv6":           at("https://[::1]/dir/k"),
		"mapped loopback":            at("https://[::ffff:127.0.0.1]/dir/k"),
		"metadata service":           at("https://169.254.169.254/latest/meta-data/"),
		"metadata service in IPv6":   at("https://[fd00:ec2::254]/dir/k"),
		"localhost":                  at("https://localhost/dir/k"),
		"unicode dot":                at("https://reports。s3.us-east-1.amazonaws.com/dir/k"),
		"zone":                       at("https://[fe80::1%25eth0]/dir/k"),
		"other key":                  at(good + "2"),
		"no key":                     at("https://reports.s3.us-east-1.amazonaws.com/"),
		"no path":                    at("https://reports.s3.us-east-1.amazonaws.com"),
		"dots to the key":            at("https://reports.s3.us-east-1.amazonaws.com/x/../dir/k"),
		"double slash":               at("https://reports.s3.us-east-1.amazonaws.com//dir/k"),
		"key escaped":                at("https://reports.s3.us-east-1.amazonaws.com/dir%2Fk"),
		"key escaped needlessly":     at("https://reports.s3.us-east-1.amazonaws.com/dir/%6b"),
		"key with slash behind":      at(good + "/"),
		"key with parameter":         at(good + ";x"),
		"key in capitals":            at("https://reports.s3.us-east-1.amazonaws.com/DIR/K"),
		"fragment":                   good + "?" + query + "#x",
		"empty fragment":             good + "?" + query + "#",
		"space behind":               good + "?" + query + " ",
		"newline":                    good + "?" + query + "\n",
		"header injected":            good + "?" + query + "\r\nHost: evil.example",
		"null":                       good + "?" + query + "\x00",
		"second question mark":       good + "?" + query + "?x=1",
		"only a question mark":       "?",
		"another parameter":          good + "?" + query + "&x=1",
		"response header":            good + "?" + query + "&response-content-type=text%2Fhtml",
		"acl":                        good + "?acl&" + query,
		"uploads":                    good + "?uploads=&" + query,
		"empty parameter":            good + "?" + query + "&",
		"empty parameter before":     good + "?&" + query,
		"parameter twice":            good + "?" + query + "&X-Amz-Expires=900",
		"versionId twice":            good + "?" + query + "&versionId=v2",
		"semicolon":                  edit("&x-id", ";x-id"),
		"parameter in small letters": edit("X-Amz-Date", "x-amz-date"),
		"parameter name escaped":     edit("X-Amz-Date", "X%2DAmz-Date"),
		"parameter value escaped":    edit("x-id=GetObject", "x-id=Get%4Fbject"),
		"escape in small letters":    edit("%2F", "%2f"),
		"no escape":                  edit("%2F", "/"),
		"broken escape":              edit("%2F", "%2"),
		"other versionId":            edit("versionId=v1", "versionId=v2"),
		"no versionId":               drop("versionId"),
		"no signature":               drop("X-Amz-Signature"),
		"no expiry":                  drop("X-Amz-Expires"),
		"no credential":              drop("X-Amz-Credential"),
		"no date":                    drop("X-Amz-Date"),
		"no signed headers":          drop("X-Amz-SignedHeaders"),
		"no algorithm":               drop("X-Amz-Algorithm"),
		"other algorithm":            edit("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
		"version 2 signature":        good + "?AWSAccessKeyId=A&Expires=1&Signature=x&versionId=v1",
		"scope of another region":    edit("us-east-1%2Fs3", "us-west-1%2Fs3"),
		"scope of another service":   edit("us-east-1%2Fs3", "us-east-1%2Fsts"),
		"scope of no request":        edit("aws4_request", "aws4"),
		"scope of another day":       edit("X-Amz-Date=20", "X-Amz-Date=19"),
		"endless":                    edit("X-Amz-Expires=900", "X-Amz-Expires=604801"),
		"no life":                    edit("X-Amz-Expires=900", "X-Amz-Expires=0"),
		"negative life":              edit("X-Amz-Expires=900", "X-Amz-Expires=-9"),
		"more signed headers":        edit("SignedHeaders=host", "SignedHeaders=host%3Brange"),
		"signature too short":        edit("X-Amz-Signature=", "X-Amz-Signature=z"),
		"other operation":            edit("x-id=GetObject", "x-id=DeleteObject"),
		"checksum mode":              edit("=ENABLED", "=DISABLED"),
		"token with a space":         edit("tokentoken", "token%20token"),
	} {
		bent := *transfer
		bent.URL = secret.New(hostile)
		got, err := newGuard(t, "").Rebuild(&bent)
		if err == nil {
			t.Errorf("%s: accepted %s", name, got.Reveal())
			continue
		}
		if !fault.IsPermanent(err) || fault.Class(err) != guard.Class {
			t.Errorf("%s: got class %s of %v, want a permanent %s", name, fault.Class(err), err, guard.Class)
		}
		for _, leak := range []string{"tokentoken", "ASIAEXAMPLE", "Signature="} {
			if strings.Contains(err.Error(), leak) {
				t.Errorf("%s: the error quotes the query: %v", name, err)
			}
		}
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
		const place = "https://reports.s3.us-east-1.amazonaws.com/dir/%E5%B9%B4%20k?"
		if !strings.HasPrefix(got.Reveal(), place) && !strings.HasPrefix(got.Reveal(), strings.Replace(place, ".s3.", ".s3.dualstack.", 1)) {
			t.Fatalf("%q became %q", text, got.Reveal())
		}
		again := bent
		again.URL = got
		if twice, err := g.Rebuild(&again); err != nil || !twice.Equal(got) {
			t.Fatalf("%q is not stable: %v", text, err)
		}
	})
}
