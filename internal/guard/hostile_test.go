package guard_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/guard"
	"github.com/s3ferry/s3ferry/internal/secret"
)

const (
	goodHost = "reports.s3.us-east-1.amazonaws.com"
	goodURL  = "https://" + goodHost + "/dir/k"
)

// query is the query of a good URL, to be bent.
type query string

// with returns the good place with the query where old is replaced.
func (q query) with(t *testing.T, old, replacement string) string {
	t.Helper()
	if !strings.Contains(string(q), old) {
		t.Fatalf("no %s in %s", old, q)
	}
	return goodURL + "?" + strings.Replace(string(q), old, replacement, 1)
}

// without returns the good place with the query without a parameter.
func (q query) without(name string) string {
	pairs := slices.DeleteFunc(strings.Split(string(q), "&"), func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
	return goodURL + "?" + strings.Join(pairs, "&")
}

// at returns other places with the good query.
func (q query) at(places ...string) []string {
	urls := make([]string, len(places))
	for i, place := range places {
		urls[i] = place + "?" + string(q)
	}
	return urls
}

// hosts returns other hosts with the good path and query.
func (q query) hosts(hosts ...string) []string {
	urls := make([]string, len(hosts))
	for i, host := range hosts {
		urls[i] = "https://" + host + "/dir/k?" + string(q)
	}
	return urls
}

// paths returns other paths at the good host with the good query.
func (q query) paths(paths ...string) []string {
	urls := make([]string, len(paths))
	for i, path := range paths {
		urls[i] = "https://" + goodHost + path + "?" + string(q)
	}
	return urls
}

// hostileURLs are by trick, for an object "dir/k" of version v1 in the bucket
// "reports" in us-east-1.
func hostileURLs(t *testing.T, q query) map[string][]string {
	t.Helper()
	whole := goodURL + "?" + string(q)
	return map[string][]string{
		"no presigned URL": {
			"", "?", "/", "dir/k", "//", "https://", "https:///dir/k", "https:?" + string(q), goodURL, goodURL + "?", "mailto:a@b.example", "data:text/plain,x",
		},
		"scheme": q.at(
			"http://"+goodHost+"/dir/k", "ftp://"+goodHost+"/dir/k", "s3://reports/dir/k", "gopher://"+goodHost+"/dir/k",
			"HTTPS://"+goodHost+"/dir/k", "hTtps://"+goodHost+"/dir/k", "//"+goodHost+"/dir/k", goodHost+"/dir/k",
			"https:"+goodHost+"/dir/k", "https:/"+goodHost+"/dir/k", "https:///"+goodHost+"/dir/k", `https:\\`+goodHost+"/dir/k",
			"file:///etc/passwd", "file:///proc/self/environ", "unix:///var/run/docker.sock", "https+unix://"+goodHost+"/dir/k", "javascript:alert(1)",
		),
		"port": q.hosts(
			goodHost+":443", goodHost+":80", goodHost+":22", goodHost+":", goodHost+":0443", goodHost+":65536", goodHost+":-1", goodHost+":443:443",
		),
		"user information": q.hosts(
			"u@"+goodHost, "u:p@"+goodHost, "@"+goodHost, ":@"+goodHost, goodHost+"@evil.example", goodHost+":443@evil.example",
			goodHost+"%40evil.example", goodHost+"%00@evil.example", `evil.example\@`+goodHost, "evil.example#@"+goodHost, "evil.example?@"+goodHost,
			goodHost+`\.evil.example`, goodHost+"/@evil.example",
		),
		"spelling of the host": q.hosts(
			"REPORTS.s3.us-east-1.amazonaws.com", "reports.S3.us-east-1.amazonaws.com", "reports.s3.US-EAST-1.amazonaws.com", "reports.s3.us-east-1.AmazonAWS.com",
			goodHost+".", goodHost+"..", "."+goodHost, "reports..s3.us-east-1.amazonaws.com", "reports%2es3.us-east-1.amazonaws.com",
			"%72eports.s3.us-east-1.amazonaws.com", goodHost+"%20", goodHost+"%00", goodHost+"%2f", goodHost+"%2fx", "["+goodHost+"]", " "+goodHost, goodHost+" ",
		),
		"another host": q.hosts(
			"evil.example", "evil-"+goodHost, "evil."+goodHost, goodHost+".evil.example", goodHost+"-evil.example", goodHost+"evil.example", "evil.example."+goodHost,
			"reports.s3.us-east-1.amazonaws.com.cn", "reports.s3.us-east-1.amazonaws.co", "reports.s3.us-east-1.amazonaws.corn", "reports.s3.us-east-1.arnazonaws.com",
			"reports.s3.us-east-1.amazonaws.eu", "amazonaws.com", "com", "localhost", "localhost.localdomain", "ip6-localhost", "metadata.google.internal", "instance-data",
		),
		"letters of other scripts": q.hosts(
			"reports。s3.us-east-1.amazonaws.com", "reports．s3.us-east-1.amazonaws.com", "ｒeports.s3.us-east-1.amazonaws.com", "reports.s3.us-east-1.amаzonaws.com",
			"reports.s3.us-east-1.amazonaws.ⅽom", "repor\u00adts.s3.us-east-1.amazonaws.com", "reports\u200b.s3.us-east-1.amazonaws.com", "xn--reports-.s3.us-east-1.amazonaws.com",
			"reports.s3.us-east-1.xn--amzonaws-9fg.com", "①②⑦.⓪.⓪.①", "reports\uff0fs3.us-east-1.amazonaws.com", "reports.s3.us-east-1.amazonaws.com\u2024evil.example",
		),
		"address": q.hosts(
			"127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "0", "0.0.0.0",
			"10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "169.254.169.254.", "2852039166", "0xA9FEA9FE", "169.254.100.1:9001",
			"127.0.0.1:9001", "169.254.170.2", "52.216.1.1", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
			"[0:0:0:0:0:0:0:1]", "[fe80::1%25eth0]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fc00::1]", "[ff02::1]",
			"127.0.0.1.nip.example", "169.254.169.254.sslip.example",
		),
		"another place of S3": q.hosts(
			"secrets.s3.us-east-1.amazonaws.com", "reports-2.s3.us-east-1.amazonaws.com", "report.s3.us-east-1.amazonaws.com", "reports.s3.us-east-2.amazonaws.com",
			"reports.s3.cn-north-1.amazonaws.com.cn", "reports.s3.amazonaws.com", "reports.s3-us-east-1.amazonaws.com", "reports.s3-external-1.amazonaws.com",
			"reports.s3-website-us-east-1.amazonaws.com", "reports.s3-website.us-east-1.amazonaws.com", "reports-123456789012.s3-accesspoint.us-east-1.amazonaws.com",
			"reports.s3-object-lambda.us-east-1.amazonaws.com", "reports.s3express-use1-az4.us-east-1.amazonaws.com", "reports.s3-control.us-east-1.amazonaws.com",
			"reports.s3-outposts.us-east-1.amazonaws.com", "reports.bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com", "reports.mrap.accesspoint.s3-global.amazonaws.com",
			"reports.s3-fips-us-east-1.amazonaws.com", "reports.dualstack.s3.us-east-1.amazonaws.com", "reports.s3-accelerate.us-east-1.amazonaws.com", "reports.s3-accelerate-fips.amazonaws.com",
			"s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com/reports", "s3.dualstack.us-east-1.amazonaws.com/reports", "s3-accelerate.amazonaws.com/reports",
			"sts.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com", "lambda.us-east-1.amazonaws.com", "reports.execute-api.us-east-1.amazonaws.com",
		),
		"path": q.paths(
			"", "/", "/dir", "/dir/", "/dir/k2", "/dir/k/", "/dir/K", "/DIR/k", "/dir/k;x", "/dir/k.", "/dir/k%20", "/dir/k%00", "/dir/k%0a", "/dir/k%0d%0aHost:%20evil.example",
			"//dir/k", "/dir//k", "/./dir/k", "/dir/./k", "/x/../dir/k", "/../dir/k", "/dir/k/..", "/%2e%2e/dir/k", "/..%2fdir/k", "/..;/dir/k", "/dir%2Fk", "/dir%2fk", "/dir%5Ck", `/dir\k`,
			"/dir/%6b", "/dir/%256b", "/dir/%", "/dir/%zz", "/%64ir/k", "/reports/dir/k", "dir/k", "/dir/k%3Fx", "/dir/k%23x", "/dir/ｋ",
		),
		"what is no query": {
			whole + "#x", whole + "#", whole + "%23", whole + " ", " " + whole, whole + "\t", whole + "\n", whole + "\r\nHost: evil.example", whole + "\x00", "\x00" + whole, whole + "\x7f",
			whole + "?x=1", strings.Replace(whole, "?", "#?", 1), strings.Replace(whole, "?", "%3F", 1), strings.Replace(whole, "?", "??", 1), strings.Replace(whole, "?", ";", 1),
		},
		"more parameters": {
			whole + "&x=1", whole + "&", goodURL + "?&" + string(q), whole + "&=", whole + "&=x", whole + "&&", whole + "&x", q.with(t, "&x-id", ";x-id"), q.with(t, "&x-id", "%26x-id"),
			whole + "&response-content-type=text%2Fhtml", whole + "&response-content-disposition=attachment", whole + "&partNumber=1", whole + "&X-Amz-Request-Payer=requester",
			goodURL + "?acl&" + string(q), goodURL + "?acl=&" + string(q), goodURL + "?uploads=&" + string(q), goodURL + "?torrent=&" + string(q), goodURL + "?select=&select-type=2&" + string(q),
			whole + "&X-Amz-Expires=900", whole + "&versionId=v1", whole + "&versionId=v2", whole + "&versionID=v2", whole + "&VersionId=v2", whole + "&X-Amz-Signature=" + strings.Repeat("0", 64),
			whole + "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", whole + "&X-Amz-Region-Set=*", whole + "&X-Amz-S3session-Token=x", whole + "&x-amz-server-side-encryption-customer-key=x",
		},
		"fewer parameters": {
			q.without("versionId"), q.without("X-Amz-Signature"), q.without("X-Amz-Expires"), q.without("X-Amz-Credential"), q.without("X-Amz-Date"), q.without("X-Amz-SignedHeaders"), q.without("X-Amz-Algorithm"),
			goodURL + "?AWSAccessKeyId=A&Expires=1&Signature=x&versionId=v1", goodURL + "?versionId=v1",
		},
		"spelling of a parameter": {
			q.with(t, "X-Amz-Date", "x-amz-date"), q.with(t, "X-Amz-Date", "X%2DAmz-Date"), q.with(t, "X-Amz-Date", "X-Amz-Date%00"), q.with(t, "X-Amz-Date=", "X-Amz-Date%3D"), q.with(t, "x-id=GetObject", "x-id=Get%4Fbject"),
			q.with(t, "%2F", "%2f"), q.with(t, "%2F", "/"), q.with(t, "%2F", "%2"), q.with(t, "%2F", "%252F"), q.with(t, "x-id=GetObject", "x-id=GetObject+"), q.with(t, "x-id=GetObject", "x-id=GetObject%0A"), q.with(t, "X-Amz-Date=", "X-Amz-Date[]="),
		},
		"value of a parameter": {
			q.with(t, "versionId=v1", "versionId=v2"), q.with(t, "versionId=v1", "versionId="), q.with(t, "versionId=v1", "versionId=null"), q.with(t, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), q.with(t, "AWS4-HMAC-SHA256", "aws4-hmac-sha256"),
			q.with(t, "us-east-1%2Fs3", "us-west-1%2Fs3"), q.with(t, "us-east-1%2Fs3", "us-east-1%2Fsts"), q.with(t, "us-east-1%2Fs3", "us-east-1%2Fs3express"), q.with(t, "us-east-1%2Fs3", "%2Fs3"), q.with(t, "us-east-1%2Fs3", "us-east-1%2Fs3%2Fs3"),
			q.with(t, "aws4_request", "aws4"), q.with(t, "ASIAEXAMPLE%2F", ""), q.with(t, "ASIAEXAMPLE", ""), q.with(t, "ASIAEXAMPLE", "ASIA%2FEXAMPLE"), q.with(t, "ASIAEXAMPLE", strings.Repeat("A", 129)), q.with(t, "X-Amz-Date=20", "X-Amz-Date=19"), q.with(t, "X-Amz-Date=20", "X-Amz-Date=2020"),
			q.with(t, "X-Amz-Expires=900", "X-Amz-Expires=604801"), q.with(t, "X-Amz-Expires=900", "X-Amz-Expires=999999"), q.with(t, "X-Amz-Expires=900", "X-Amz-Expires=9999999999"), q.with(t, "X-Amz-Expires=900", "X-Amz-Expires=0"), q.with(t, "X-Amz-Expires=900", "X-Amz-Expires=-9"),
			q.with(t, "X-Amz-Expires=900", "X-Amz-Expires=0900"), q.with(t, "X-Amz-Expires=900", "X-Amz-Expires=9e2"), q.with(t, "X-Amz-Expires=900", "X-Amz-Expires="), q.with(t, "SignedHeaders=host", "SignedHeaders=host%3Brange"), q.with(t, "SignedHeaders=host", "SignedHeaders="), q.with(t, "SignedHeaders=host", "SignedHeaders=HOST"),
			q.with(t, "SignedHeaders=host", "SignedHeaders=host%3Bx-amz-server-side-encryption-customer-key"), q.with(t, "X-Amz-Signature=", "X-Amz-Signature=z"), q.with(t, "X-Amz-Signature=", "X-Amz-Signature=00"), q.with(t, "x-id=GetObject", "x-id=DeleteObject"), q.with(t, "=ENABLED", "=DISABLED"), q.with(t, "=ENABLED", "=enabled"),
			q.with(t, "tokentoken", "token%20token"), q.with(t, "tokentoken", "token%0Atoken"), q.with(t, "tokentoken", ""), q.with(t, "tokentoken", "%C3%A9"),
		},
	}
}

func TestRebuildRefusesHostileURLs(t *testing.T) {
	transfer := presigned{region: "us-east-1", bucket: "reports", key: "dir/k", version: "v1", token: "tokentoken"}.transfer(t)
	text, ok := strings.CutPrefix(transfer.URL.Reveal(), goodURL+"?")
	if !ok {
		t.Fatalf("the presigner wrote %s", transfer.URL.Reveal())
	}
	if _, err := newGuard(t, "").Rebuild(transfer); err != nil {
		t.Fatalf("the URL before it is bent: %v", err)
	}
	seen := map[string]string{}
	for trick, urls := range hostileURLs(t, query(text)) {
		for i, hostile := range urls {
			name := fmt.Sprintf("%s %d", trick, i)
			if twin, twice := seen[hostile]; twice {
				t.Errorf("%s: the same as %s", name, twin)
			}
			seen[hostile] = name
			bent := *transfer
			bent.URL = secret.New(hostile)
			got, err := newGuard(t, "").Rebuild(&bent)
			if err == nil {
				t.Errorf("%s: accepted %s as %s", name, hostile, got.Reveal())
				continue
			}
			if !fault.IsPermanent(err) || fault.Class(err) != guard.Class {
				t.Errorf("%s: got class %s of %v, want a permanent %s", name, fault.Class(err), err, guard.Class)
			}
			for _, leak := range []string{"tokentoken", "ASIAEXAMPLE", "Signature=", "Signature%3D"} {
				if strings.Contains(err.Error(), leak) {
					t.Errorf("%s: the error quotes the query: %v", name, err)
				}
			}
		}
	}
	t.Logf("%d hostile URLs", len(seen))
}

// What is no S3 of the region's own partition is no place for its bucket, though
// the SDK would sign for it.
func TestRebuildRefusesEndpointsThatARegionHasNot(t *testing.T) {
	good := presigned{region: "us-gov-west-1", bucket: "reports", key: "k"}.transfer(t)
	_, text, _ := strings.Cut(good.URL.Reveal(), "?")
	for _, host := range []string{
		"reports.s3-accelerate.amazonaws.com", "reports.s3-accelerate.dualstack.amazonaws.com", "reports.s3.us-east-1.amazonaws.com", "reports.s3.us-gov-east-1.amazonaws.com",
	} {
		bent := *good
		bent.URL = secret.New("https://" + host + "/k?" + text)
		if _, err := newGuard(t, "").Rebuild(&bent); fault.Class(err) != guard.Class {
			t.Errorf("%s: got %v, want %s", host, err, guard.Class)
		}
	}
}
