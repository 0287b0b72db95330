package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// exact is a version that always means the same.
var exact = regexp.MustCompile(`^v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// What is run to build, test and release is named by exact versions, each tool by
// one everywhere. TestModuleFile looks at go.mod.
func TestVersionsAreExact(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got workflows %v (%v)", files, err)
	}
	files = append(files, "../.ci/run", "../Makefile")
	named := regexp.MustCompile(`(?:uses: |go run |go install |go get |:?= ?|npx |==)?([\w./-]+)(@|==)([\w.-]+)`)
	versions := map[string]string{} // by what is named
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range named.FindAllStringSubmatch(string(data), -1) {
			what, version := found[1], found[3]
			if !strings.Contains(what, "/") && found[2] == "@" {
				continue // an address or a shell's $@
			}
			if !exact.MatchString(version) {
				t.Errorf("%s: %s is named by %q, which may become another", name, what, version)
			}
			if other, ok := versions[what]; ok && other != version {
				t.Errorf("%s: %s is %s here and %s elsewhere", name, what, version, other)
			}
			versions[what] = version
		}
		if strings.Contains(string(data), "latest") && !strings.Contains(string(data), "ubuntu-latest") {
			t.Errorf("%s takes the latest of something", name)
		}
	}
	for _, tool := range []string{"actions/checkout", "golang.org/x/vuln/cmd/govulncheck", "github.com/golangci/golangci-lint/v2/cmd/golangci-lint", "cfn-lint"} {
		if versions[tool] == "" {
			t.Errorf("%s was not found: this test looks past it", tool)
		}
	}
}

func TestPackagesOfNodeAreExact(t *testing.T) {
	data, err := os.ReadFile("../package.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Dependencies, DevDependencies map[string]string }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.DevDependencies) == 0 {
		t.Error("package.json names nothing: this test looks past it")
	}
	for _, group := range []map[string]string{file.Dependencies, file.DevDependencies} {
		for name, version := range group {
			if !exact.MatchString(version) {
				t.Errorf("package.json: %s is %q, expected an exact version", name, version)
			}
		}
	}
	lock, err := os.ReadFile("../package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	// The first entry is this repository itself.
	if packages := strings.Count(string(lock), `"node_modules/`); packages == 0 || packages != strings.Count(string(lock), `"integrity":`) {
		t.Error("package-lock.json: not each package has an integrity hash")
	}
}
