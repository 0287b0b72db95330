package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

// testKey is fixed, so that vectors are reproducible; it signs nothing else.
var testKey = wire.SigningKey{
	ID:  "test-key",
	Key: secret.New(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))),
}

var testKeys = wire.PublicKeys{testKey.ID: testKey.Key.Reveal().Public().(ed25519.PublicKey)}

func testTransfer(change func(*wire.Transfer)) *wire.Transfer {
	t := &wire.Transfer{
		Op: wire.OpPut,
		Source: wire.Source{
			Region: "us-east-1", Bucket: "reports", Key: "2026/年报 + \"final\" 100%.pdf", VersionID: "v1",
			ETag: "9b2cf535f27731c974343645a3985328", Size: 11, Sequencer: "0055AED6DCD90281E5",
			EventTime: time.Date(2026, 11, 23, 1, 2, 3, 456e6, time.UTC),
		},
		Object: wire.Object{
			ContentType: "application/pdf", Metadata: map[string]string{"author": "=?UTF-8?B?5p2O?=", "a": "<&>"},
			Tags:     map[string]string{"team": "east"},
			Checksum: &wire.Checksum{Algorithm: "CRC64NVME", Type: wire.FullObject, Value: "jRIAT7nHGAc="},
		},
		URL:      secret.New("https://reports.s3.us-east-1.amazonaws.com/2026?a=1&b=2"),
		NotAfter: time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC),
	}
	if change != nil {
		change(t)
	}
	t.ID = wire.ID(t.Op, t.Source)
	return t
}

