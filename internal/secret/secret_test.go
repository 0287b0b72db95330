package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/secret"
)

func TestNoPrintedFormGivesTheTextAway(t *testing.T) {
	type holder struct {
		Name string
		Key  secret.String
	}
	type wrapper struct{ hidden holder }
	h := holder{Name: "n", Key: secret.New("hunter2")}
	w := wrapper{hidden: h}

	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "key", h.Key, "holder", h, "err", fmt.Errorf("with %v", h.Key))
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", h.Key, "holder", h, "pointer", &h)

	encoded, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{log.String(), string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
		forms = append(forms, fmt.Sprintf(verb, h), fmt.Sprintf(verb, h.Key), fmt.Sprintf(verb, &h.Key), fmt.Sprintf(verb, w),
			fmt.Sprintf(verb, []holder{h}), fmt.Sprintf(verb, map[string]holder{"a": h}), fmt.Sprintf(verb, any(w)))
	}
	if got := fmt.Sprint(h); got != "{n "+secret.Redacted+"}" {
		t.Errorf("Sprint = %q", got)
	}
	for _, form := range forms {
		if strings.Contains(form, "hunter2") || strings.Contains(form, "68756e74657232") {
			t.Errorf("the secret is in %q", form)
		}
	}
	if h.Key.Reveal() != "hunter2" {
		t.Error("Reveal does not give the text back")
	}
}

// A secret of any type is kept like a text.
func TestNoPrintedFormGivesAKeyAway(t *testing.T) {
	type pair struct {
		ID  string
		Key secret.Value[[]byte]
	}
	p := pair{"id", secret.New([]byte{201, 202, 203})}
	type wrapper struct{ hidden pair }

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", p.Key, "pair", p)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", p.Key, "pair", p, "wrapper", wrapper{p})
	encoded, err := json.Marshal(map[string]any{"pair": p, "list": []pair{p}})
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{log.String(), string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		forms = append(forms, fmt.Sprintf(verb, p), fmt.Sprintf(verb, &p), fmt.Sprintf(verb, wrapper{p}))
	}
	for _, form := range forms {
		for _, leak := range []string{"201 202", "0xc9, 0xca", "c9cacb", "ycrL", `\xc9`} {
			if strings.Contains(form, leak) {
				t.Errorf("the key is in %q", form)
			}
		}
	}
	if !p.Key.Equal(secret.New([]byte{201, 202, 203})) || p.Key.Equal(secret.New([]byte{1})) {
		t.Error("Equal compares something else")
	}
	if (secret.Value[[]byte]{}).Reveal() != nil {
		t.Error("the zero value holds something")
	}
}

func TestScrub(t *testing.T) {
	for text, want := range map[string]string{
		"GET https://b.s3.us-east-1.amazonaws.com/k?X-Amz-Signature=abc&x=1: reset": "GET https://b.s3.us-east-1.amazonaws.com/k?[redacted] reset",
		`Get "http://127.0.0.1:7/k?a=b": refused`:                                   `Get "http://127.0.0.1:7/k?[redacted]": refused`,
		"/k?X-Amz-Date=1&X-Amz-Security-Token=to/ken%3D&X-Amz-Signature=abc&x=1":    "/k?X-Amz-Date=1&X-Amz-Security-Token=[redacted]&X-Amz-Signature=[redacted]&x=1",
		"x-amz-signature%3Dabc": "x-amz-signature%3D[redacted]",
		"nothing to hide?":      "nothing to hide?",
	} {
		if got := secret.Scrub(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
