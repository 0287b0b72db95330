package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// run runs the s3ferry command against l, as an operator who has the line that
// `s3ferry local` printed, and returns what it says and its exit code.
func (l *local) run(t *testing.T, args ...string) (stdout string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cloud.json")
	line, err := json.Marshal(map[string]any{
		"source": l.Source, "destination": l.Destination,
		"sqs": map[string]any{
			"endpoint": l.SQS.Endpoint, "region": l.SQS.Region,
			"accessKeyId": l.SQS.AccessKeyID, "secretAccessKey": l.SQS.SecretAccessKey, "queues": l.SQS.Queues,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, line, 0o600); err != nil {
		t.Fatal(err)
	}
	return execute(t, nil, append(args, "--local", file)...)
}

// execute runs the s3ferry command with env added to the environment.
func execute(t *testing.T, env []string, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		code = exit.ExitCode()
	}
	t.Logf("s3ferry %s: exit %d\n%s%s", args[0], code, out.String(), stderr.String())
	return out.String(), code
}

// verification is what `s3ferry verify --json` prints.
type verification struct{ Objects, Bytes, Equal, Proved, Missing, Stale, Extra, Queued int64 }

func (l *local) verify(t *testing.T, args ...string) (v verification, code int) {
	t.Helper()
	out, code := l.run(t, append([]string{"verify", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return v, code
}

// put puts objects into the source and returns their ETags by key.
func (l *local) put(t *testing.T, body string, keys ...string) map[string]string {
	t.Helper()
	etags := map[string]string{}
	for _, key := range keys {
		out, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &l.Source.Bucket, Key: &key, Body: strings.NewReader(body + key),
		})
		if err != nil {
			t.Fatal(err)
		}
		etags[key] = *out.ETag
	}
	return etags
}

// startWithoutEvents starts a cloud whose source has objects that no event told of: they
// were put into another one, without a link, and its queues ended with it.
func startWithoutEvents(t *testing.T, keys ...string) *local {
	t.Helper()
	dir := t.TempDir()
	l := startLocal(t, "--dir", dir)
	secrets := secretsmanager.New(secretsmanager.Options{
		Region: l.SQS.Region, BaseEndpoint: &l.SQS.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(l.SQS.AccessKeyID, l.SQS.SecretAccessKey, ""),
	})
	if _, err := secrets.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("s3ferry-link"), SecretString: aws.String("{}"),
	}); err != nil {
		t.Fatal(err)
	}
	l.put(t, "v1 ", keys...)
	eventually(t, "the events in the outbox", func() bool { return l.depth(t.Context(), t, l.SQS.Queues.Outbox) == len(keys) })
	l.stop(t)
	return startLocal(t, "--dir", dir)
}

// quiet waits until nothing is under way.
func (l *local) quiet(t *testing.T) {
	t.Helper()
	eventually(t, "empty queues", func() bool {
		for _, queue := range []string{l.SQS.Queues.Outbox, l.SQS.Queues.Inbox, l.SQS.Queues.Receipts} {
			if l.depth(t.Context(), t, queue) > 0 {
				return false
			}
		}
		return true
	})
}

// keys in the order of S3's listings, which is not the order of a directory's.
var orderedKeys = []string{
	"100% sure", "a b+c.txt", "a-1", "a.txt", "a/1", "a/b/2", "a0", "ab", "b.d/1", "b/1", "b0/1", "z", "报告/一月", "🚢",
}

