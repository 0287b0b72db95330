// Package synth helps tests look at what a CDK app synthesizes. It starts one
// jsii kernel a test binary, so the tests that use it must not run in parallel.
package synth

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"
)

// Main runs the tests and ends the kernel. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// Safely runs f, and fails the test with the message if it panics, as everything
// that crosses into CDK does on an error.
func Safely(t *testing.T, f func()) {
	t.Helper()
	if message := Panic(f); message != "" {
		t.Fatal(message)
	}
}

// Panic runs f and returns what it panicked with, or "".
func Panic(f func()) (message string) {
	defer func() {
		if r := recover(); r != nil {
			message = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

// Context returns the context of the repository's cdk.json, which reaches an app
// only through the CDK CLI, merged with more. Functions are not built.
func Context(t *testing.T, root string, more map[string]any) map[string]any {
	t.Helper()
	raw, err := fs.ReadFile(os.DirFS(root), "cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Context map[string]any `json:"context"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatalf("read cdk.json: %v", err)
	}
	maps.Copy(file.Context, more)
	file.Context["aws:cdk:bundling-stacks"] = []any{}
	return file.Context
}

// Template is a synthesized template.
type Template map[string]any

// Of synthesizes the app of the stack and returns the stack's template.
func Of(t *testing.T, stack awscdk.Stack) Template {
	t.Helper()
	var template Template
	Safely(t, func() { template = *assertions.Template_FromStack(stack, nil).ToJSON() })
	return template
}

// Text returns the template as JSON, sorted, with the hashes of assets masked.
func (tpl Template) Text(t *testing.T) string {
	t.Helper()
	raw, err := json.MarshalIndent(tpl, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return assetHash.ReplaceAllString(string(raw), "ASSET") + "\n"
}

var assetHash = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// Resource is one resource of a template.
type Resource struct {
	ID         string // logical
	Type       string
	Properties map[string]any
	Attributes map[string]any // the resource's members beside Type and Properties
}

// Resources returns the resources of the type, or all for "", by logical id.
func (tpl Template) Resources(resourceType string) []Resource {
	all := object(tpl["Resources"])
	var found []Resource
	for _, id := range slices.Sorted(maps.Keys(all)) {
		attributes := object(all[id])
		r := Resource{ID: id, Type: fmt.Sprint(attributes["Type"]), Properties: object(attributes["Properties"]), Attributes: attributes}
		if resourceType == "" || r.Type == resourceType {
			found = append(found, r)
		}
	}
	return found
}

// Only returns the one resource of the type whose logical id begins with prefix.
func (tpl Template) Only(t *testing.T, resourceType, prefix string) Resource {
	t.Helper()
	var found []Resource
	for _, r := range tpl.Resources(resourceType) {
		if strings.HasPrefix(r.ID, prefix) {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d resources of type %s begin with %q, want 1", len(found), resourceType, prefix)
	}
	return found[0]
}

// Get returns what is at the path of keys and indexes in the properties, or nil.
func (r Resource) Get(path ...any) any {
	var at any = r.Properties
	for _, step := range path {
		switch key := step.(type) {
		case string:
			at = object(at)[key]
		case int:
			list, _ := at.([]any)
			if key >= len(list) {
				return nil
			}
			at = list[key]
		}
	}
	return at
}

// Resolve returns value with references, joins and attributes as readable text:
// ${Id}, ${Id.Arn}, ${AWS::Region}.
func Resolve(value any) any {
	switch v := value.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = Resolve(v[i])
		}
		return out
	case map[string]any:
		if name, ok := v["Ref"].(string); ok {
			return "${" + name + "}"
		}
		if path, ok := v["Fn::GetAtt"].([]any); ok {
			return fmt.Sprintf("${%v.%v}", path...)
		}
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, part := range list(join[1]) {
				parts = append(parts, fmt.Sprint(part))
			}
			return strings.Join(parts, fmt.Sprint(join[0]))
		}
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = Resolve(v[key])
		}
		return out
	default:
		return value
	}
}

// Golden compares got with testdata/name, or writes it there with update.
func Golden(t *testing.T, name, got string, update bool) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := fs.ReadFile(os.DirFS("testdata"), name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is (-) but should be (+); if that is meant, run the test with -update and review the change:\n%s", path, diff)
	}
}
