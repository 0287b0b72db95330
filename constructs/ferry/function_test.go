package ferry

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFindSource(t *testing.T) {
	for _, name := range []string{"sender", "courier", "receiver"} {
		found, err := findSource(functionPackages + name)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := found.Dir, filepath.Join(found.Module.Dir, "functions", name); got != want {
			t.Errorf("%s is in %s, want %s", name, got, want)
		}
	}
}

func TestFindSourceSaysWhatIsMissing(t *testing.T) {
	_, err := findSource(functionPackages + "nobody")
	if err == nil || !strings.Contains(err.Error(), "find the source of "+functionPackages+"nobody with go list") ||
		!strings.Contains(err.Error(), "Code prop") {
		t.Errorf("got %v", err)
	}
}
