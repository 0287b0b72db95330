package linking_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/localcloud/control"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/mailbox"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// othersTrust is a receiver that has another sender, and members that this
// version does not know.
const othersTrust = `{ "keys":[{"kty":"OKP","crv":"Ed25519","kid":"other-20260101-00000000","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","note":"a<b"}],
 "sources":[{"bucket":"other","region":"eu-west-1","team":"x"}], "comment":"by hand" }`

func TestLink(t *testing.T) {
	w := newWorld(t).run()
	w.setTrust(othersTrust)
	g, c := w.open("global", "china")
	linker := w.linker()
	var told []string
	linker.Tell = func(text string) { told = append(told, text) }
	result, err := linker.Link(t.Context(), g, c, linking.Options{})
	if err != nil {
		t.Fatal(err)
	}

	secret, err := w.secret()
	if err != nil {
		t.Fatal(err)
	}
	if secret.APIURL != w.api || secret.APIKey.Reveal() != apiKey {
		t.Errorf("the link secret leads to %s", secret.APIURL)
	}
	trust := w.trusted()
	if !trust.Keys[secret.SigningKey.ID].Equal(secret.SigningKey.Key.Reveal().Public()) || !trust.Allows(source.Bucket, source.Region) {
		t.Errorf("the receiver does not trust what the sender signs: %s", w.trust())
	}
	if !strings.HasPrefix(result.KeyID, "my-source-"+time.Now().UTC().Format("2006")) || result.KeyID != secret.SigningKey.ID || !result.NewKey {
		t.Errorf("got %+v", result)
	}
	for _, kept := range []string{`"note":"a<b"`, `"team":"x"`, `"comment":"by hand"`, `"kid":"other-20260101-00000000"`} {
		if !strings.Contains(w.trust(), kept) {
			t.Errorf("%s of somebody else is gone: %s", kept, w.trust())
		}
	}
	if diff := cmp.Diff([]string{"PutParameter", "PutSecretValue"}, w.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	encoded, _ := json.Marshal(result)
	document, _ := link.EncodeSecret(secret)
	var private struct {
		Key struct {
			D string `json:"d"`
		} `json:"signingKey"`
	}
	if err := json.Unmarshal(document, &private); err != nil || private.Key.D == "" {
		t.Fatal(err)
	}
	for _, hidden := range []string{apiKey, private.Key.D} {
		if text := string(encoded) + strings.Join(told, "\n"); strings.Contains(text, hidden) {
			t.Errorf("a secret is in the output:\n%s", text)
		}
	}
	if n := w.receipts.Counts(); n != (sqs.Counts{}) {
		t.Errorf("the receipts queue has %+v, want the proof's receipt deleted", n)
	}
}

func TestLinkAgainProvesAndChangesNothing(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	before := w.writes()
	second := w.mustLink(linking.Options{Wait: time.Hour})
	if second.NewKey || second.KeyID != first.KeyID || !slices.Equal(before, w.writes()) {
		t.Errorf("got %+v and writes %v", second, w.writes())
	}
}

func TestLinkMends(t *testing.T) {
	t.Run("a new API key", func(t *testing.T) {
		w := newWorld(t).run()
		first := w.mustLink(linking.Options{})
		secret, _ := w.secret()
		document, _ := link.EncodeSecret(secret)
		w.setSecret(strings.Replace(string(document), apiKey, "an-older-key", 1))
		second := w.mustLink(linking.Options{})
		secret, err := w.secret()
		if err != nil || second.KeyID != first.KeyID || secret.APIKey.Reveal() != apiKey {
			t.Errorf("got %+v, %v", second, err)
		}
	})
	t.Run("a source taken away", func(t *testing.T) {
		w := newWorld(t).run()
		first := w.mustLink(linking.Options{})
		without, _ := link.EncodeTrust(link.Trust{Keys: w.trusted().Keys, Sources: []link.Source{}})
		w.setTrust(string(without))
		if second := w.mustLink(linking.Options{}); second.NewKey || second.KeyID != first.KeyID || !w.trusted().Allows(source.Bucket, source.Region) {
			t.Errorf("got %+v", second)
		}
	})
	// Whoever took it away may have had a reason.
	t.Run("a key taken away gets a successor", func(t *testing.T) {
		w := newWorld(t).run()
		first := w.mustLink(linking.Options{})
		w.setTrust(nobody)
		second := w.mustLink(linking.Options{})
		if _, back := w.trusted().Keys[first.KeyID]; back || !second.NewKey {
			t.Errorf("got %+v, and the old key is trusted: %v", second, back)
		}
	})
}

func TestDryRunChangesNothing(t *testing.T) {
	w := newWorld(t) // nobody would answer
	result := w.mustLink(linking.Options{DryRun: true})
	if len(w.writes()) > 0 || !result.DryRun || result.KeyID[len(result.KeyID)-1] != '*' {
		t.Errorf("got %+v and writes %v", result, w.writes())
	}
	want := []string{"trust the new key", "allow source bucket my-source", "prove", "write link secret"}
	for i, step := range result.Steps {
		if i >= len(want) || !strings.HasPrefix(step, want[i]) {
			t.Errorf("step %d is %q", i, step)
		}
	}
	if len(result.Steps) != len(want) {
		t.Errorf("got steps %q", result.Steps)
	}
}

// A sender that works all the time sees no refusal, and the old key goes.
func TestRotateRefusesNothing(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	var sent atomic.Int64
	sending.Go(func() {
		for ctx.Err() == nil {
			w.send(ctx)
			sent.Add(1)
		}
	})
	g, c := w.open("global", "china")
	linker := w.linker()
	linker.Times.Switch = 200 * time.Millisecond
	linker.Tell = func(text string) {
		if strings.HasPrefix(text, "waiting") {
			// The transfer under way may have the old key, and Switch is for those.
			for before := sent.Load(); sent.Load() == before; {
				time.Sleep(time.Millisecond)
			}
			time.AfterFunc(100*time.Millisecond, stop) // before the inbox can be empty for long
		}
	}
	result, err := linker.Link(t.Context(), g, c, linking.Options{Rotate: true, Wait: time.Minute})
	stop()
	sending.Wait()
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := w.secret()
	if !result.NewKey || result.KeyID == first.KeyID || secret.SigningKey.ID != result.KeyID {
		t.Errorf("got %+v and key %s in use", result, secret.SigningKey.ID)
	}
	if diff := cmp.Diff([]string{first.KeyID}, result.Removed); diff != "" || len(result.Retiring) > 0 || len(w.trusted().Keys) != 1 {
		t.Errorf("got %+v and trust %s", result, w.trust())
	}
	if n := w.refusals(); n > 0 || sent.Load() == 0 {
		t.Errorf("%d of %d transfers were refused", n, sent.Load())
	}
}

// send signs and posts one transfer, as the sender does.
func (w *world) send(ctx context.Context) {
	secret, err := w.secret()
	if err != nil {
		w.t.Error(err)
		return
	}
	s := wire.Source{
		Region: source.Region, Bucket: source.Bucket, Key: "k", ETag: "e",
		Sequencer: fmt.Sprintf("%016X", time.Now().UnixNano()), EventTime: time.Now().UTC(),
	}
	message, err := wire.Sign(&wire.Transfer{
		ID: wire.ID(wire.OpNoop, s), Op: wire.OpNoop, Source: s, NotAfter: time.Now().UTC().Add(time.Hour).Truncate(time.Second),
	}, secret.SigningKey)
	if err != nil {
		w.t.Error(err)
		return
	}
	client := mailbox.Client{HTTP: mailbox.NewHTTPClient(), URL: secret.APIURL, Key: secret.APIKey}
	if err := client.Send(ctx, []string{message})[0]; err != nil && ctx.Err() == nil {
		w.t.Error(err)
	}
	// The courier would collect it; here it only makes room.
	for _, r := range w.receipts.Receive(ctx, sqs.ReceiveOptions{Max: 1}) {
		if receipt, err := wire.DecodeReceipt(r.Body); err == nil && receipt.Source.Key == "k" {
			_ = w.receipts.Delete(r.ReceiptHandle)
		} else {
			_ = w.receipts.ChangeVisibility(r.ReceiptHandle, 0)
		}
	}
}

func TestAReplacedKeyStaysWhileItIsNeeded(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	second := w.mustLink(linking.Options{Rotate: true})
	if len(second.Retiring) != 1 || second.Retiring[0].KeyID != first.KeyID || len(second.Removed) > 0 {
		t.Fatalf("got %+v", second)
	}
	if until := time.Until(second.Retiring[0].Until); until < 14*24*time.Hour+time.Hour {
		t.Errorf("the old key is trusted for %s, less than a message may stay in the inbox and its URL lives", until)
	}
	// A message lies in the inbox.
	if _, err := w.inbox.Send(sqs.Message{Body: "later", Delay: new(15 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	third := w.mustLink(linking.Options{Wait: 300 * time.Millisecond})
	if diff := cmp.Diff(second.Retiring, third.Retiring); diff != "" || third.KeyID != second.KeyID {
		t.Errorf("with a message in the inbox (-want +got):\n%s", diff)
	}
	w.inbox.Purge()
	fourth := w.mustLink(linking.Options{Wait: time.Minute})
	if diff := cmp.Diff([]string{first.KeyID}, fourth.Removed); diff != "" || len(w.trusted().Keys) != 1 {
		t.Errorf("with an empty inbox, removed (-want +got):\n%s", diff)
	}
}

// An empty inbox says nothing as long as a sender may still believe the old secret.
func TestAReplacedKeyWaitsForSenders(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	g, c := w.open("global", "china")
	linker := w.linker()
	linker.Times.Switch = time.Hour
	second, err := linker.Link(t.Context(), g, c, linking.Options{Rotate: true, Wait: 300 * time.Millisecond})
	if err != nil || len(second.Retiring) != 1 || second.Retiring[0].KeyID != first.KeyID {
		t.Errorf("got %+v, %v", second, err)
	}
}

func TestAReplacedKeyGoesWhenItsTimeIsOver(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	second := w.mustLink(linking.Options{Rotate: true})
	w.setTrust(strings.Replace(w.trust(), fmt.Sprint(second.Retiring[0].Until.Unix()), "1700000000", 1))
	if third := w.mustLink(linking.Options{}); !slices.Equal(third.Removed, []string{first.KeyID}) {
		t.Errorf("got %+v", third)
	}
}

func TestRevokeDoesNotWait(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	if _, err := w.inbox.Send(sqs.Message{Body: "later", Delay: new(15 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	second := w.mustLink(linking.Options{Rotate: true, Revoke: true, Wait: time.Hour})
	if !slices.Equal(second.Removed, []string{first.KeyID}) || len(w.trusted().Keys) != 1 {
		t.Errorf("got %+v", second)
	}
}

// A receiver has several senders, each with its name.
func TestNames(t *testing.T) {
	w := newWorld(t).run()
	w.setTrust(othersTrust)
	first := w.mustLink(linking.Options{Name: "team.a"})
	second := w.mustLink(linking.Options{Rotate: true, Wait: time.Minute})
	if !strings.HasPrefix(first.KeyID, "team.a-") || !strings.HasPrefix(second.KeyID, "team.a-") {
		t.Errorf("got keys %s and %s", first.KeyID, second.KeyID)
	}
	if _, ok := w.trusted().Keys["other-20260101-00000000"]; !ok || len(w.trusted().Keys) != 2 {
		t.Errorf("got trust %s", w.trust())
	}
	if !slices.Equal(second.Others, []string{"other-20260101-00000000"}) {
		t.Errorf("got others %v", second.Others)
	}
}

func TestFurtherSources(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	second := w.mustLink(linking.Options{Sources: []string{"photos", "my-source", "photos"}})
	want := []link.Source{source, {Bucket: "photos", Region: "us-east-1"}}
	if diff := cmp.Diff(want, w.trusted().Sources); diff != "" || second.KeyID != first.KeyID {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

// The courier of a link that is at work may have collected the receipt.
func TestALostReceiptIsNoFailure(t *testing.T) {
	w := newWorld(t)
	var seen int
	w.receive = func(string) bool { seen++; return seen > 1 }
	w.run()
	g, c := w.open("global", "china")
	linker := w.linker()
	linker.Times.Resend = 100 * time.Millisecond
	if _, err := linker.Link(t.Context(), g, c, linking.Options{}); err != nil {
		t.Error(err)
	}
}

func TestBadInput(t *testing.T) {
	linked := func(w *world) {
		w.run()
		w.mustLink(linking.Options{})
	}
	deny := func(region, action, code, message string) func(*world) {
		return func(w *world) {
			w.run()
			w.fault = func(r, a string) *control.Error {
				if r == region && a == action {
					return &control.Error{Code: code, Message: message}
				}
				return nil
			}
		}
	}
	for name, tc := range map[string]struct {
		set           func(*world)
		global, china string // profiles
		options       linking.Options
		want          []string
	}{
		"swapped profiles": {
			global: "china", china: "global",
			want: []string{"no stack GlobalSender in cn-north-1 of account 000000000000 (aws-cn), where profile \"china\" leads", "but the other side's", "swapped"},
		},
		"wrong profile on either side": {
			global: "empty", china: "empty",
			want: []string{"no stack GlobalSender in us-west-2", "--global-profile", "no stack ChinaReceiver in us-west-2", "--china-profile"},
		},
		"half deployed": {
			set:  func(w *world) { w.stacks("CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE") },
			want: []string{"GlobalSender of profile \"global\" is being deployed (CREATE_IN_PROGRESS)", "ChinaReceiver of profile \"china\" is not whole (ROLLBACK_COMPLETE): deploy it again"},
		},
		"a stack that failed": {
			set:  func(w *world) { w.stacks("UPDATE_FAILED", "DELETE_FAILED") },
			want: []string{"UPDATE_FAILED", "DELETE_FAILED"},
		},
		"another stack of that name": {
			set: func(w *world) {
				w.control.PutStack(control.Stack{Region: "us-east-1", Name: linking.GlobalStack, Status: "CREATE_COMPLETE"})
			},
			want: []string{"has no output LinkSecretArn, SourceBucketName, SourceBucketRegion, OutboxUrl", "--global-stack"},
		},
		"an expired session": {
			set:  deny("cn-north-1", "GetCallerIdentity", "ExpiredToken", "The security token included in the request is expired"),
			want: []string{`profile "china": ask who it is`, "ExpiredToken", "log in again"},
		},
		"credentials of another partition": {
			set:  deny("cn-north-1", "GetCallerIdentity", "InvalidClientTokenId", "The security token included in the request is invalid"),
			want: []string{"region cn-north-1 does not know its credentials"},
		},
		"no permission to describe":       {set: deny("us-east-1", "DescribeStacks", "AccessDenied", "no"), want: []string{"needs the permission cloudformation:DescribeStacks"}},
		"no permission to read secret":    {set: deny("us-east-1", "GetSecretValue", "AccessDeniedException", "no"), want: []string{"needs the permission secretsmanager:GetSecretValue"}},
		"no permission to read API key":   {set: deny("cn-north-1", "GetApiKey", "AccessDeniedException", "no"), want: []string{"needs the permission apigateway:GET"}},
		"no permission to read trust":     {set: deny("cn-north-1", "GetParameter", "AccessDeniedException", "no"), want: []string{"needs the permission ssm:GetParameter"}},
		"no permission to write trust":    {set: deny("cn-north-1", "PutParameter", "AccessDeniedException", "no"), want: []string{"needs the permission ssm:PutParameter"}},
		"no permission to write secret":   {set: deny("us-east-1", "PutSecretValue", "AccessDeniedException", "no"), want: []string{"needs the permission secretsmanager:PutSecretValue"}},
		"a secret edited by hand":         {set: func(w *world) { w.setSecret(`{"apiUrl":"https://x/v1","apiKey":"hunter2"}`) }, want: []string{"is not what `s3ferry link` writes", "signingKey: missing", "--rotate"}},
		"a secret that is text":           {set: func(w *world) { w.setSecret(`hunter2`) }, want: []string{"not a JSON object", "--rotate"}},
		"a trust document edited by hand": {set: func(w *world) { w.setTrust(`{"keys":[{"kid":"x"}]}`) }, want: []string{"version 2, which is no trust document", "put an earlier version back"}},
		"an API key that is gone":         {set: func(w *world) { w.control.PutAPIKey("key-id", "") }, want: []string{"does not tell the value of API key key-id"}},
		"linked to another receiver": {
			set: func(w *world) {
				linked(w)
				w.api = "https://other.example.com/v1"
				w.stacks("CREATE_COMPLETE", "CREATE_COMPLETE")
			},
			want: []string{"is linked to http://127.0.0.1", "stack ChinaReceiver is https://other.example.com/v1", "--rotate"},
		},
		"a source bucket elsewhere": {
			set:  func(w *world) { w.buckets(control.Bucket{Region: "eu-west-1"}, control.Bucket{}) },
			want: []string{"source bucket my-source is in eu-west-1, and stack GlobalSender is in us-east-1"},
		},
		"both buckets elsewhere, and not to be looked at": {
			set: func(w *world) {
				deny("us-east-1", "HeadBucket", "AccessDenied", "no")(w)
				w.buckets(control.Bucket{Region: "eu-west-1"}, control.Bucket{Region: "cn-northwest-1"})
			},
			want: []string{"my-source is in eu-west-1", "destination bucket my-destination is in cn-northwest-1, and stack ChinaReceiver is in cn-north-1"},
		},
		"a source bucket that is gone": {
			options: linking.Options{Sources: []string{"gone"}},
			want:    []string{`profile "global": there is no source bucket gone`},
		},
		"a source bucket without EventBridge": {
			set: func(w *world) {
				w.buckets(control.Bucket{Region: "us-east-1", Queues: []string{others}}, control.Bucket{})
			},
			want: []string{"source bucket my-source does not send its events to EventBridge", "leaves its other notifications alone"},
		},
		"another queue takes the notifications": {
			set: func(w *world) {
				w.events = "Notifications"
				w.stacks("CREATE_COMPLETE", "CREATE_COMPLETE")
				w.buckets(control.Bucket{Region: "us-east-1", EventBridge: true, Queues: []string{others}}, control.Bucket{})
			},
			want: []string{"does not notify the outbox of new objects any more", others, "deploy stack GlobalSender again"},
		},
		"no permission to read notifications": {
			set:  deny("us-east-1", "GetBucketNotificationConfiguration", "AccessDenied", "no"),
			want: []string{"needs the permission s3:GetBucketNotification"},
		},
		"a name that is none":       {options: linking.Options{Name: "a b"}, want: []string{`--name: got "a b"`}},
		"a source that is none":     {options: linking.Options{Sources: []string{"s3://x"}}, want: []string{`--source-bucket: got "s3://x"`}},
		"another sender's name":     {set: func(w *world) { w.setTrust(othersTrust) }, options: linking.Options{Name: "other"}, want: []string{`"other" is what key other-20260101-00000000 is called already`}},
		"an account without an ICP": {set: icp(`{"Message":null}`), want: []string{"prove the link", "403", "without an ICP licence"}},
		"a wrong API key":           {set: func(w *world) { w.control.PutAPIKey("key-id", "hunter2") }, want: []string{"prove the link", "403", "Forbidden"}},
		"a receiver that refuses":   {set: func(w *world) { w.outcome = wire.Refused; w.run() }, want: []string{`answered "refused" (some-class): some reason`}},
		"a receiver that is silent": {want: []string{"no receipt for 1 no-ops within 50ms", "dead letters"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.set != nil {
				tc.set(w)
			}
			trust, secret := w.trust(), w.control.Secret(w.secretARN, "AWSCURRENT")
			if tc.global == "" {
				tc.global, tc.china = "global", "china"
			}
			g, c := w.open(tc.global, tc.china)
			linker := w.linker()
			if name == "a receiver that is silent" {
				linker.Times.Proof = 50 * time.Millisecond
			}
			_, err := linker.Link(t.Context(), g, c, tc.options)
			if err == nil {
				t.Fatal("it linked")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in %q", err)
			}
			if w.trust() != trust || w.control.Secret(w.secretARN, "AWSCURRENT") != secret {
				t.Errorf("something has changed: trust %s", w.trust())
			}
		})
	}
}

const others = "arn:aws:sqs:us-east-1:000000000000:theirs"

// A bucket tells the outbox in the way that the sender's stack says, or in either
// way if that says none.
func TestEveryWayOfTelling(t *testing.T) {
	const own = "arn:aws:sqs:us-east-1:000000000000:outbox"
	for name, tc := range map[string]struct {
		events string
		bucket control.Bucket
	}{
		"an older stack, EventBridge":   {"", control.Bucket{EventBridge: true}},
		"an older stack, notifications": {"", control.Bucket{Queues: []string{others, own}}},
		"EventBridge":                   {"EventBridge", control.Bucket{EventBridge: true, Queues: []string{others}}},
		"notifications":                 {"Notifications", control.Bucket{Queues: []string{others, own}}},
		"somebody else's business":      {"Outbox", control.Bucket{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.events = tc.events
			w.stacks("CREATE_COMPLETE", "CREATE_COMPLETE")
			tc.bucket.Region = source.Region
			w.buckets(tc.bucket, control.Bucket{})
			w.mustLink(linking.Options{DryRun: true})
		})
	}
}

func TestStatusTellsOfBuckets(t *testing.T) {
	w := newWorld(t).run()
	w.mustLink(linking.Options{})
	w.buckets(control.Bucket{Region: source.Region}, control.Bucket{Region: "cn-northwest-1"})
	g, c := w.open("global", "china")
	s, err := w.linker().Status(t.Context(), g, c)
	if err != nil || s.Linked || len(s.Why) != 2 || !strings.Contains(s.Why[0], "EventBridge") || !strings.Contains(s.Why[1], "cn-northwest-1") {
		t.Errorf("got %+v, %v", s, err)
	}
}

func icp(answer string) func(*world) {
	return func(w *world) {
		w.knock = func(rw http.ResponseWriter) bool {
			rw.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(rw, answer)
			return true
		}
	}
}

func TestRotateReplacesWhatIsBroken(t *testing.T) {
	w := newWorld(t).run()
	w.setSecret("hunter2")
	result := w.mustLink(linking.Options{Rotate: true})
	if secret, err := w.secret(); err != nil || secret.SigningKey.ID != result.KeyID {
		t.Errorf("got %v", err)
	}
}

func TestProfiles(t *testing.T) {
	w := newWorld(t)
	_, err := linking.OpenGlobal(t.Context(), linking.Side{Profile: "typo"})
	if err == nil || !strings.Contains(err.Error(), `--global-profile: no profile "typo"`) {
		t.Errorf("got %v", err)
	}
	// The environment's region is nobody's in particular, but better than none.
	t.Setenv("AWS_REGION", "")
	_, err = linking.OpenChina(t.Context(), linking.Side{Profile: "nowhere"})
	if err == nil || !strings.Contains(err.Error(), "--china-region") {
		t.Errorf("got %v", err)
	}
	g, err := linking.OpenGlobal(t.Context(), linking.Side{Profile: "nowhere", Region: "us-east-1", Stack: linking.GlobalStack})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := w.linker().Status(t.Context(), g, nil); err != nil || s.Linked {
		t.Errorf("got %+v, %v", s, err)
	}
}

// Somebody else writes between our reading and our writing.
func TestAConcurrentEditIsKept(t *testing.T) {
	w := newWorld(t).run()
	var once sync.Once
	w.fault = func(_, action string) *control.Error {
		if action == "PutParameter" {
			once.Do(func() { w.setTrust(othersTrust) })
		}
		return nil
	}
	result := w.mustLink(linking.Options{})
	trust := w.trusted()
	if _, ok := trust.Keys["other-20260101-00000000"]; !ok || !trust.Allows("other", "eu-west-1") {
		t.Errorf("somebody else's edit is gone: %s", w.trust())
	}
	if _, ok := trust.Keys[result.KeyID]; !ok || !trust.Allows(source.Bucket, source.Region) {
		t.Errorf("our own edit is gone: %s", w.trust())
	}
}

func TestUndoKeepsAConcurrentEdit(t *testing.T) {
	w := newWorld(t)
	w.outcome = wire.Refused
	w.receive = func(string) bool { // when the no-op arrives
		var trust map[string]json.RawMessage
		_ = json.Unmarshal([]byte(w.trust()), &trust)
		trust["comment"] = json.RawMessage(`"by hand"`)
		text, _ := json.Marshal(trust)
		w.setTrust(string(text))
		return true
	}
	w.run()
	if _, err := w.link(linking.Options{}); err == nil {
		t.Fatal("it linked")
	}
	if trust := w.trusted(); len(trust.Keys)+len(trust.Sources) > 0 || !strings.Contains(w.trust(), "by hand") {
		t.Errorf("got %s", w.trust())
	}
}

func TestAnInterruptPutsEverythingBack(t *testing.T) {
	w := newWorld(t)
	ctx, interrupt := context.WithCancel(t.Context())
	w.receive = func(string) bool { interrupt(); return false }
	w.run()
	g, c := w.open("global", "china")
	_, err := w.linker().Link(ctx, g, c, linking.Options{})
	if !errors.Is(err, context.Canceled) || w.trust() != nobody {
		t.Errorf("got %v and trust %s", err, w.trust())
	}
}

// If nobody knows whether the secret was written, both keys stay trusted.
func TestAnUncertainWriteLeavesTheKeyTrusted(t *testing.T) {
	w := newWorld(t).run()
	first := w.mustLink(linking.Options{})
	var put bool
	w.fault = func(_, action string) *control.Error {
		if put = put || action == "PutSecretValue"; put && strings.HasSuffix(action, "SecretValue") {
			return &control.Error{Code: "DecryptionFailure", Message: "no"}
		}
		return nil
	}
	_, err := w.link(linking.Options{Rotate: true})
	if err == nil || !strings.Contains(err.Error(), "may or may not") || len(w.trusted().Keys) != 2 {
		t.Errorf("got %v and trust %s", err, w.trust())
	}
	if _, ok := w.trusted().Keys[first.KeyID]; !ok {
		t.Error("the old key is not trusted any more")
	}
}

func TestStatus(t *testing.T) {
	w := newWorld(t).run()
	status := func(global, china bool) *linking.Status {
		t.Helper()
		g, c := w.open("global", "china")
		if !global {
			g = nil
		}
		if !china {
			c = nil
		}
		s, err := w.linker().Status(t.Context(), g, c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := status(true, true); s.Linked || !slices.Equal(s.Why, []string{"the link secret is empty"}) {
		t.Errorf("unlinked: got %+v", s)
	}
	if s := status(false, true); s.Linked {
		t.Errorf("unlinked, asking the receiver: got %+v", s)
	}
	first := w.mustLink(linking.Options{})
	for _, sides := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		if s := status(sides[0], sides[1]); !s.Linked {
			t.Errorf("linked, asking %v: got %+v", sides, s)
		}
	}
	second := w.mustLink(linking.Options{Rotate: true})
	s := status(true, true)
	if len(s.China.Keys) != 2 || s.China.Keys[0].ID != first.KeyID || s.China.Keys[0].Retires == nil ||
		s.China.Keys[1].ID != second.KeyID || !s.China.Keys[1].InUse || *s.Global.Key.Days != 0 {
		t.Errorf("after a rotation: got %+v", s.China)
	}
	writes := len(w.writes())
	w.setTrust(othersTrust)
	w.control.PutAPIKey("key-id", "another")
	want := []string{
		"the link secret has another API key or access key than the mailbox",
		"the receiver does not trust key " + second.KeyID, "the receiver does not allow source bucket my-source",
	}
	if s := status(true, true); s.Linked || !slices.Equal(s.Why, want) || *s.Global.Key.Days != 0 {
		t.Errorf("got %+v", s)
	}
	w.setSecret("hunter2")
	if s := status(true, true); s.Linked || len(s.Why) != 1 || strings.Contains(s.Why[0], "hunter2") {
		t.Errorf("broken: got %+v", s)
	}
	if len(w.writes()) != writes {
		t.Error("asking changed something")
	}
}
