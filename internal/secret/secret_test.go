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
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		forms = append(forms, fmt.Sprintf(verb, h), fmt.Sprintf(verb, h.Key), fmt.Sprintf(verb, &h.Key), fmt.Sprintf(verb, w))
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