func sign(t *testing.T, transfer *wire.Transfer) string {
	t.Helper()
	message, err := wire.Sign(transfer, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func TestVerifyGivesBackWhatWasSigned(t *testing.T) {
	for name, change := range map[string]func(*wire.Transfer){
		"full":         nil,
		"no version":   func(t *wire.Transfer) { t.Source.VersionID = "" },
		"noop":         func(t *wire.Transfer) { t.Op, t.URL = wire.OpNoop, secret.String{} },
		"bare":         func(t *wire.Transfer) { t.Object = wire.Object{} },
		"empty object": func(t *wire.Transfer) { t.Source.Size = 0 },
		"largest":      func(t *wire.Transfer) { t.Source.Size = wire.MaxObjectSize },
		"separators":   func(t *wire.Transfer) { t.Source.Key = "a\u2028b\x00c\x7f//d/" },
		"not for SQS":  func(t *wire.Transfer) { t.Source.Key = notForSQS },
	} {
		want := testTransfer(change)
		got, err := wire.Verify(sign(t, want), testKeys)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// signPayload signs anything at all as a transfer, to see it refused.
func signPayload(t *testing.T, payload string, key wire.SigningKey, header map[jose.HeaderKey]any) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	for k, v := range header {
		opts = opts.WithHeader(k, v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key.Key.Reveal(), KeyID: key.ID},
	}, opts)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	message, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func payloadOf(t *testing.T, message string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(message, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

func TestVerifyRefuses(t *testing.T) {
	good := sign(t, testTransfer(nil))
	payload := payloadOf(t, good)
	parts := strings.Split(good, ".")
	typ := map[jose.HeaderKey]any{jose.HeaderType: wire.Type}
	other := wire.SigningKey{ID: "test-key", Key: secret.New(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize)))}
	stranger := wire.SigningKey{ID: "stranger", Key: other.Key}

	hmac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{
		Key: bytes.Repeat([]byte{1}, 32), KeyID: "test-key",
	}}, (&jose.SignerOptions{}).WithType(wire.Type))
	if err != nil {
		t.Fatal(err)
	}
	hs, err := hmac.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	hs256, err := hs.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"test-key","typ":"`+wire.Type+`"}`)) + "." + parts[1] + "."

	edit := func(old, replacement string) string {
		if !strings.Contains(payload, old) {
			t.Fatalf("the payload has no %s", old)
		}
		return signPayload(t, strings.Replace(payload, old, replacement, 1), testKey, typ)
	}
	for name, tc := range map[string]struct {
		message string
		want    error
	}{
		"empty":                {"", wire.ErrMalformed},
		"plain text":           {"hello", wire.ErrMalformed},
		"json":                 {payload, wire.ErrMalformed},
		"two parts":            {parts[0] + "." + parts[1], wire.ErrMalformed},
		"too large":            {good + strings.Repeat("A", wire.MaxMessage), wire.ErrMalformed},
		"alg none":             {none, wire.ErrMalformed},
		"alg HS256":            {hs256, wire.ErrMalformed},
		"no typ":               {signPayload(t, payload, testKey, nil), wire.ErrMalformed},
		"other typ":            {signPayload(t, payload, testKey, map[jose.HeaderKey]any{jose.HeaderType: "JWT"}), wire.ErrMalformed},
		"more header":          {signPayload(t, payload, testKey, map[jose.HeaderKey]any{jose.HeaderType: wire.Type, "x": 1}), wire.ErrMalformed},
		"unknown kid":          {signPayload(t, payload, stranger, typ), wire.ErrUnknownKey},
		"kid of another's key": {signPayload(t, payload, other, typ), wire.ErrSignature},
		"payload swapped":      {parts[0] + "." + strings.Split(edit("v1", "v2"), ".")[1] + "." + parts[2], wire.ErrSignature},
		"signature cut":        {good[:len(good)-4], wire.ErrSignature},
		"newline behind":       {good + "\n", wire.ErrMalformed},
		"version 2":            {edit(`"v":1`, `"v":2`), wire.ErrVersion},
		"version 0":            {edit(`"v":1`, `"v":0`), wire.ErrVersion},
		"unknown member":       {edit(`"v":1`, `"v":1,"x":1`), wire.ErrMalformed},
		"member twice":         {edit(`"op":"put"`, `"op":"put","op":"put"`), wire.ErrMalformed},
		"member in capitals":   {edit(`"op"`, `"OP"`), wire.ErrMalformed},
		"text behind":          {signPayload(t, payload+"{}", testKey, typ), wire.ErrMalformed},
		"delete with a url":    {edit(`"op":"put"`, `"op":"delete"`), wire.ErrMalformed},
		"no etag":              {edit(`"etag":"9b2cf535f27731c974343645a3985328",`, ``), wire.ErrMalformed},
		"negative round":       {edit(`"op":"put"`, `"op":"put","round":-1`), wire.ErrMalformed},
		"round 0 spelled out":  {edit(`"op":"put"`, `"op":"put","round":0`), wire.ErrMalformed},
		"too many rounds":      {edit(`"op":"put"`, `"op":"put","round":10001`), wire.ErrMalformed},
		"noop with a url":      {edit(`"op":"put"`, `"op":"noop"`), wire.ErrMalformed},
		"unknown op":           {edit(`"op":"put"`, `"op":"copy"`), wire.ErrMalformed},
		"id of another":        {edit(`"bucket":"reports"`, `"bucket":"secrets"`), wire.ErrMalformed},
		"negative size":        {edit(`"size":11`, `"size":-1`), wire.ErrMalformed},
		"no event time":        {edit(`"2026-11-23T01:02:03.456Z"`, `"0001-01-01T00:00:00Z"`), wire.ErrMalformed},
		"fraction size":        {edit(`"size":11`, `"size":1.5`), wire.ErrMalformed},
		"huge size":            {edit(`"size":11`, `"size":99999999999999999`), wire.ErrMalformed},
		"sequencer not hex":    {edit(`"0055AED6DCD90281E5"`, `"zz"`), wire.ErrMalformed},
		"quoted etag":          {edit(`"9b2cf`, `"\"9b2cf`), wire.ErrMalformed},
		"no url":               {edit(`"url":"https://reports.s3.us-east-1.amazonaws.com/2026?a=1&b=2"`, `"url":""`), wire.ErrMalformed},
		"array":                {signPayload(t, "[]", testKey, typ), wire.ErrMalformed},
	} {
		got, err := wire.Verify(tc.message, testKeys)
		if !errors.Is(err, tc.want) || got != nil {
			t.Errorf("%s: got %v, %v, want error %v", name, got, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "amazonaws.com") {
			t.Errorf("%s: the error quotes the URL: %v", name, err)
		}
	}
}

