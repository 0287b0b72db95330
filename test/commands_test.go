package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runElsewhere are the commands of the documentation that another part of the
// tests runs.
var runElsewhere = map[string]string{
	"npm ci":                     "the first step of continuous integration",
	"go test ./...":              "this",
	"go run ./cmd/s3ferry demo":  "the last step of continuous integration",
	"go run ./cmd/s3ferry local": "test/e2e",
	"npx cdk synth --quiet --exclusively ChinaReceiver": "infra",
}

// Every command of the documentation is run, or held against the flags that its
// program has, or says beside it why not.
func TestCommandsOfTheDocumentation(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("got documents %v: %v", docs, err)
	}
	s3ferry := filepath.Join(t.TempDir(), "s3ferry")
	run(t, "the tests", "go", "build", "-o", s3ferry, "./cmd/s3ferry")
	excused := map[string]bool{}
	for _, doc := range append(docs, "../README.md") { // which repeats some without their reason
		for _, line := range commands(t, doc) {
			command, remark, _ := strings.Cut(line, "   #")
			command, remark = strings.TrimSpace(command), strings.TrimSpace(remark)
			switch {
			case strings.HasPrefix(remark, "not tested") && strings.Contains(remark, ": "):
				excused[command] = true
			case doc == "../README.md" && excused[command]:
			case runElsewhere[command] != "":
			case strings.HasPrefix(command, "npx cdk synth "):
				run(t, doc, "node_modules/.bin/cdk", append(strings.Fields(command)[2:], "--output", t.TempDir())...)
			case strings.HasPrefix(command, "make "), strings.HasPrefix(command, "npx cdk "), strings.HasPrefix(command, "go run ./cmd/s3ferry "):
				checkFlags(t, doc, s3ferry, command)
			default:
				t.Errorf("%s: nothing tests %q, and it does not say why", doc, command)
			}
		}
	}
}

// commands returns the lines of the blocks of shell commands in a document.
func commands(t *testing.T, doc string) (lines []string) {
	t.Helper()
	data, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)\n```sh\n(.*?)\n```").FindAllStringSubmatch(string(data), -1) {
		for line := range strings.Lines(block[1]) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// checkFlags holds the flags of a command against those that its program tells
// of. What make would run is checked in its place.
func checkFlags(t *testing.T, doc, s3ferry, command string) {
	t.Helper()
	words := strings.Fields(command)
	var help string
	switch words[0] {
	case "make":
		for line := range strings.Lines(run(t, doc, "make", append([]string{"--dry-run", "--no-print-directory"}, arguments(command)[1:]...)...)) {
			if strings.HasPrefix(line, "npx cdk ") {
				checkFlags(t, doc, s3ferry, strings.TrimSpace(line))
			}
		}
		return
	case "npx":
		help = run(t, doc, "node_modules/.bin/cdk", words[2], "--help")
	default:
		help = run(t, doc, s3ferry, words[3], "--help")
		if !strings.Contains(help, "s3ferry "+words[3]) {
			t.Errorf("%s: %s: there is no such command", doc, command)
		}
	}
	for _, word := range words {
		flag, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(flag, "-") && !regexp.MustCompile(`(?m)(^|[\s,])`+regexp.QuoteMeta(flag)+`([\s,=]|$)`).MatchString(help) {
			t.Errorf("%s: %s: there is no flag %s", doc, command, flag)
		}
	}
}

// arguments splits a command at its spaces outside of double quotes.
func arguments(command string) (args []string) {
	for _, arg := range regexp.MustCompile(`(?:[^\s"]|"[^"]*")+`).FindAllString(command, -1) {
		args = append(args, strings.ReplaceAll(arg, `"`, ""))
	}
	return args
}

// run runs a program in the repository and returns what it says.
func run(t *testing.T, doc, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = ".."
	if strings.HasPrefix(program, "node_modules/") {
		if _, err := os.Stat(filepath.Join("..", program)); err != nil {
			t.Skipf("the CLI of CDK is not installed, so the commands of the documentation WERE NOT TESTED (npm ci): %v", err)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %s %s: %v\n%s", doc, program, strings.Join(args, " "), err, out)
	}
	return string(out)
}
