package event

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// record is a record of S3, with its key as S3 encodes it.
func record(name, key string) string {
	return fmt.Sprintf(`{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-east-1",
		"eventTime":"2026-11-23T08:00:00.123Z","eventName":%q,"userIdentity":{"principalId":"AWS:X"},
		"requestParameters":{"sourceIPAddress":"192.0.2.1"},"responseElements":{"x-amz-request-id":"R"},
		"s3":{"s3SchemaVersion":"1.0","configurationId":"c","bucket":{"name":"source",
		"ownerIdentity":{"principalId":"P"},"arn":"arn"},"object":{"key":%q,"size":5,"eTag":"e1",
		"versionId":"v1","sequencer":"00617F08299329D189"}}}`, name, key)
}

func records(r ...string) string { return `{"Records":[` + strings.Join(r, ",") + `]}` }

func bridge(detailType, key string) string {
	return fmt.Sprintf(`{"version":"0","id":"i","detail-type":%q,"source":"aws.s3","account":"111122223333",
		"time":"2026-11-23T08:00:00Z","region":"us-east-1","resources":["arn"],"detail":{"version":"0",
		"bucket":{"name":"source"},"object":{"key":%q,"size":5,"etag":"e1","version-id":"v1",
		"sequencer":"00617F08299329D189"},"request-id":"R","requester":"1","reason":"PutObject"}}`, detailType, key)
}

func source(key string, millis int) wire.Source {
	return wire.Source{
		Region: "us-east-1", Bucket: "source", Key: key, VersionID: "v1", ETag: "e1", Size: 5,
		Sequencer: "00617F08299329D189",
		EventTime: time.Date(2026, 11, 23, 8, 0, 0, millis*1e6, time.UTC),
	}
}

func puts(sources ...wire.Source) (m Message) {
	for _, s := range sources {
		m.Events = append(m.Events, Event{Op: wire.OpPut, Source: s})
	}
	return m
}

func deletes(key string, millis int, version string, unclear bool) Message {
	s := source(key, millis)
	s.VersionID, s.ETag, s.Size = version, "", 0
	return Message{Events: []Event{{Op: wire.OpDelete, Source: s, Unclear: unclear}}}
}

func tags(key string, millis int) Message {
	s := source(key, millis)
	s.Size, s.Sequencer = 0, ""
	return Message{Events: []Event{{Op: wire.OpTag, Source: s}}}
}

func unversioned(record string) string {
	return strings.NewReplacer(`"versionId":"v1",`, "", `"size":5,"eTag":"e1",`, "").Replace(records(record))
}