func TestVerifyRefusesEverySingleFlippedCharacter(t *testing.T) {
	good := sign(t, testTransfer(nil))
	for i := range good {
		for _, c := range []byte{'A', 'b', '-', '.'} {
			if good[i] == c {
				continue
			}
			bent := good[:i] + string(c) + good[i+1:]
			if _, err := wire.Verify(bent, testKeys); err == nil {
				t.Fatalf("character %d of %q may be %q", i, good, c)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	large := testTransfer(func(t *wire.Transfer) {
		t.Object.Metadata = map[string]string{"x": strings.Repeat("y", wire.MaxMessage)}
	})
	if _, err := wire.Sign(large, testKey); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("too large: got %v", err)
	}
	for name, change := range map[string]func(*wire.Transfer){
		"metadata": func(t *wire.Transfer) { t.Object.Metadata = map[string]string{"x": "\xff"} },
		"version":  func(t *wire.Transfer) { t.Source.VersionID = "\xa7" },
	} {
		if _, err := wire.Sign(testTransfer(change), testKey); err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%s that is not UTF-8: got %v", name, err)
		}
	}
	invalid := testTransfer(func(t *wire.Transfer) {
		t.Source.Bucket = ""
		t.Source.Key = strings.Repeat("k", 1025)
	})
	_, err := wire.Sign(invalid, testKey)
	if err == nil {
		t.Fatal("an invalid transfer was signed")
	}
	for _, want := range []string{"source: bucket: got nothing", "of 1025 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

func TestIDTellsEventsApart(t *testing.T) {
	base := testTransfer(nil).Source
	seen := map[string]string{wire.ID(wire.OpPut, base): "base"}
	for name, change := range map[string]func(*wire.Source){
		"region":    func(s *wire.Source) { s.Region = "us-east-2" },
		"bucket":    func(s *wire.Source) { s.Bucket = "report" },
		"key":       func(s *wire.Source) { s.Key += "x" },
		"version":   func(s *wire.Source) { s.VersionID = "v2" },
		"etag":      func(s *wire.Source) { s.VersionID = "" },
		"sequencer": func(s *wire.Source) { s.Sequencer += "1" },
		"shifted":   func(s *wire.Source) { s.Bucket, s.Key = s.Bucket+s.Key[:1], s.Key[1:] },
	} {
		s := base
		change(&s)
		id := wire.ID(wire.OpPut, s)
		if prior, ok := seen[id]; ok {
			t.Errorf("%s has the ID of %s", name, prior)
		}
		seen[id] = name
	}
	same := base
	same.Size, same.EventTime = 99, time.Time{}
	if wire.ID(wire.OpPut, same) != wire.ID(wire.OpPut, base) {
		t.Error("size or event time are part of the ID: a re-queued event would be another transfer")
	}
	tags, later := base, base
	tags.Size, tags.Sequencer, later.Sequencer, later.EventTime = 0, "", "", base.EventTime.Add(time.Second)
	if wire.ID(wire.OpTag, tags) == wire.ID(wire.OpTag, later) {
		t.Error("two changes of tags have one ID")
	}
}

func TestCompareSequencers(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"0055AED6DCD90281E5", "0055AED6DCD90281E5", 0},
		{"0055aed6", "0055AED6", 0},
		{"0055", "005500", 0},
		{"0055", "00550001", -1},
		{"0056", "00550001", 1},
		{"", "1", -1},
	} {
		if got := wire.CompareSequencers(tc.a, tc.b); got != tc.want {
			t.Errorf("CompareSequencers(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
		if got := wire.CompareSequencers(tc.b, tc.a); got != -tc.want {
			t.Errorf("CompareSequencers(%q, %q) = %d, want %d", tc.b, tc.a, got, -tc.want)
		}
	}
}

// The vectors are the promise to other implementations: a change here is a
// change of the wire format.
func TestVectors(t *testing.T) {
	type vector struct{ Name, Message, Payload string }
	type file struct {
		Seed     string // of the Ed25519 key, base64
		KeyID    string
		Transfer []vector
		Receipt  []string
	}
	made := file{Seed: base64.StdEncoding.EncodeToString(testKey.Key.Reveal().Seed()), KeyID: testKey.ID}
	for _, v := range []struct {
		name   string
		change func(*wire.Transfer)
	}{
		{"full", nil},
		{"unversioned", func(t *wire.Transfer) { t.Source.VersionID = "" }},
		{"bare", func(t *wire.Transfer) { t.Object = wire.Object{}; t.Source.Size = 0 }},
		{"third round", func(t *wire.Transfer) { t.Round = 2 }},
		{"deletion", deletion},
		{"tags", retagging},
	} {
		message := sign(t, testTransfer(v.change))
		made.Transfer = append(made.Transfer, vector{v.name, message, payloadOf(t, message)})
	}
	for _, r := range []wire.Receipt{testReceipt(wire.Copied), testReceipt(wire.Expired), testReceipt(wire.Failed), testReceipt(wire.Deleted), testReceipt(wire.Tagged)} {
		message, err := wire.EncodeReceipt(r)
		if err != nil {
			t.Fatal(err)
		}
		made.Receipt = append(made.Receipt, message)
	}
	const path = "testdata/vectors.json"
	if *update {
		data, err := json.MarshalIndent(made, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept file
	if err := json.Unmarshal(data, &kept); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kept, made); diff != "" {
		t.Errorf("the wire format changed (-vectors +now):\n%s", diff)
	}
	for _, v := range kept.Transfer {
		if _, err := wire.Verify(v.Message, testKeys); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}

// deletion makes t what S3 says of a key deleted for good: no version, no ETag.
func deletion(t *wire.Transfer) {
	t.Op, t.URL, t.Object = wire.OpDelete, secret.String{}, wire.Object{}
	t.Source.VersionID, t.Source.ETag, t.Source.Size = "", "", 0
}

// retagging makes t what S3 says of a change of tags: no size, no sequencer.
func retagging(t *wire.Transfer) {
	t.Op, t.Object = wire.OpTag, wire.Object{}
	t.Source.Size, t.Source.Sequencer = 0, ""
}

func testReceipt(o wire.Outcome) wire.Receipt {
	transfer := testTransfer(map[wire.Outcome]func(*wire.Transfer){wire.Deleted: deletion, wire.Tagged: retagging}[o])
	r := wire.Receipt{
		ID: transfer.ID, Op: transfer.Op, Outcome: o, Source: transfer.Source, Millis: 1200, Attempts: 1,
		At: time.Date(2026, 11, 23, 1, 3, 0, 0, time.UTC),
	}
	switch o {
	case wire.Linked:
		r.Op = wire.OpNoop
		r.ID = wire.ID(r.Op, r.Source)
	case wire.Copied:
		r.Bytes, r.Verified = 11, wire.ByFullObject
	case wire.Failed, wire.Refused:
		r.Class, r.Reason = "source-denied", "get 2026/<x>: 403"
		r.Round, r.Retry = 3, o == wire.Failed
	}
	return r
}

func TestReceipts(t *testing.T) {
	for _, o := range wire.Outcomes() {
		want := testReceipt(o)
		message, err := wire.EncodeReceipt(want)
		if err != nil {
			t.Fatal(err)
		}
		want.V = wire.Version
		got, err := wire.DecodeReceipt(message)
		if err != nil {
			t.Fatalf("%s: %v", o, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", o, diff)
		}
		for name, bad := range map[string]string{
			"text behind":    message + " ",
			"unknown member": strings.Replace(message, `{`, `{"x":1,`, 1),
			"version":        strings.Replace(message, `"v":1`, `"v":3`, 1),
			"outcome":        strings.Replace(message, `"outcome":"`+string(o), `"outcome":"lost`, 1),
			"other key":      strings.Replace(message, `final`, `first`, 1),
		} {
			if _, err := wire.DecodeReceipt(bad); err == nil {
				t.Errorf("%s: %s was accepted", o, name)
			}
		}
	}
}

// notForSQS has what S3 takes in a key and SQS in no message.
const notForSQS = "\x01\uFFFE\\\uFFFFz\uFFFD"

// A queue takes the receipt of any key, and gives it back.
func TestAReceiptOfAnyKeyFitsSQS(t *testing.T) {
	want := testReceipt(wire.Failed)
	want.Source.Key, want.Reason = notForSQS, "put "+notForSQS
	want.ID = wire.ID(want.Op, want.Source)
	message, err := wire.EncodeReceipt(want)
	if err != nil {
		t.Fatal(err)
	}
	queue, err := sqs.New(sqs.Config{Endpoint: "http://sqs", Region: "us-east-1", Account: "000000000000"}).Create("receipts", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Send(sqs.Message{Body: message}); err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeReceipt(queue.Receive(t.Context(), sqs.ReceiveOptions{Max: 1})[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	want.V = wire.Version
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := wire.DecodeReceipt(strings.ReplaceAll(message, `\ufffe`, "\uFFFE")); err == nil {
		t.Error("another spelling was accepted")
	}
}

func TestReceiptReasonIsCutAtACharacter(t *testing.T) {
	r := testReceipt(wire.Failed)
	r.Reason = strings.Repeat("长", 1000) + "\xff"
	message, err := wire.EncodeReceipt(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeReceipt(message)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("长", wire.MaxReason/3); got.Reason != want {
		t.Errorf("got %d bytes of reason, want %d", len(got.Reason), len(want))
	}
}

func TestReceiptsThatContradictThemselves(t *testing.T) {
	for name, tc := range map[string]struct {
		outcome wire.Outcome
		change  func(*wire.Receipt)
	}{
		"copied, but not verified":   {wire.Copied, func(r *wire.Receipt) { r.Verified = "" }},
		"skipped, but verified":      {wire.Skipped, func(r *wire.Receipt) { r.Verified = wire.ByETag }},
		"copied, and worth a retry":  {wire.Copied, func(r *wire.Receipt) { r.Retry = true }},
		"a put that deleted":         {wire.Copied, func(r *wire.Receipt) { r.Outcome, r.Verified = wire.Deleted, "" }},
		"a put that tagged":          {wire.Copied, func(r *wire.Receipt) { r.Outcome, r.Verified = wire.Tagged, "" }},
		"a deletion that copied":     {wire.Deleted, func(r *wire.Receipt) { r.Outcome, r.Verified = wire.Copied, wire.ByETag }},
		"a round that nobody allows": {wire.Expired, func(r *wire.Receipt) { r.Round = wire.MaxRound + 1 }},
	} {
		r := testReceipt(tc.outcome)
		tc.change(&r)
		if _, err := wire.EncodeReceipt(r); err == nil {
			t.Errorf("%s: was encoded", name)
		}
	}
}