func TestBackfillCarriesWhatNoEventToldOf(t *testing.T) {
	t.Parallel()
	l := startWithoutEvents(t, orderedKeys...)
	if v, code := l.verify(t); code != 1 || v.Missing != int64(len(orderedKeys)) {
		t.Fatalf("before the backfill: exit %d and %+v", code, v)
	}
	if v, code := l.verify(t, "--quick", "--prefix", "a"); code != 1 || v.Missing != 7 {
		t.Errorf("of a prefix: exit %d and %+v, want 7 missing", code, v)
	}

	state := filepath.Join(t.TempDir(), "state.json")
	if out, code := l.run(t, "backfill", "--state", state, "--rate", "100"); code != 0 || !strings.HasPrefix(out, fmt.Sprintf("%d objects queued", len(orderedKeys))) {
		t.Fatalf("exit %d and %q", code, out)
	}
	eventually(t, "all objects at the destination", func() bool {
		v, _ := l.verify(t, "--quick")
		return v.Equal == int64(len(orderedKeys))
	})
	l.quiet(t)
	if v, code := l.verify(t); code != 0 || v.Proved != int64(len(orderedKeys)) {
		t.Errorf("after the backfill: exit %d and %+v", code, v)
	}

	// Twice is harmless, and a state that is done has nothing left.
	before := l.modified(t)
	if out, code := l.run(t, "backfill", "--state", state); code != 0 {
		t.Errorf("a second time with its state: exit %d and %q", code, out)
	}
	if n := l.depth(t.Context(), t, l.SQS.Queues.Outbox); n != 0 {
		t.Errorf("%d events of what was done", n)
	}
	if out, code := l.run(t, "backfill"); code != 0 {
		t.Errorf("a second time: exit %d and %q", code, out)
	}
	l.quiet(t)
	if diff := cmp.Diff(before, l.modified(t)); diff != "" {
		t.Errorf("a second backfill wrote again (-before +after):\n%s", diff)
	}

	// A real event is newer than a backfill, and a backfill leaves it alone.
	newer := l.put(t, "v2 ", "a/1")
	l.arrived(t, "a/1", newer["a/1"])
	l.run(t, "backfill")
	l.quiet(t)
	l.arrived(t, "a/1", newer["a/1"])
	if v, code := l.verify(t); code != 0 {
		t.Errorf("at the end: exit %d and %+v", code, v)
	}
}

// modified returns when each object of the destination was written.
func (l *local) modified(t *testing.T) map[string]string {
	t.Helper()
	times := map[string]string{}
	pages := s3.NewListObjectsV2Paginator(l.destination, &s3.ListObjectsV2Input{Bucket: &l.Destination.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			times[*o.Key] = o.LastModified.String()
		}
	}
	return times
}

func TestVerifyFindsAndRepairs(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	etags := l.put(t, "v1 ", "same", "lost", "bent", "dir/foreign", "dir/stale")
	for key, etag := range etags {
		l.arrived(t, key, etag)
	}
	l.quiet(t)
	if v, code := l.verify(t); code != 0 || v.Equal != 5 || v.Proved != 5 {
		t.Fatalf("before: exit %d and %+v", code, v)
	}

	if _, err := l.destination.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.Destination.Bucket, Key: aws.String("lost")}); err != nil {
		t.Fatal(err)
	}
	head := l.arrived(t, "bent", etags["bent"])
	for key, metadata := range map[string]map[string]string{"bent": head.Metadata, "dir/foreign": nil, "extra": nil} {
		if _, err := l.destination.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &l.Destination.Bucket, Key: &key, Metadata: metadata, Body: strings.NewReader("V1 " + key),
		}); err != nil {
			t.Fatal(err)
		}
	}
	// As if the event of the newer version were lost.
	old := l.arrived(t, "dir/stale", etags["dir/stale"])
	etags["dir/stale"] = l.put(t, "v2 ", "dir/stale")["dir/stale"]
	l.arrived(t, "dir/stale", etags["dir/stale"])
	if _, err := l.destination.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &l.Destination.Bucket, Key: aws.String("dir/stale"), Metadata: old.Metadata, Body: strings.NewReader("v1 dir/stale"),
	}); err != nil {
		t.Fatal(err)
	}
	l.quiet(t)

	report := filepath.Join(t.TempDir(), "differences.jsonl")
	v, code := l.verify(t, "--report", report, "--repair")
	if want := (verification{Objects: 6, Bytes: v.Bytes, Equal: 1, Proved: 1, Missing: 1, Stale: 3, Extra: 1, Queued: 4}); code != 1 || v != want {
		t.Errorf("exit %d and %+v, want 1 and %+v", code, v, want)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(data)) {
		var d struct{ Kind, Key, Reason string }
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		got[d.Key] = d.Kind + " " + d.Reason
	}
	want := map[string]string{
		"lost": "missing ", "bent": "stale checksum", "dir/foreign": "stale unrecorded", "dir/stale": "stale version", "extra": "extra ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}

	eventually(t, "the repairs", func() bool {
		v, _ := l.verify(t)
		return v.Equal == 5 && v.Extra == 1
	})
	for key, etag := range etags {
		l.arrived(t, key, etag)
	}
	// What comes after a repair is newer than it.
	for key, etag := range l.put(t, "v3 ", "dir/stale", "lost") {
		l.arrived(t, key, etag)
	}
}

