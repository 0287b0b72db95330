package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cdk runs the CLI of CDK in the repository.
func cdk(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cli, err := filepath.Abs("../node_modules/.bin/cdk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cli); err != nil {
		t.Skipf("the CLI of CDK is not installed, so this WAS NOT TESTED (npm ci): %v", err)
	}
	cmd := exec.CommandContext(t.Context(), cli, args...)
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Whoever deploys one stack waits for its functions only.
func TestAStackAloneBuildsOnlyItsOwnFunctions(t *testing.T) {
	for stack, want := range map[string][]string{
		globalSender:  {"courier", "sender"},
		chinaReceiver: {"receiver"},
	} {
		dir := t.TempDir()
		if out, err := cdk(t, "synth", "--quiet", "--exclusively", stack, "--output", dir); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		binaries, err := filepath.Glob(filepath.Join(dir, "asset.*", "bootstrap"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, binary := range binaries {
			out, err := exec.CommandContext(t.Context(), "go", "version", "-m", binary).Output()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, filepath.Base(regexp.MustCompile(`\tpath\t(\S+)`).FindStringSubmatch(string(out))[1]))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", stack, diff)
		}
		checkVersion(t, read(t, filepath.Join(dir, stack+".template.json")))
		if stack == chinaReceiver {
			checkDiff(t, dir)
		}
	}
}

// checkVersion finds in a template from which release or commit it was made.
func checkVersion(t *testing.T, template string) {
	t.Helper()
	// The go command finds no version in a worktree, whose .git is a file.
	if info, err := os.Stat("../.git"); err != nil || !info.IsDir() {
		t.Logf("not a clone of git, so the version of the stack WAS NOT TESTED: %v", err)
		return
	}
	if !regexp.MustCompile(`"(Sender|Receiver)Version": \{\s+"Description": "[^"]+",\s+"Value": "v\d`).MatchString(template) {
		t.Error("a stack does not say from which release or commit it was made")
	}
}

// checkDiff runs the command of diff.yml on what was synthesized into dir: it is
// content with no change and fails where a resource with state would be lost.
func checkDiff(t *testing.T, dir string) {
	t.Helper()
	command := regexp.MustCompile(`npx cdk (diff [^>]*)>`).FindStringSubmatch(read(t, "../.github/workflows/diff.yml"))
	if command == nil {
		t.Fatal("diff.yml has no npx cdk diff")
	}
	args := strings.Fields(strings.NewReplacer("\\\n", " ", `"$STACK"`, chinaReceiver, " cdk.out ", " "+dir+" ").Replace(command[1]))

	template := read(t, filepath.Join(dir, chinaReceiver+".template.json"))
	deployed := filepath.Join(t.TempDir(), "deployed.json") // stands for what CloudFormation has
	for _, tc := range []struct {
		name, template, want string
		fails                bool
	}{
		{"no change", template, "There were no differences", false},
		{"another alarm", strings.Replace(template, `"EvaluationPeriods": 1`, `"EvaluationPeriods": 2`, 1), "EvaluationPeriods", false},
		{"another bucket", strings.ReplaceAll(template, "ReceiverDestinationBucket8FF07B34", "ReceiverBucket8FF07B34"), "will be orphaned", true},
		{"another queue", strings.ReplaceAll(template, "MailboxInbox9799A954", "Inbox9799A954"), "will be destroyed", true},
	} {
		if err := os.WriteFile(deployed, []byte(tc.template), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := cdk(t, append(args, "--template", deployed)...)
		if (err != nil) != tc.fails || !strings.Contains(out, tc.want) {
			t.Errorf("%s: got %v, want failure: %v, and %q in\n%s", tc.name, err, tc.fails, tc.want, out)
		}
	}
}
