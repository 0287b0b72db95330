package consumer

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every example synthesizes, and no stack names a partition but by what it was
// given.
func TestExamples(t *testing.T) {
	// The texts that the templates must hold, by example and stack.
	want := map[string]map[string][]string{
		"two-accounts": {
			"Global": {"LinkSecretArn"}, "China": {"MailboxUrl", "TrustParameterName"},
		},
		"existing-buckets": {
			"Global": {"example-reports", "example-invoices", "outgoing/*.pdf"},
			"China":  {"example-archive/global/*", "global/{bucket}/", "STANDARD=STANDARD_IA"},
		},
		"other-partitions": {
			"Global": {"EventBridgeConfiguration"},
			"ToGov":  {`"for-Gov/"`}, "Gov": {`"for-Gov/"`},
			"ToSovereign": {`"for-Sovereign/"`}, "Sovereign": {`"for-Sovereign/"`},
		},
	}
	programs, err := filepath.Glob("../../_examples/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, program := range programs {
		found = append(found, filepath.Base(filepath.Dir(program)))
	}
	if expected := slices.Sorted(maps.Keys(want)); !slices.Equal(expected, found) {
		t.Fatalf("got examples %v, expected %v", found, expected)
	}
	for name, stacks := range want {
		t.Run(name, func(t *testing.T) {
			assembly := filepath.Join(t.TempDir(), "cdk.out")
			cmd := exec.CommandContext(t.Context(), "go", "run", "../../_examples/"+name)
			cmd.Env = append(os.Environ(), "CDK_OUTDIR="+assembly, `CDK_CONTEXT_JSON={"aws:cdk:bundling-stacks":[]}`)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			templates, err := filepath.Glob(filepath.Join(assembly, "*.template.json"))
			if err != nil || len(templates) != len(stacks) {
				t.Fatalf("got %v, %v, expected %d stacks", templates, err, len(stacks))
			}
			for stack, texts := range stacks {
				data, err := os.ReadFile(filepath.Join(assembly, stack+".template.json"))
				if err != nil {
					t.Fatal(err)
				}
				for _, text := range texts {
					if !strings.Contains(string(data), text) {
						t.Errorf("the template of %s does not hold %s", stack, text)
					}
				}
				for _, partition := range []string{"aws", "aws-cn", "aws-us-gov", "aws-eusc"} {
					if text := fmt.Sprintf("arn:%s:", partition); strings.Contains(strings.ReplaceAll(string(data), text+"kms:", ""), text) {
						t.Errorf("the template of %s holds %s", stack, text)
					}
				}
			}
		})
	}
}
