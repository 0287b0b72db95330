package settings_test

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/settings"
)

// values is one setting of each kind.
type values struct {
	Name string
	Size int
	Life time.Duration
}

func (v *values) settings() []settings.Setting {
	return []settings.Setting{
		{Name: "global.name", Kind: settings.Text(&v.Name, regexp.MustCompile(`^[a-z]+$`), "small letters")},
		{Name: "china.size", Kind: settings.Number(&v.Size, 2, 100)},
		{Name: "china.life", Kind: settings.Span(&v.Life, time.Minute, time.Hour)},
	}
}

func (v *values) read(context any) error {
	return errors.Join(settings.Read(context, "s3ferry", v.settings())...)
}

func TestADottedNameWins(t *testing.T) {
	var got values
	err := got.read(map[string]any{
		"s3ferry":             map[string]any{"global": map[string]any{"name": "a"}, "china": map[string]any{"size": 3.0}},
		"s3ferry.global.name": "b",
		"s3ferry.china.life":  "5m",
	})
	if want := (values{"b", 3, 5 * time.Minute}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestAProblemLeavesTheValue(t *testing.T) {
	got := values{Name: "before", Size: 7}
	err := got.read(map[string]any{"s3ferry.global.name": "B", "s3ferry.china.size": "101", "s3ferry.asia.size": "3"})
	for _, want := range []string{
		`s3ferry.global.name: got "B", expected small letters`,
		`s3ferry.china.size: got "101", expected a whole number from 2 to 100`,
		`s3ferry.asia.size: there is no such setting, expected them under s3ferry.global or s3ferry.china`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if want := (values{Name: "before", Size: 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// FuzzRead looks for a context that crashes the reader, or that sets something
// out of bounds.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"s3ferry":{"global":{"name":"a"},"china":{"size":3,"life":"5m"}},"s3ferry.china.size":"4"}`,
		`{"s3ferry":{"china":7,"":{"":null}},"s3fery.china.size":1,"china.size":2,"s3ferry.":3,".":4}`,
		`{"s3ferry":[],"s3ferry.global.naem":"x"}`, `null`, `{"s3ferry.china.size":1e999,"s3ferry.china.life":"1h0.0m"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var context any
		if json.Unmarshal([]byte(text), &context) != nil {
			return
		}
		var got values
		err := got.read(context)
		if got.Name != "" && strings.Trim(got.Name, "abcdefghijklmnopqrstuvwxyz") != "" ||
			got.Size != 0 && (got.Size < 2 || got.Size > 100) ||
			got.Life != 0 && (got.Life < time.Minute || got.Life > time.Hour) {
			t.Fatalf("%s: got %+v", text, got)
		}
		var again values
		if second := again.read(context); again != got || (err == nil) != (second == nil) {
			t.Fatalf("%s: got %+v, %v, and then %+v, %v", text, got, err, again, second)
		}
	})
}