// Listings of several pages, in several ranges, have every key once and in order.
func TestVerifyReadsLongListings(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	for key, etag := range l.put(t, "v1 ", "d1/a/1", "d1.x/1", "d1-x", "d2/1", "d2/b/1") {
		l.arrived(t, key, etag)
	}
	const extra = 2400
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range extra {
		group.Go(func() error {
			key := fmt.Sprintf("d%d%s/x%d/%d", i%3, []string{"", ".x", "-", "0"}[i%4], i%200, i)
			_, err := l.destination.PutObject(ctx, &s3.PutObjectInput{Bucket: &l.Destination.Bucket, Key: &key, Body: strings.NewReader("x")})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if v, code := l.verify(t, "--quick"); code != 1 || v.Objects != extra+5 || v.Equal != 5 || v.Extra != extra {
		t.Errorf("exit %d and %+v", code, v)
	}
}

func TestVerifyCannotCompare(t *testing.T) {
	t.Parallel()
	if _, code := execute(t, nil, "verify", "--local", filepath.Join(t.TempDir(), "none.json")); code != 2 {
		t.Errorf("without a cloud: exit %d, want 2", code)
	}
	if _, code := execute(t, nil, "verify"); code != 2 {
		t.Errorf("without sides: exit %d, want 2", code)
	}
}

func TestRedriveSendsDeadLettersOnceMore(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	put := l.put(t, "dead ", "in/box", "out/box", "left/alone")
	for key, etag := range put {
		l.arrived(t, key, etag)
	}
	l.quiet(t)
	// Letters as the functions write them: a signed transfer whose URL is long
	// dead, an event, and something that nobody can read, in each queue.
	letter := func(queue, body, class string) {
		t.Helper()
		if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: &queue, MessageBody: &body, MessageAttributes: map[string]types.MessageAttributeValue{
				"s3ferry-class":  {DataType: aws.String("String"), StringValue: &class},
				"s3ferry-reason": {DataType: aws.String("String"), StringValue: aws.String("the reason why")},
			},
		}); err != nil {
			t.Fatal(err)
		}
	}
	key := l.signingKey(t)
	for _, name := range []string{"in/box", "left/alone"} {
		source := l.sourceOf(t, name)
		message, err := wire.Sign(&wire.Transfer{
			ID: wire.ID(wire.OpPut, source), Op: wire.OpPut, Source: source,
			URL: secret.New("https://example.com/dead"), NotAfter: time.Now().Add(-time.Hour).UTC().Truncate(time.Second),
		}, key)
		if err != nil {
			t.Fatal(err)
		}
		letter(l.SQS.Queues.InboxDlq, message, "destination-denied")
	}
	letter(l.SQS.Queues.InboxDlq, "not signed by anybody", "malformed-transfer")
	letter(l.SQS.Queues.OutboxDlq, event.Encode(wire.OpPut, l.sourceOf(t, "out/box")), "access-denied")
	letter(l.SQS.Queues.OutboxDlq, "{}", "malformed-event")
	for name := range put {
		if _, err := l.destination.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.Destination.Bucket, Key: &name}); err != nil {
			t.Fatal(err)
		}
	}

	out, code := l.run(t, "redrive", "--list")
	for _, want := range []string{"destination-denied", "in/box", "left/alone", "out/box", "malformed-event", "the reason why", "3 listed, 2 kept"} {
		if !strings.Contains(out, want) {
			t.Errorf("the list has no %q", want)
		}
	}
	if code != 0 {
		t.Errorf("list: exit %d", code)
	}
	if out, _ := l.run(t, "redrive", "--dry-run", "--class", "access-denied"); !strings.Contains(out, "1 listed, 4 passed") {
		t.Errorf("dry run of a class: %q", out)
	}
	if out, code := l.run(t, "redrive", "--key", "*/box", "--json"); code != 0 || strings.Count(out, `"fate":"redriven"`) != 2 || strings.Contains(out, "left") {
		t.Errorf("of a pattern: exit %d and %q", code, out)
	}
	l.arrived(t, "in/box", put["in/box"])
	l.arrived(t, "out/box", put["out/box"])

	// What is left: one that can go, and two that nobody can read.
	if _, code := l.run(t, "redrive"); code != 1 {
		t.Errorf("with letters that stay: exit %d, want 1", code)
	}
	l.arrived(t, "left/alone", put["left/alone"])
	for _, queue := range []string{l.SQS.Queues.InboxDlq, l.SQS.Queues.OutboxDlq} {
		if n := l.depth(t.Context(), t, queue); n != 1 {
			t.Errorf("%d letters in %s, want the one that cannot be read", n, queue)
		}
	}
	if v, code := l.verify(t); code != 0 {
		t.Errorf("at the end: exit %d and %+v", code, v)
	}
}

