package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// block returns the first block of README.md that begins with head, without it.
func block(t *testing.T, head string) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), head)
	text, _, closed := strings.Cut(text, "```")
	if !found || !closed {
		t.Fatalf("README.md has no block %q", head)
	}
	return text
}

func TestTheProgramOfTheReadmeCompiles(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "main.go")
	if err := os.WriteFile(program, []byte("package main"+block(t, "```go\npackage main")), 0o600); err != nil {
		t.Fatal(err)
	}
	// The overlay puts it into this module without touching the checkout.
	virtual, err := filepath.Abs("readme/main.go")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{virtual: program}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", os.DevNull, "./readme")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSixCommandsLeadToTheFirstObject(t *testing.T) {
	commands := strings.Split(strings.TrimSpace("git clone"+block(t, "```sh\ngit clone")), "\n")
	if len(commands) != 6 || !strings.HasPrefix(commands[5], "aws s3 cp ") {
		t.Errorf("got %d commands, expected 6 of which the last uploads: %q", len(commands), commands)
	}
}

// A stranger's own app needs one go get, and less than ten lines for both sides.
func TestAnAppOfOnesOwnIsShort(t *testing.T) {
	program := block(t, "```go\npackage main")
	_, body, _ := strings.Cut(program, "app := awscdk.NewApp(nil)\n")
	body, _, found := strings.Cut(body, "\tapp.Synth(nil)\n")
	lines := strings.Fields(strings.ReplaceAll(strings.TrimSpace(body), " ", "")) // one a line that is not empty
	if !found || len(lines) < 3 || len(lines)+1 >= 10 {                           // and the import
		t.Errorf("got %d lines: %q", len(lines)+1, lines)
	}
	importing, err := os.ReadFile("../docs/importing.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(importing), "\ngo get "); n != 1 {
		t.Errorf("docs/importing.md has %d go gets, expected 1", n)
	}
}
