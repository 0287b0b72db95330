package sender

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/mailbox/mailboxtest"
	"github.com/s3ferry/s3ferry/internal/metric/metrictest"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

func handle(t *testing.T, s *Sender, b events.SQSEvent) []string {
	t.Helper()
	response, err := s.Handle(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return failures(response)
}

func TestAnObjectWithEverything(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, key := newCloud(t, api)
	source := c.put("数据/1+1=100%/🚢 \"x\".txt", "v1", object{
		header: map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "max-age=60", "Content-Encoding": "gzip",
			"Content-Disposition": `attachment; filename="x"`, "Content-Language": "zh", "Expires": "next Tuesday", "X-Amz-Website-Redirect-Location": "/elsewhere",
			"X-Amz-Meta-Owner": "=?UTF-8?B?6Ii5?=", "X-Amz-Meta-Case-Study": "Kept As It Is",
			"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Checksum-Crc64nvme": "AAAAAAAAAAA=", "X-Amz-Checksum-Type": "FULL_OBJECT",
		},
		tags: map[string]string{"team": "船", "empty": ""},
	})
	source.Size = 0 // the event's word is not taken for it
	if stay := handle(t, s, batch(told(source)...)); stay != nil {
		t.Fatalf("%v stay: %s", stay, &c.logs)
	}
	got := transfers(t, api, key)
	if len(got) != 1 {
		t.Fatalf("got %d transfers, expected 1", len(got))
	}
	source.Size = 7
	if diff := cmp.Diff(source, got[0].Source); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wire.Object{
		ContentType: "text/plain; charset=utf-8", CacheControl: "max-age=60", ContentEncoding: "gzip",
		ContentDisposition: `attachment; filename="x"`, ContentLanguage: "zh", Expires: "next Tuesday", WebsiteRedirect: "/elsewhere",
		Metadata:     map[string]string{"owner": "=?UTF-8?B?6Ii5?=", "case-study": "Kept As It Is"},
		Tags:         map[string]string{"team": "船", "empty": ""},
		StorageClass: "STANDARD_IA",
		Checksum:     &wire.Checksum{Algorithm: "CRC64NVME", Type: wire.FullObject, Value: "AAAAAAAAAAA="},
	}, got[0].Object); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}

	u := parseURL(t, got[0].URL)
	if u.Scheme+"://"+u.Host != "http://127.0.0.2:9000" || u.Path != "/source/"+source.Key {
		t.Errorf("URL is of %s://%s%s", u.Scheme, u.Host, u.Path)
	}
	query := u.Query()
	for name, want := range map[string]string{
		"versionId": "v1", "X-Amz-Checksum-Mode": "ENABLED", "X-Amz-Expires": "2700",
		"X-Amz-Security-Token": "signer-token", "X-Amz-SignedHeaders": "host",
	} {
		if query.Get(name) != want {
			t.Errorf("URL has %s=%q, expected %q", name, query.Get(name), want)
		}
	}
	if !strings.HasPrefix(query.Get("X-Amz-Credential"), "ASIASIGNER/") {
		t.Errorf("URL is not signed by the signer role: %s", query.Get("X-Amz-Credential"))
	}
	date, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if end := date.Add(45 * time.Minute); err != nil || got[0].NotAfter.After(end) || end.Sub(got[0].NotAfter) > time.Minute {
		t.Errorf("notAfter is %s, the URL ends %s (%v)", got[0].NotAfter, end, err)
	}
}

// Every object needs one HEAD and no more, and the batch one session, one look at
// the inbox and one request to the API.
func TestTenPlainObjects(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, key := newCloud(t, api)
	var sources []wire.Source
	for i := range 10 {
		sources = append(sources, c.put(fmt.Sprintf("a/%d", i), "", object{}))
	}
	if stay := handle(t, s, batch(told(sources...)...)); stay != nil {
		t.Fatalf("%v stay: %s", stay, &c.logs)
	}
	for i, transfer := range transfers(t, api, key) {
		if transfer.Source != sources[i] || parseURL(t, transfer.URL).Query().Has("versionId") {
			t.Errorf("transfer %d is of %+v", i, transfer.Source)
		}
	}
	if len(api.Inbox()) != 10 || !slices.Equal(api.Requests(), []string{"GetDepth", "SendTransfers"}) || len(c.asked) != 10 || c.sessions != 1 {
		t.Errorf("got %d transfers by %v, %d looks, %d sessions", len(api.Inbox()), api.Requests(), len(c.asked), c.sessions)
	}
}

