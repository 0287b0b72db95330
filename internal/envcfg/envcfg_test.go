package envcfg_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestEncodeDecodeRoundTrip(t *testing.T) {
	in := envcfg.Sender{
		Name:      "stack-Sender",
		OutboxURL: "https://q/outbox", OutboxDLQURL: "https://q/dlq", LinkSecret: "arn:x:secret",
		SignerRole: "arn:x:role", URLLife: 45 * time.Minute, Concurrency: 10, PaceParameter: "/pace",
	}
	env := envcfg.Encode(&in)
	if _, ok := env["S3FERRY_TEST_SOURCE_ENDPOINT"]; ok {
		t.Error("an empty test-only variable is in the environment block")
	}
	var out envcfg.Sender
	if err := envcfg.Decode(&out, lookup(env)); err != nil {
		t.Fatal(err)
	}
	if in != out {
		t.Errorf("got %+v, want %+v", out, in)
	}
}

func TestOptionalVariables(t *testing.T) {
	required := envcfg.Receiver{
		Name:     "stack-Receiver",
		InboxURL: "i", InboxDLQURL: "d", ReceiptsURL: "r", TrustParameter: "t", DestinationBucket: "b", JournalBucket: "j",
		Connections: 1, PartSize: 1, SegmentSize: 1, MemoryMiB: 1, InboxReceives: 1,
	}
	all := required
	all.StripPrefix, all.AddPrefix = "out=1,2/", "{bucket}/年/"
	all.Deletes, all.Unconditional = true, true
	all.StorageClasses = map[string]string{"*": "STANDARD", "GLACIER": "STANDARD_IA"}
	all.SourceNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, in := range map[string]envcfg.Receiver{"none": required, "all": all} {
		env := envcfg.Encode(&in)
		if _, ok := env["S3FERRY_ADD_PREFIX"]; ok != (in.AddPrefix != "") {
			t.Errorf("%s: got %v", name, env)
		}
		var out envcfg.Receiver
		if err := envcfg.Decode(&out, lookup(env)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	env := envcfg.Encode(&all)
	env["S3FERRY_STORAGE_CLASSES"], env["S3FERRY_SOURCE_NETWORKS"] = "GLACIER", "10.0.0.0"
	err := envcfg.Decode(new(envcfg.Receiver), lookup(env))
	for _, want := range []string{
		`S3FERRY_STORAGE_CLASSES: got "GLACIER", expected pairs such as A=B,C=D`,
		`S3FERRY_SOURCE_NETWORKS: got "10.0.0.0", expected networks such as 10.0.0.0/8,fd00::/8`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, expected it to say %s", err, want)
		}
	}
}

func TestDecodeReportsEveryProblemAtOnce(t *testing.T) {
	var cfg envcfg.Receiver
	err := envcfg.Decode(&cfg, lookup(map[string]string{
		"S3FERRY_INBOX_URL": "https://q/inbox", "S3FERRY_PART_SIZE": "8MiB", "S3FERRY_CONNECTIONS": "-1",
	}))
	if err == nil {
		t.Fatal("a broken environment was accepted")
	}
	for _, want := range []string{
		"S3FERRY_INBOX_DLQ_URL: got nothing, expected a value",
		`S3FERRY_PART_SIZE: got "8MiB", expected a positive whole number`,
		`S3FERRY_CONNECTIONS: got "-1", expected a positive whole number`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "TEST_SOURCE_ENDPOINT") {
		t.Error("a test-only variable is demanded")
	}
}