// The same commands find two deployed stacks through two profiles.
func TestRepairThroughProfiles(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	for key, etag := range l.put(t, "v1 ", "a", "b/c") {
		l.arrived(t, key, etag)
	}
	l.quiet(t)
	env := []string{"AWS_CONFIG_FILE=" + l.profiles(t), "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true"}
	profiles := []string{"--global-profile", "sender", "--china-profile", "receiver"}

	if _, err := l.destination.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.Destination.Bucket, Key: aws.String("a")}); err != nil {
		t.Fatal(err)
	}
	if out, code := execute(t, env, append([]string{"verify", "--repair"}, profiles...)...); code != 1 || !strings.Contains(out, "1 repairs queued") {
		t.Errorf("verify: exit %d and %q", code, out)
	}
	l.quiet(t)
	if _, code := execute(t, env, append([]string{"verify"}, profiles...)...); code != 0 {
		t.Errorf("verify after the repair: exit %d", code)
	}
	if out, code := execute(t, env, append([]string{"redrive"}, profiles...)...); code != 0 || out != "no dead letters\n" {
		t.Errorf("redrive: exit %d and %q", code, out)
	}
	if out, code := execute(t, env, "backfill", "--global-profile", "sender", "--dry-run"); code != 0 || !strings.HasPrefix(out, "2 objects to be queued") {
		t.Errorf("backfill: exit %d and %q", code, out)
	}
	if _, code := execute(t, env, "verify", "--global-profile", "receiver", "--china-profile", "sender"); code != 2 {
		t.Errorf("with swapped profiles: exit %d, want 2", code)
	}
}

// profiles writes AWS configuration in which two profiles lead to the two sides.
func (l *local) profiles(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for name, side := range map[string]bucket{"sender": l.Source, "receiver": l.Destination} {
		fmt.Fprintf(&b, "[profile %s]\nregion = %s\naws_access_key_id = %s\naws_secret_access_key = %s\nservices = %s\n[services %s]\n",
			name, side.Region, side.AccessKeyID, side.SecretAccessKey, name, name)
		fmt.Fprintf(&b, "s3 =\n  endpoint_url = %s\n", side.Endpoint)
		for _, service := range []string{"sqs", "sts", "ssm", "cloudformation"} {
			fmt.Fprintf(&b, "%s =\n  endpoint_url = %s\n", service, l.SQS.Endpoint)
		}
	}
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sourceOf is the event about the object of key that is at the destination.
func (l *local) sourceOf(t *testing.T, key string) wire.Source {
	t.Helper()
	head, err := l.destination.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &l.Destination.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	return wire.Source{
		Region: l.Source.Region, Bucket: l.Source.Bucket, Key: key, Size: *head.ContentLength, EventTime: time.Now().UTC(),
		ETag: head.Metadata["s3ferry-source-etag"], VersionID: head.Metadata["s3ferry-source-version"], Sequencer: head.Metadata["s3ferry-sequencer"],
	}
}