// What the receiver could not pull in time stays in the outbox, unsigned.
func TestAFullInboxHoldsEventsBack(t *testing.T) {
	api := mailboxtest.New(t)
	api.Attributes[door.InFlight] = "1500"
	c, s, key := newCloud(t, api)
	c.pace = `{"perSecond":1,"over":60}` // 1,350 in half of 45 minutes
	stay := handle(t, s, batch(told(c.put("a", "", object{}), c.put("b", "", object{}))...))
	if len(stay) != 2 || len(transfers(t, api, key)) != 0 || len(c.asked) != 0 || len(c.dead) != 0 {
		t.Errorf("%v stay, %d sent, %d looked at, dead letters %v", stay, len(api.Inbox()), len(c.asked), c.dead)
	}
	for handle, seconds := range c.hidden {
		if seconds < 150 {
			t.Errorf("%s is hidden for %d s, expected at least the 150 s that the excess takes", handle, seconds)
		}
	}
	if len(c.hidden) != 2 || !strings.Contains(c.logs.String(), `"class":"backpressure"`) {
		t.Errorf("%d messages hidden: %s", len(c.hidden), &c.logs)
	}
	got, _ := metrics(t, c)
	if diff := cmp.Diff(map[string][]float64{"Held in Count": {2}}, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// metrics returns what was measured, less the memory, which has to be there.
func metrics(t *testing.T, c *cloud) (map[string][]float64, int) {
	t.Helper()
	got, lines := metrictest.Read(t, c.logs.String(), "stack-Sender")
	if memory := got["Memory in Bytes"]; len(memory) != 1 || memory[0] < 1<<20 || memory[0] > 1<<40 {
		t.Errorf("memory: got %g, want that of this process", memory)
	}
	delete(got, "Memory in Bytes")
	return got, lines
}

func TestMetrics(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, _ := newCloud(t, api)
	gone := c.put("gone", "", object{})
	delete(c.objects, "gone\x00")
	handle(t, s, batch(told(c.put("a", "", object{}), c.put("b", "", object{}), gone, c.put("busy", "", object{status: 503}))...))
	got, lines := metrics(t, c)
	want := map[string][]float64{"Sent in Count": {2}, "SentBytes in Bytes": {7, 7}, "Unneeded in Count": {1}, "Unsent in Count": {1}}
	if diff := cmp.Diff(want, got); diff != "" || lines != 1 {
		t.Errorf("metrics in %d lines (-want +got):\n%s", lines, diff)
	}
}

func TestMessagesOfEveryForm(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, key := newCloud(t, api)
	for _, k := range []string{"a", "b c+d", "e"} {
		c.put(k, "", object{})
	}
	record := func(k string) string {
		inner := strings.TrimSuffix(strings.TrimPrefix(event.Encode(wire.OpPut, c.put(k, "", object{})), `{"Records":[`), "]}")
		return inner
	}
	bodies := []string{
		`{"Records":[` + record("a") + "," + record("b c+d") + `]}`,
		`{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"source"}`,
		`{"detail-type":"Object Created","source":"aws.s3","region":"us-east-1","time":"2026-11-23T08:00:00Z",
			"detail":{"bucket":{"name":"source"},"object":{"key":"e","size":7,"etag":"e1","sequencer":"0061"}}}`,
		strings.Replace(event.Encode(wire.OpPut, c.put("deleted", "", object{})), "ObjectCreated:Put", "ObjectRemoved:Delete", 1),
		`{"Records":[{}]}`,
	}
	if stay := handle(t, s, batch(bodies...)); stay != nil {
		t.Fatalf("%v stay: %s", stay, &c.logs)
	}
	var keys []string
	for _, transfer := range transfers(t, api, key) {
		keys = append(keys, transfer.Source.Key)
	}
	if diff := cmp.Diff([]string{"a", "b c+d", "e"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if len(c.dead) != 1 || c.dead[0].Class != event.Malformed || c.dead[0].Body != bodies[4] || c.dead[0].Reason == "" {
		t.Errorf("dead letters: %+v", c.dead)
	}
	for _, ignored := range []string{"s3:TestEvent", "delete of deleted"} {
		if !strings.Contains(c.logs.String(), ignored) {
			t.Errorf("the log is silent about %s", ignored)
		}
	}
}

func TestDeletions(t *testing.T) {
	deleted := func(name, version string) string {
		s := wire.Source{Region: "us-east-1", Bucket: "source", Key: "k", VersionID: version, Sequencer: "0099", EventTime: time.Now().UTC()}
		body := event.Encode(wire.OpDelete, s)
		for _, known := range []string{"ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:Delete"} {
			body = strings.Replace(body, `"`+known+`"`, `"`+name+`"`, 1)
		}
		return body
	}
	none := object{status: 404, code: "NoSuchKey"}
	for name, tc := range map[string]struct {
		body   string
		source object
		op     wire.Op
		looks  int
	}{
		"unversioned":                      {deleted("ObjectRemoved:Delete", ""), none, wire.OpDelete, 0},
		"delete marker":                    {deleted("ObjectRemoved:DeleteMarkerCreated", "m1"), none, wire.OpDelete, 0},
		"the last version":                 {deleted("ObjectRemoved:Delete", "v1"), none, wire.OpDelete, 1},
		"a version, and another shows":     {deleted("ObjectRemoved:Delete", "v1"), object{header: map[string]string{"X-Amz-Version-Id": "v0"}}, wire.OpPut, 2},
		"expired, unversioned":             {deleted("LifecycleExpiration:Delete", ""), none, wire.OpDelete, 1},
		"a version expired, another shows": {deleted("LifecycleExpiration:Delete", ""), object{header: map[string]string{"X-Amz-Version-Id": "v0"}}, wire.OpPut, 2},
	} {
		t.Run(name, func(t *testing.T) {
			api := mailboxtest.New(t)
			c, s, key := newCloud(t, api)
			s.Deletes = true
			shown := c.put("k", "", tc.source)
			c.put("k", "v0", tc.source)
			if stay := handle(t, s, batch(tc.body)); stay != nil {
				t.Fatalf("%v stay: %s", stay, &c.logs)
			}
			got := transfers(t, api, key)
			if len(got) != 1 || got[0].Op != tc.op || got[0].Source.Sequencer != "0099" || len(c.asked) != tc.looks {
				t.Fatalf("got %+v after %d looks, want one %s after %d", got, len(c.asked), tc.op, tc.looks)
			}
			if tc.op == wire.OpPut && (got[0].Source.VersionID != "v0" || got[0].Source.ETag != shown.ETag || got[0].Source.Size != shown.Size) {
				t.Errorf("got %+v, want the version that shows", got[0].Source)
			}
			if tc.op == wire.OpDelete && time.Until(got[0].NotAfter) < 13*24*time.Hour {
				t.Errorf("the deletion dies at %v", got[0].NotAfter)
			}
		})
	}
	api := mailboxtest.New(t)
	c, s, _ := newCloud(t, api)
	s.Deletes = true
	c.put("k", "", object{status: 503, code: "SlowDown"})
	if stay := handle(t, s, batch(deleted("ObjectRemoved:Delete", "v1"))); len(stay) != 1 || len(api.Inbox()) > 0 {
		t.Errorf("nobody knows what shows: %v stay, %v sent", stay, api.Inbox())
	}
}

// A change of tags names the version, and its URL the tags: what they are is read
// by the receiver.
func TestTagChanges(t *testing.T) {
	told := func(s wire.Source) string {
		s.Size, s.Sequencer = 0, ""
		return event.Encode(wire.OpTag, s)
	}
	for name, tc := range map[string]struct {
		version string
		at      object // the source
		sent    bool
		looks   int
	}{
		"a version":            {"v1", object{}, true, 0},
		"unversioned":          {"", object{}, true, 1},
		"unversioned and gone": {"", object{status: 404, code: "NoSuchKey"}, false, 1},
		"overwritten":          {"", object{header: map[string]string{"ETag": `"other"`}}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			api := mailboxtest.New(t)
			c, s, key := newCloud(t, api)
			s.TagChanges = true
			source := c.put("k", tc.version, tc.at)
			if tc.at.header != nil {
				source.ETag = "e1"
			}
			if stay := handle(t, s, batch(told(source))); stay != nil {
				t.Fatalf("%v stay: %s", stay, &c.logs)
			}
			got := transfers(t, api, key)
			if (len(got) == 1) != tc.sent || len(c.asked) != tc.looks {
				t.Fatalf("got %d transfers after %d looks, want %t after %d", len(got), len(c.asked), tc.sent, tc.looks)
			}
			if !tc.sent {
				return
			}
			query := parseURL(t, got[0].URL).Query()
			if got[0].Op != wire.OpTag || got[0].Source.VersionID != tc.version || got[0].Source.ETag != source.ETag || got[0].Source.Sequencer != "" ||
				!query.Has("tagging") || query.Has("X-Amz-Checksum-Mode") || query.Get("x-id") != "GetObjectTagging" || query.Get("versionId") != tc.version {
				t.Errorf("got %+v with the parameters %v", got[0], query)
			}
		})
	}
	api := mailboxtest.New(t)
	c, s, _ := newCloud(t, api)
	if stay := handle(t, s, batch(told(c.put("k", "v1", object{})))); len(stay) > 0 || len(api.Inbox()) > 0 || !strings.Contains(c.logs.String(), "tag of k") {
		t.Errorf("switched off: %v stay, %v sent: %s", stay, api.Inbox(), &c.logs)
	}
}

func TestWhatTheSourceAnswers(t *testing.T) {
	head := func(kv ...string) object {
		o := object{header: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			o.header[kv[i]] = kv[i+1]
		}
		return o
	}
	for name, tc := range map[string]struct {
		object object
		class  string // "" is sent; "-" needs no transfer
		stays  bool
		reason string
	}{
		"there":                       {head(), "", false, ""},
		"overwritten":                 {head("ETag", `"e2"`), "-", false, "superseded"},
		"gone":                        {object{status: 404, code: "NoSuchKey"}, "-", false, "gone"},
		"a delete marker":             {object{status: 405, code: "MethodNotAllowed"}, "-", false, "gone"},
		"denied":                      {object{status: 403, code: "AccessDenied", header: map[string]string{"message": "no s3:GetObject for you"}}, denied, false, "no s3:GetObject for you"},
		"sender's credentials died":   {object{status: 400, code: "ExpiredToken"}, busy, true, ""},
		"customer key":                {object{status: 400, code: "InvalidRequest", header: map[string]string{"message": "The object was stored using a form of Server Side Encryption."}}, customerKey, false, "SSE-C"},
		"another bad request":         {object{status: 400, code: "InvalidArgument"}, refused, false, "InvalidArgument"},
		"moved":                       {object{status: 301, code: "PermanentRedirect"}, refused, false, "301"},
		"slow down":                   {object{status: 503, code: "SlowDown"}, busy, true, ""},
		"internal error":              {object{status: 500, code: "InternalError"}, busy, true, ""},
		"too many":                    {object{status: 429, code: "TooManyRequests"}, busy, true, ""},
		"network":                     {object{status: -1}, busy, true, ""},
		"glacier":                     {head("X-Amz-Storage-Class", "GLACIER"), archived, false, "GLACIER"},
		"deep archive":                {head("X-Amz-Storage-Class", "DEEP_ARCHIVE"), archived, false, "restore it"},
		"glacier, restoring":          {head("X-Amz-Storage-Class", "GLACIER", "X-Amz-Restore", `ongoing-request="true"`), restoring, true, ""},
		"glacier, restored":           {head("X-Amz-Storage-Class", "GLACIER", "X-Amz-Restore", `ongoing-request="false", expiry-date="Fri, 21 Dec 2026 00:00:00 GMT"`), "", false, ""},
		"instant retrieval":           {head("X-Amz-Storage-Class", "GLACIER_IR"), "", false, ""},
		"tiering":                     {head("X-Amz-Storage-Class", "INTELLIGENT_TIERING"), "", false, ""},
		"tiering, archived":           {head("X-Amz-Storage-Class", "INTELLIGENT_TIERING", "X-Amz-Archive-Status", "DEEP_ARCHIVE_ACCESS"), archived, false, "DEEP_ARCHIVE_ACCESS"},
		"tiering, restoring":          {head("X-Amz-Storage-Class", "INTELLIGENT_TIERING", "X-Amz-Archive-Status", "ARCHIVE_ACCESS", "X-Amz-Restore", `ongoing-request="true"`), restoring, true, ""},
		"metadata not in headers":     {head("X-Amz-Missing-Meta", "2"), lostMetadata, false, "2 metadata entries"},
		"metadata not UTF-8":          {head("X-Amz-Meta-A", "\xff"), invalid, false, "UTF-8"},
		"metadata beyond the message": {head("X-Amz-Meta-A", strings.Repeat("x", 20<<10)), tooLarge, false, "metadata"},
		"size beyond S3":              {head("Content-Length", fmt.Sprint(int64(wire.MaxObjectSize)+1)), invalid, false, "size"},
		"tags in broken XML":          {object{tags: map[string]string{"t": "<"}}, busy, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			api := mailboxtest.New(t)
			c, s, _ := newCloud(t, api)
			good := c.put("good", "", object{})
			stay := handle(t, s, batch(told(c.put("k", "v1", tc.object), good)...))

			if got := len(stay) > 0; got != tc.stays || len(stay) > 1 {
				t.Errorf("%v stay, expected %t of the first: %s", stay, tc.stays, &c.logs)
			}
			want := 1
			if tc.class == "" {
				want = 2
			}
			if got := len(api.Inbox()); got != want {
				t.Errorf("got %d transfers, expected %d: the other object goes in any case", got, want)
			}
			switch dead := tc.class != "" && tc.class != "-" && !tc.stays; {
			case !dead && len(c.dead) > 0:
				t.Errorf("dead letters: %+v", c.dead)
			case dead && (len(c.dead) != 1 || c.dead[0].Class != tc.class || !strings.Contains(c.dead[0].Reason, tc.reason)):
				t.Errorf("dead letters: %+v, expected %s because of %q", c.dead, tc.class, tc.reason)
			}
			if tc.class != "" && tc.class != "-" && !strings.Contains(c.logs.String(), `"class":"`+tc.class+`"`) {
				t.Errorf("the log lacks class %s: %s", tc.class, &c.logs)
			}
			if tc.class == "-" && !strings.Contains(c.logs.String(), tc.reason) {
				t.Errorf("the log lacks %q: %s", tc.reason, &c.logs)
			}
		})
	}
}

// Once a transfer was sent, the receiver may hold half of it: it is told even
// where there is nothing to carry any more.
func TestWhatWasSentBeforeIsSentAgainThoughItIsGone(t *testing.T) {
	for name, o := range map[string]object{
		"gone":        {status: 404, code: "NoSuchKey"},
		"overwritten": {header: map[string]string{"ETag": `"e2"`}},
	} {
		api := mailboxtest.New(t)
		c, s, key := newCloud(t, api)
		source := c.put("k", "v1", o)
		source.Size = 12345
		b := batch(told(source, source)...)
		b.Records[1].MessageAttributes = map[string]events.SQSMessageAttribute{event.RoundAttribute: {DataType: "Number", StringValue: aws.String("3")}}
		if stay := handle(t, s, b); stay != nil {
			t.Fatalf("%s: %v stay: %s", name, stay, &c.logs)
		}
		got := transfers(t, api, key)
		if len(got) != 1 || got[0].Round != 3 || !cmp.Equal(got[0].Source, source) || got[0].ID != wire.ID(wire.OpPut, source) {
			t.Errorf("%s: got %+v, expected the transfer of the second message", name, got)
		}
	}
}

func TestChecksums(t *testing.T) {
	for name, tc := range map[string]struct {
		header [2]string
		kind   string
		want   *wire.Checksum
	}{
		"CRC32":             {[2]string{"X-Amz-Checksum-Crc32", "AAAAAA=="}, "FULL_OBJECT", &wire.Checksum{Algorithm: "CRC32", Type: "FULL_OBJECT", Value: "AAAAAA=="}},
		"CRC32C composite":  {[2]string{"X-Amz-Checksum-Crc32c", "AAAAAA==-3"}, "COMPOSITE", &wire.Checksum{Algorithm: "CRC32C", Type: "COMPOSITE", Value: "AAAAAA==-3"}},
		"SHA1 without type": {[2]string{"X-Amz-Checksum-Sha1", "AA=="}, "", &wire.Checksum{Algorithm: "SHA1", Type: "FULL_OBJECT", Value: "AA=="}},
		"SHA256, no type":   {[2]string{"X-Amz-Checksum-Sha256", "AA==-2"}, "", &wire.Checksum{Algorithm: "SHA256", Type: "COMPOSITE", Value: "AA==-2"}},
		"unknown":           {[2]string{"X-Amz-Checksum-Xxhash64", "AA=="}, "FULL_OBJECT", nil},
		"none":              {[2]string{"X-Other", "1"}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			api := mailboxtest.New(t)
			c, s, key := newCloud(t, api)
			o := object{header: map[string]string{tc.header[0]: tc.header[1]}}
			if tc.kind != "" {
				o.header["X-Amz-Checksum-Type"] = tc.kind
			}
			handle(t, s, batch(told(c.put("k", "", o))...))
			got := transfers(t, api, key)
			if len(got) != 1 {
				t.Fatalf("got %d transfers: %s", len(got), &c.logs)
			}
			if diff := cmp.Diff(tc.want, got[0].Object.Checksum); diff != "" {
				t.Errorf("checksum (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneOfTenFails(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, _ := newCloud(t, api)
	var sources []wire.Source
	for i := range 10 {
		o := object{}
		if i == 4 {
			o.status, o.code = http.StatusServiceUnavailable, "SlowDown"
		}
		sources = append(sources, c.put(fmt.Sprint(i), "", o))
	}
	stay := handle(t, s, batch(told(sources...)...))
	if diff := cmp.Diff([]string{"m4"}, stay); diff != "" {
		t.Errorf("messages that stay (-want +got):\n%s", diff)
	}
	if len(api.Inbox()) != 9 || c.hidden["h4"] < 5 || len(c.hidden) != 1 {
		t.Errorf("got %d transfers, hidden %v", len(api.Inbox()), c.hidden)
	}
}

// A message is given up only when nothing in it can succeed any more.
func TestRecordsStandOrFallTogether(t *testing.T) {
	for name, tc := range map[string]struct {
		second int // status
		stays  bool
		dead   int
	}{"permanent and sent": {0, false, 1}, "permanent and transient": {503, true, 0}, "permanent twice": {403, false, 1}} {
		t.Run(name, func(t *testing.T) {
			api := mailboxtest.New(t)
			c, s, _ := newCloud(t, api)
			var records []json.RawMessage
			for _, body := range told(c.put("a", "", object{status: 403, code: "AccessDenied"}), c.put("b", "", object{status: tc.second, code: "AccessDenied"})) {
				var m struct{ Records []json.RawMessage }
				if err := json.Unmarshal([]byte(body), &m); err != nil {
					t.Fatal(err)
				}
				records = append(records, m.Records...)
			}
			body, err := json.Marshal(map[string]any{"Records": records})
			if err != nil {
				t.Fatal(err)
			}
			stay := handle(t, s, batch(string(body)))
			if (len(stay) == 1) != tc.stays || len(c.dead) != tc.dead {
				t.Errorf("%v stay and %d dead letters", stay, len(c.dead))
			}
		})
	}
}

func TestNotLinked(t *testing.T) {
	for name, document := range map[string]string{"no value": "", "empty": "{}"} {
		t.Run(name, func(t *testing.T) {
			api := mailboxtest.New(t)
			c, s, _ := newCloud(t, api)
			linked := c.link
			c.link = func() string { return document }
			b := batch(told(c.put("a", "", object{}), c.put("b", "", object{}))...)
			if stay := handle(t, s, b); len(stay) != 2 || len(c.dead) != 0 {
				t.Fatalf("%v stay, dead letters %v", stay, c.dead)
			}
			if !strings.Contains(c.logs.String(), "run `s3ferry link`") || !strings.Contains(c.logs.String(), `"class":"not-linked"`) {
				t.Errorf("the log does not say what to do: %s", &c.logs)
			}
			c.link = linked
			if stay := handle(t, s, b); stay != nil || len(api.Inbox()) != 2 {
				t.Errorf("once linked, %v stay and %d transfers went", stay, len(api.Inbox()))
			}
		})
	}
}

func TestTheLinkSecretIsReadAgain(t *testing.T) {
	for name, renewed := range map[string]bool{"and is new": true, "and is the same": false} {
		t.Run(name, func(t *testing.T) {
			api := mailboxtest.New(t)
			c, s, key := newCloud(t, api)
			var reads atomic.Int32
			current := c.link()
			fresh, err := link.DecodeSecret([]byte(current))
			if err != nil {
				t.Fatal(err)
			}
			fresh.APIKey = secret.New("an old key")
			old, err := link.EncodeSecret(fresh)
			if err != nil {
				t.Fatal(err)
			}
			c.link = func() string {
				if reads.Add(1) > 1 && renewed {
					return current
				}
				return string(old)
			}
			stay := handle(t, s, batch(told(c.put("a", "", object{}), c.put("b", "", object{}))...))
			if renewed {
				if stay != nil || len(transfers(t, api, key)) != 2 || len(api.Requests()) != 3 {
					t.Errorf("%v stay, %d transfers by %d requests: %s", stay, len(api.Inbox()), len(api.Requests()), &c.logs)
				}
				return
			}
			if len(stay) != 2 || len(c.dead) != 0 || reads.Load() != 2 || len(api.Requests()) != 2 {
				t.Errorf("%v stay, dead letters %v, %d reads, %d requests", stay, c.dead, reads.Load(), len(api.Requests()))
			}
			if !strings.Contains(c.logs.String(), `"class":"link-denied"`) || !strings.Contains(c.logs.String(), "s3ferry link") {
				t.Errorf("the log does not say what to do: %s", &c.logs)
			}
			if strings.Contains(c.logs.String(), "an old key") {
				t.Errorf("the API key is in the log: %s", &c.logs)
			}
		})
	}
}

func TestTheLinkSecretCannotBeReadAgain(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, _ := newCloud(t, api)
	api.Key = "another key by now"
	var reads atomic.Int32
	first := c.link()
	c.link = func() string {
		if reads.Add(1) > 1 {
			return "not a document"
		}
		return first
	}
	if stay := handle(t, s, batch(told(c.put("a", "", object{}))...)); len(stay) != 1 || len(c.dead) != 0 {
		t.Errorf("%v stay, dead letters %v", stay, c.dead)
	}
	if !strings.Contains(c.logs.String(), `"class":"link-denied"`) || !strings.Contains(c.logs.String(), "reading the link secret again") {
		t.Errorf("the log tells half of it: %s", &c.logs)
	}
}

func TestTheBorderIsClosed(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, _ := newCloud(t, api)
	api.Fault = func(string, []byte) *mailboxtest.Answer {
		return &mailboxtest.Answer{Status: http.StatusServiceUnavailable, RetryAfter: "600"}
	}
	stay := handle(t, s, batch(told(c.put("a", "", object{}), c.put("b", "", object{}))...))
	if len(stay) != 2 || len(c.dead) != 0 || c.hidden["h0"] != 600 {
		t.Errorf("%v stay, dead letters %v, hidden %v", stay, c.dead, c.hidden)
	}
}

func TestTheInboxRefusesOne(t *testing.T) {
	api := mailboxtest.New(t)
	c, s, _ := newCloud(t, api)
	n := 0
	api.Refuse = func(string) (string, bool) {
		if n++; n == 2 {
			return "InternalError", false
		}
		return "", false
	}
	stay := handle(t, s, batch(told(c.put("a", "", object{}), c.put("b", "", object{}), c.put("c", "", object{}))...))
	if diff := cmp.Diff([]string{"m1"}, stay); diff != "" || len(api.Inbox()) != 2 {
		t.Errorf("%d transfers, messages that stay (-want +got):\n%s", len(api.Inbox()), diff)
	}
}

func TestWorse(t *testing.T) {
	transient, permanent := fault.Transientf("t", "t"), fault.Permanentf("p", "p")
	for _, tc := range []struct {
		a, b  error
		class string
	}{
		{nil, nil, ""},
		{transient, nil, "t"}, {nil, transient, "t"},
		{permanent, nil, "p"}, {nil, permanent, "p"},
		{permanent, transient, "t"}, {transient, permanent, "t"},
		{permanent, permanent, "p"}, {transient, errors.New("unmarked"), "t"},
	} {
		got := worse(tc.a, tc.b)
		if (got == nil) != (tc.class == "") || got != nil && (fault.Class(got) != tc.class || fault.IsPermanent(got) != (tc.class == "p")) {
			t.Errorf("worse(%v, %v) is %v of class %s, expected %q", tc.a, tc.b, got, fault.Class(got), tc.class)
		}
	}
}

func TestFromEnvironmentNamesWhatIsMissing(t *testing.T) {
	t.Setenv("S3FERRY_OUTBOX_URL", "")
	if _, err := FromEnvironment(t.Context()); err == nil || !strings.Contains(err.Error(), "S3FERRY_OUTBOX_URL") {
		t.Errorf("got %v", err)
	}
}