func bridgeOf(deletionType string) string {
	return strings.Replace(bridge("Object Deleted", "a"), `"reason"`, fmt.Sprintf(`"deletion-type":%q,"reason"`, deletionType), 1)
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want Message
	}{
		"one record":      {records(record("ObjectCreated:Put", "a.txt")), puts(source("a.txt", 123))},
		"name with s3:":   {records(record("s3:ObjectCreated:Copy", "a")), puts(source("a", 123))},
		"several records": {records(record("ObjectCreated:Put", "a"), record("ObjectCreated:CompleteMultipartUpload", "b")), puts(source("a", 123), source("b", 123))},
		"space":           {records(record("ObjectCreated:Put", "a+b+c.txt")), puts(source("a b c.txt", 123))},
		"plus":            {records(record("ObjectCreated:Put", "1%2B1%3D2")), puts(source("1+1=2", 123))},
		"percent":         {records(record("ObjectCreated:Put", "100%25%2541")), puts(source("100%%41", 123))},
		"Chinese":         {records(record("ObjectCreated:Put", "%E6%95%B0%E6%8D%AE/%E8%88%B9.txt")), puts(source("数据/船.txt", 123))},
		"emoji and quote": {records(record("ObjectCreated:Put", "%F0%9F%9A%A2%22%5C")), puts(source(`🚢"\`, 123))},
		"slashes stay":    {records(record("ObjectCreated:Put", "/a//b/../c/")), puts(source("/a//b/../c/", 123))},
		"no object": {records(record("ObjectRestore:Post", "a"), record("ObjectCreated:Put", "b")),
			Message{Events: puts(source("b", 123)).Events, Ignored: []string{"ObjectRestore:Post"}}},
		"deletion":                   {unversioned(record("ObjectRemoved:Delete", "a")), deletes("a", 123, "", false)},
		"delete marker":              {records(record("ObjectRemoved:DeleteMarkerCreated", "a+b")), deletes("a b", 123, "v1", false)},
		"version deleted":            {records(record("s3:ObjectRemoved:Delete", "a")), deletes("a", 123, "v1", true)},
		"expired":                    {unversioned(record("LifecycleExpiration:Delete", "a")), deletes("a", 123, "", true)},
		"expired under a marker":     {records(record("LifecycleExpiration:DeleteMarkerCreated", "a")), deletes("a", 123, "v1", false)},
		"bridge, delete marker":      {bridgeOf("Delete Marker Created"), deletes("a", 0, "v1", false)},
		"bridge, version deleted":    {bridgeOf("Permanently Deleted"), deletes("a", 0, "v1", true)},
		"bridge, unversioned object": {strings.Replace(bridgeOf("Permanently Deleted"), `"version-id":"v1",`, "", 1), deletes("a", 0, "", true)},
		"test event": {`{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-23T08:00:00.000Z","Bucket":"source","RequestId":"R","HostId":"H"}`,
			Message{Ignored: []string{"s3:TestEvent"}}},
		"bridge":                {bridge("Object Created", `数据/1+1 %41.txt`), puts(source("数据/1+1 %41.txt", 0))},
		"bridge, other":         {bridge("Object ACL Updated", "a"), Message{Ignored: []string{"Object ACL Updated"}}},
		"tags":                  {records(record("ObjectTagging:Put", "a+b")), tags("a b", 123)},
		"tags taken off":        {records(strings.Replace(record("s3:ObjectTagging:Delete", "a"), `"size":5,`, "", 1)), tags("a", 123)},
		"bridge, tags":          {bridge("Object Tags Added", "a"), tags("a", 0)},
		"bridge, tags off":      {strings.Replace(bridge("Object Tags Deleted", "a"), `"sequencer":"00617F08299329D189"`, `"size":5`, 1), tags("a", 0)},
		"unversioned and empty": {strings.NewReplacer(`"versionId":"v1",`, "", `"size":5`, `"size":0`).Replace(records(record("ObjectCreated:Put", "a"))), puts(func() wire.Source { s := source("a", 123); s.VersionID, s.Size = "", 0; return s }())},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := records(record("ObjectCreated:Put", "a"))
	with := func(old, replacement string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in the good event", old)
		}
		return strings.Replace(good, old, replacement, 1)
	}
	for name, tc := range map[string]struct{ body, want string }{
		"empty":              {"", "not an S3 notification"},
		"text":               {"hello", "not an S3 notification"},
		"array":              {"[]", "not an S3 notification"},
		"text behind":        {good + "x", "not an S3 notification"},
		"invalid UTF-8":      {"{\"Records\":\"\xff\"}", "invalid UTF-8"},
		"something else":     {`{"a":1}`, `neither "Records" nor "detail-type"`},
		"no records":         {records(), `neither "Records" nor "detail-type"`},
		"SNS envelope":       {`{"Type":"Notification","Message":"{}"}`, `neither "Records" nor "detail-type"`},
		"null record":        {records("null"), "record 0: got source"},
		"other service":      {with("aws:s3", "aws:sns"), `source "aws:sns"`},
		"version 3":          {with(`"2.1"`, `"3.0"`), `version "3.0"`},
		"no name":            {with("ObjectCreated:Put", ""), "a name"},
		"no region":          {with("us-east-1", ""), "region"},
		"no bucket":          {with(`"name":"source"`, `"name":""`), "bucket"},
		"no key":             {with(`"key":"a"`, `"key":""`), "key"},
		"bad key encoding":   {with(`"key":"a"`, `"key":"%zz"`), "%zz"},
		"key not UTF-8":      {with(`"key":"a"`, `"key":"%ff"`), "UTF-8"},
		"key too long":       {with(`"key":"a"`, `"key":"`+strings.Repeat("a", 1025)+`"`), "1025 bytes"},
		"no ETag":            {with(`"e1"`, `""`), "etag"},
		"quoted ETag":        {with(`"e1"`, `"\"e1\""`), "without quotes"},
		"no sequencer":       {with(`"00617F08299329D189"`, `""`), "sequencer"},
		"bad sequencer":      {with("00617F08299329D189", "xyz"), `"xyz"`},
		"negative size":      {with(`"size":5`, `"size":-5`), "size"},
		"size is text":       {with(`"size":5`, `"size":"5"`), "size"},
		"no time":            {with(`"2026-11-23T08:00:00.123Z"`, `null`), "eventTime"},
		"time overflows":     {with("2026-11-23T08:00:00.123Z", "9999-12-31T23:59:59-01:00"), "year 10000"},
		"bad time":           {with("2026-11-23T08:00:00.123Z", "yesterday"), "yesterday"},
		"second is bad":      {records(record("ObjectCreated:Put", "a"), record("ObjectCreated:Put", "")), "record 1: key"},
		"bridge, foreign":    {strings.Replace(bridge("Object Created", "a"), "aws.s3", "aws.ec2", 1), "aws.ec2"},
		"bridge, no detail":  {`{"detail-type":"Object Created","source":"aws.s3"}`, "detail"},
		"bridge, no key":     {bridge("Object Created", ""), "key"},
		"bridge, deletion":   {bridge("Object Deleted", "a"), "deletion-type"},
		"bridge, bad detail": {`{"detail-type":"Object Created","source":"aws.s3","detail":7}`, "detail"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.body)
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if !fault.IsPermanent(err) || fault.Class(err) != Malformed {
				t.Errorf("class %q, permanent %t", fault.Class(err), fault.IsPermanent(err))
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %q, expected it to name %q", err, tc.want)
			}
		})
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	body := strings.NewReplacer("us-east-1", "", `"e1"`, `""`).Replace(records(record("ObjectCreated:Put", "a"), "7"))
	_, err := Parse(body)
	for _, want := range []string{"record 0", "region", "etag", "record 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, expected it to name %q", err, want)
		}
	}
}

func TestEncodeComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := wire.Source{
			Region: "cn-north-1", Bucket: rapid.StringMatching(`[a-z0-9.-]{3,63}`).Draw(t, "bucket"),
			Key:       rapid.StringOfN(rapid.Rune(), 1, 256, wire.MaxKey).Draw(t, "key"),
			VersionID: rapid.String().Draw(t, "version"),
			ETag:      rapid.StringMatching(`[0-9a-f]{32}(-[0-9]{1,5})?`).Draw(t, "etag"),
			Size:      rapid.Int64Range(0, wire.MaxObjectSize).Draw(t, "size"),
			Sequencer: rapid.StringMatching(`[0-9A-F]{1,20}`).Draw(t, "sequencer"),
			EventTime: time.UnixMilli(rapid.Int64Range(1.2e12, 4e12).Draw(t, "time")).UTC(),
		}
		op := rapid.SampledFrom([]wire.Op{wire.OpPut, wire.OpDelete, wire.OpTag}).Draw(t, "op")
		switch op {
		case wire.OpDelete:
			want.ETag, want.Size = "", 0
		case wire.OpTag:
			want.Sequencer, want.Size = "", 0
		}
		got, err := Parse(Encode(op, want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Message{Events: []Event{{Op: op, Source: want}}}, got); diff != "" {
			t.Fatalf("event that came back (-want +got):\n%s", diff)
		}
		if wire.ID(op, want) != wire.ID(op, got.Events[0].Source) {
			t.Fatal("the transfer lost its identity")
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(records(record("ObjectCreated:Put", "a+b%2B")))
	f.Add(records(record("ObjectRemoved:Delete", "a"), record("ObjectCreated:Put", "%E6")))
	f.Add(bridge("Object Created", "数据"))
	f.Add(bridgeOf("Permanently Deleted"))
	f.Add(bridge("Object Tags Deleted", "a"))
	f.Add(`{"Event":"s3:TestEvent"}`)
	f.Fuzz(func(t *testing.T, body string) {
		message, err := Parse(body)
		if err != nil {
			if !fault.IsPermanent(err) {
				t.Fatalf("transient: %v", err)
			}
			return
		}
		for _, want := range message.Events {
			want.Unclear = false // whoever encodes a deletion knows that it is one
			again, err := Parse(Encode(want.Op, want.Source))
			if err != nil {
				t.Fatalf("%+v does not come back: %v", want, err)
			}
			if diff := cmp.Diff([]Event{want}, again.Events); diff != "" {
				t.Fatalf("event that came back (-want +got):\n%s", diff)
			}
		}
	})
}

func TestRound(t *testing.T) {
	for text, want := range map[string]int{"": 0, "1": 1, "10000": 10_000, "10001": 0, "-1": 0, "x": 0} {
		m := events.SQSMessage{MessageAttributes: map[string]events.SQSMessageAttribute{RoundAttribute: {StringValue: &text}}}
		if got := Round(m); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
	if got := Round(events.SQSMessage{}); got != 0 {
		t.Errorf("without the attribute: got %d", got)
	}
}
