package linking_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/secret"
)

var accessKey = link.Credentials{AccessKeyID: "AKIASENDER", SecretAccessKey: secret.New("wJalr-hidden"), Region: "cn-north-1"}

// A mailbox that asks for signed requests is linked like any other: its access
// key goes into the link secret, and nowhere else.
func TestLinkWithIAM(t *testing.T) {
	for name, do := range map[string]func(*world) *linking.Result{
		"at once":   func(w *world) *linking.Result { return w.mustLink(linking.Options{}) },
		"in halves": func(w *world) *linking.Result { return w.halves(linking.Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldWith(t, accessKey).run()
			do(w)
			got, err := w.secret()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(accessKey, got.Credentials); diff != "" {
				t.Errorf("access key (-want +got):\n%s", diff)
			}
			if strings.Contains(w.trust(), accessKey.SecretAccessKey.Reveal()) {
				t.Error("the access key is in the trust document")
			}
		})
	}
}

func TestHalvesDoNotShowTheAccessKey(t *testing.T) {
	w := newWorldWith(t, accessKey).run()
	request, err := w.export(linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := w.answer(request.Content, linking.Options{})
	if err != nil || strings.Contains(string(answer.Content), accessKey.SecretAccessKey.Reveal()) {
		t.Errorf("got %v and %s", err, answer.Content)
	}
}

// A stack deployed with another access key serial: link mends it, with the
// signing key that there is.
func TestLinkAgainAfterTheAccessKeyWasReplaced(t *testing.T) {
	w := newWorldWith(t, accessKey).run()
	first := w.mustLink(linking.Options{})
	secret, err := w.secret()
	if err != nil {
		t.Fatal(err)
	}
	secret.Credentials.AccessKeyID = "AKIAOLD"
	document, err := link.EncodeSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	w.setSecret(string(document))

	g, c := w.open("global", "china")
	status, err := w.linker().Status(t.Context(), g, c)
	if err != nil || status.Linked || !strings.Contains(strings.Join(status.Why, " "), "another API key or access key") {
		t.Errorf("got %+v, %v", status, err)
	}
	second := w.mustLink(linking.Options{})
	got, err := w.secret()
	if err != nil || second.KeyID != first.KeyID || got.Credentials.AccessKeyID != accessKey.AccessKeyID {
		t.Errorf("got %+v, %v", second, err)
	}
}

func TestLinkSaysWhatTheAccessKeyLacks(t *testing.T) {
	w := newWorldWith(t, accessKey).run()
	if err := w.control.PutSecret("access-key", "{}"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.link(linking.Options{}); err == nil || !strings.Contains(err.Error(), "is no access key: deploy stack") {
		t.Errorf("got %v", err)
	}
}
