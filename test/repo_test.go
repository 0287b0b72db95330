// Package test holds what is true of the repository as a whole.
package test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

const module = "github.com/s3ferry/s3ferry"

// deps returns every package that the packages of pattern reach, standard
// library excluded.
func deps(t *testing.T, pattern string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard", pattern)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the dependencies of %s: %v", pattern, err)
	}
	var paths []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Standard   bool
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if !p.Standard {
			paths = append(paths, p.ImportPath)
		}
	}
	return paths
}

func under(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

func TestBoundaries(t *testing.T) {
	cdk := []string{
		"github.com/aws/aws-cdk-go", "github.com/aws/constructs-go", "github.com/aws/jsii-runtime-go",
		"github.com/cdklabs", module + "/constructs", module + "/infra",
	}
	aws := []string{"github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go", "github.com/aws/aws-lambda-go"}
	laptop := []string{module + "/internal/localcloud", "github.com/versity", module + "/cmd"}

	for _, tc := range []struct {
		pattern   string
		forbidden []string
		why       string
	}{
		{"./functions/...", append(laptop, cdk...), "a function is what runs in the account, and starts in milliseconds"},
		{"./internal/...", cdk, "a jsii kernel takes seconds to start and needs Node"},
		{"./cmd/...", cdk, "the CLI runs where there is no Node"},
		{"./constructs/...", append(laptop, aws...), "whoever imports a construct should not compile an SDK"},
		{"./infra", append(laptop, aws...), "the app describes; it calls nothing"},
		{"./internal/transfer", []string{"github.com/aws/aws-lambda-go", module + "/internal/localcloud"}, "the engine knows S3 and bytes, not Lambda"},
	} {
		for _, dep := range deps(t, tc.pattern) {
			if under(dep, tc.forbidden...) {
				t.Errorf("%s reaches %s, and must not: %s", tc.pattern, dep, tc.why)
			}
		}
	}
}

func TestLeavesStayLeaves(t *testing.T) {
	for pkg, allowed := range map[string][]string{
		"envcfg": nil, "door": nil, "fault": nil, "secret": nil, "metric": nil,
		"version": {"golang.org/x/mod"},
		"wire":    {"github.com/go-jose/go-jose/v4", module + "/internal/door", module + "/internal/secret"},
	} {
		self := module + "/internal/" + pkg
		for _, dep := range deps(t, "./internal/"+pkg) {
			if dep != self && !under(dep, allowed...) {
				t.Errorf("internal/%s reaches %s; it may reach only the standard library and %q", pkg, dep, allowed)
			}
		}
	}
}

func TestConstructsShareOnlyTheContracts(t *testing.T) {
	for _, dep := range deps(t, "./constructs/...") {
		if under(dep, module+"/internal") && !under(dep, module+"/internal/envcfg", module+"/internal/door", module+"/internal/metric", module+"/internal/cost", module+"/internal/version") {
			t.Errorf("constructs reach %s; of internal they may only reach envcfg, door, metric, cost and version", dep)
		}
	}
}

func TestFunctionsAreThin(t *testing.T) {
	mains, err := filepath.Glob("../functions/*/main.go")
	if err != nil || len(mains) != 3 {
		t.Fatalf("got functions %v (%v), expected sender, receiver and courier", mains, err)
	}
	for _, path := range mains {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), "\n"); n > 40 {
			t.Errorf("%s has %d lines, at most 40 are configuration, clients and lambda.Start", path, n)
		}
	}
}

func TestModuleFile(t *testing.T) {
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 {
		t.Errorf("go.mod has %d replace directives: whoever imports this module would not get them", len(mod.Replace))
	}
	architecture, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if !r.Indirect && !strings.Contains(string(architecture), "`"+r.Mod.Path+"`") {
			t.Errorf("ARCHITECTURE.md does not say what %s is for", r.Mod.Path)
		}
	}
}

// What stands in a tracked file is read by strangers, on other machines.
func TestNothingOfThisMachineIsCommitted(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		file, err := os.Open(filepath.Join("..", name))
		if err != nil {
			continue // deleted, not yet committed
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 16<<20)
		for n := 1; lines.Scan(); n++ {
			for _, path := range []string{top + "/", home + "/"} {
				if strings.Contains(lines.Text(), path) {
					t.Errorf("%s:%d names the path %s of this machine", name, n, path)
				}
			}
		}
		if err := lines.Err(); err != nil {
			t.Errorf("read %s: %v", name, err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
}
