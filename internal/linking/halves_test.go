package linking_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/localcloud/control"
)

func (w *world) export(o linking.Options) (*linking.File, error) {
	w.t.Helper()
	g, _ := w.open("global", "china")
	return w.linker().Export(w.t.Context(), g, o)
}

func (w *world) answer(request []byte, o linking.Options) (*linking.File, error) {
	w.t.Helper()
	_, c := w.open("global", "china")
	return w.linker().Answer(w.t.Context(), c, request, o)
}

func (w *world) complete(answer []byte, o linking.Options) (*linking.Result, error) {
	w.t.Helper()
	g, _ := w.open("global", "china")
	return w.linker().Complete(w.t.Context(), g, answer, o)
}

// halves links by two files, none of which may fail.
func (w *world) halves(o linking.Options) *linking.Result {
	w.t.Helper()
	request, err := w.export(o)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := w.answer(request.Content, linking.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	if answer.Imported != request.Fingerprint {
		w.t.Errorf("the two see fingerprints %s and %s of one file", request.Fingerprint, answer.Imported)
	}
	result, err := w.complete(answer.Content, linking.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	if result.Imported != answer.Fingerprint {
		w.t.Errorf("the two see fingerprints %s and %s of one file", answer.Fingerprint, result.Imported)
	}
	for _, content := range [][]byte{request.Content, answer.Content} {
		if strings.Contains(string(content), apiKey) || strings.Contains(string(content), `"d"`) {
			w.t.Errorf("a secret is in the file:\n%s", content)
		}
	}
	return result
}

func TestHalves(t *testing.T) {
	w := newWorld(t).run()
	request, err := w.export(linking.Options{Sources: []string{"photos"}})
	if err != nil {
		t.Fatal(err)
	}
	// What waits for its answer is no link yet, for the functions neither.
	if _, err := w.secret(); !errors.Is(err, link.ErrNotLinked) {
		t.Errorf("got %v", err)
	}
	g, _ := w.open("global", "china")
	if s, err := w.linker().Status(t.Context(), g, nil); err != nil || s.Linked || s.Global.Pending != request.KeyID {
		t.Errorf("got %+v, %v", s, err)
	}

	result := w.halves(linking.Options{Sources: []string{"photos"}})
	if !w.trusted().Allows("photos", source.Region) || !w.trusted().Allows(source.Bucket, source.Region) {
		t.Errorf("got trust %s", w.trust())
	}
	secret, err := w.secret()
	if err != nil || secret.APIURL != w.api || secret.APIKey.Reveal() != apiKey || secret.SigningKey.ID != result.KeyID {
		t.Errorf("got %+v, %v", result, err)
	}
	if result.KeyID != request.KeyID {
		t.Errorf("the request that was lost is not exported again: got %s, want %s", result.KeyID, request.KeyID)
	}
	if s, err := w.linker().Status(t.Context(), g, nil); err != nil || !s.Linked || s.Global.Pending != "" {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := w.complete([]byte(`{"kind":"s3ferry-link-answer/1","kid":"x","sealed":"x"}`), linking.Options{}); err == nil ||
		!strings.Contains(err.Error(), "waits for no answer") {
		t.Errorf("got %v", err)
	}
}

// The key that is in use stays in use until the answer is there, and stays
// trusted until the next but one is.
func TestRotateByHalves(t *testing.T) {
	w := newWorld(t).run()
	first := w.halves(linking.Options{})
	if _, err := w.export(linking.Options{Rotate: true}); err != nil {
		t.Fatal(err)
	}
	if secret, err := w.secret(); err != nil || secret.SigningKey.ID != first.KeyID {
		t.Errorf("after the export, got %v", err)
	}
	second := w.halves(linking.Options{})
	third := w.halves(linking.Options{})
	ids := []string{first.KeyID, second.KeyID, third.KeyID}
	var doc struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal([]byte(w.trust()), &doc); err != nil {
		t.Fatal(err)
	}
	for i, key := range doc.Keys {
		if i >= len(ids) || key.Kid != ids[i] {
			t.Errorf("key %d is %s of %v", i, key.Kid, ids)
		}
	}
	_, c := w.open("global", "china")
	s, err := w.linker().Status(t.Context(), nil, c)
	if err != nil || len(s.China.Keys) != 3 || s.China.Keys[0].Retires == nil || s.China.Keys[1].Retires != nil || s.China.Keys[2].Retires != nil {
		t.Errorf("only the first is replaced for certain: got %+v, %v", s, err)
	}
}

func TestHalvesDryRun(t *testing.T) {
	w := newWorld(t).run()
	if _, err := w.export(linking.Options{DryRun: true}); err != nil {
		t.Error(err)
	}
	if len(w.writes()) > 0 {
		t.Errorf("export has made %v", w.writes())
	}
	request, err := w.export(linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := w.writes()
	dry, err := w.answer(request.Content, linking.Options{DryRun: true})
	if err != nil || dry.Imported != request.Fingerprint || !slices.Equal(before, w.writes()) {
		t.Errorf("got %+v, %v and writes %v", dry, err, w.writes())
	}
	answer, err := w.answer(request.Content, linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before = w.writes()
	if result, err := w.complete(answer.Content, linking.Options{DryRun: true}); err != nil || !slices.Equal(before, w.writes()) {
		t.Errorf("got %+v, %v and writes %v", result, err, w.writes())
	}
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	request, err := w.export(linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	good := string(request.Content)
	private, _ := link.EncodeSecret(link.Secret{})
	for name, tc := range map[string]struct{ content, want string }{
		"empty":           {"", "no request"},
		"a link secret":   {string(private), "no request"},
		"another kind":    {strings.Replace(good, "request/1", "request/2", 1), "no request"},
		"an extra member": {strings.Replace(good, "{", `{"x":1,`, 1), "no request"},
		"two":             {good + good, "no request"},
		"no source":       {strings.Replace(good, "us-east-1", "", 1), "sources: expected"},
		"an odd kid":      {strings.ReplaceAll(good, request.KeyID, "x"), "key: expected"},
		"a swapped key":   {strings.Replace(good, `"encryptTo": {`, `"encryptTo": {"x5c": [`, 1), "no request"},
	} {
		t.Run(name, func(t *testing.T) {
			if file, err := w.answer([]byte(tc.content), linking.Options{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v, want %q", file, err, tc.want)
			}
			if w.trust() != nobody {
				t.Errorf("something has changed: %s", w.trust())
			}
		})
	}
	w.setTrust(strings.Replace(othersTrust, "other-20260101-00000000", request.KeyID, 1))
	before := w.trust()
	if _, err := w.answer(request.Content, linking.Options{}); err == nil || !strings.Contains(err.Error(), "has another key called "+request.KeyID) || w.trust() != before {
		t.Errorf("got %v", err)
	}
}

func TestBadAnswers(t *testing.T) {
	w := newWorld(t)
	first, err := w.export(linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	toFirst, err := w.answer(first.Content, linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.export(linking.Options{Rotate: true})
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(second.Content), `"sources": [`, `"sources": [{"bucket":"my-source","region":"us-east-1"},`, 1)
	toChanged, err := w.answer([]byte(changed), linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	toSecond, err := w.answer(second.Content, linking.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ content, want string }{
		"empty":             {"", "no answer"},
		"the request":       {string(second.Content), "no answer"},
		"to an older one":   {string(toFirst.Content), "import the answer to the last request"},
		"to a changed one":  {string(toChanged.Content), "was not made for this request"},
		"under another kid": {strings.Replace(string(toFirst.Content), first.KeyID, second.KeyID, 1), "was not made for this request"},
		"cut short":         {strings.Replace(string(toSecond.Content), `"sealed": "`, `"sealed": "x`, 1), "was not made for this request"},
	} {
		t.Run(name, func(t *testing.T) {
			if result, err := w.complete([]byte(tc.content), linking.Options{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v, want %q", result, err, tc.want)
			}
			if _, err := w.secret(); !errors.Is(err, link.ErrNotLinked) {
				t.Errorf("something has changed: %v", err)
			}
		})
	}
	// A proof that fails leaves the answer to be imported again.
	w.knock = nil
	w.fault = func(_, action string) *control.Error {
		if action == "PutSecretValue" {
			return &control.Error{Code: "AccessDeniedException", Message: "no"}
		}
		return nil
	}
	w.run()
	if _, err := w.complete(toSecond.Content, linking.Options{}); err == nil || !strings.Contains(err.Error(), "secretsmanager:PutSecretValue") {
		t.Errorf("got %v", err)
	}
	w.fault = nil
	if result, err := w.complete(toSecond.Content, linking.Options{}); err != nil || result.KeyID != second.KeyID {
		t.Errorf("got %+v, %v", result, err)
	}
}
