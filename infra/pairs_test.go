package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/test/synth"
)

// pairs are the pairs of partitions that the templates are reviewed for. The
// first is the default.
var pairs = []struct{ name, from, to string }{
	{"aws-to-aws-cn", "us-east-1", "cn-north-1"},
	{"aws-cn-to-aws", "cn-northwest-1", "eu-west-1"},
	{"aws-to-aws-us-gov", "us-west-2", "us-gov-west-1"},
	{"aws-to-aws-eusc", "eu-central-1", "eusc-de-east-1"},
}

// ofEveryPair calls f with both templates of every pair.
func ofEveryPair(t *testing.T, f func(pair, stack, region, other string, template synth.Template)) {
	t.Helper()
	for i, p := range pairs {
		if i == len(pairTemplates) {
			pairTemplates = append(pairTemplates, templates(t, map[string]any{"s3ferry.global.region": p.from, "s3ferry.china.region": p.to}))
		}
		f(p.name, globalSender, p.from, p.to, pairTemplates[i][globalSender])
		f(p.name, chinaReceiver, p.to, p.from, pairTemplates[i][chinaReceiver])
	}
}

var pairTemplates []map[string]synth.Template

func TestTemplates(t *testing.T) {
	ofEveryPair(t, func(pair, stack, _, _ string, template synth.Template) {
		synth.Golden(t, filepath.Join(pair, stack+".json"), template.Text(t), *update)
	})
}

var (
	partitionName    = regexp.MustCompile(`\baws-(cn|us-gov|eusc|iso\w*)\b|\barn:aws\b`)
	endpointName     = regexp.MustCompile(`[\w.-]*\bamazonaws\.[\w.]+`)
	servicePrincipal = regexp.MustCompile(`^[a-z0-9]+\.amazonaws\.com$`) // spelt so in every partition
)

func TestNoTemplateNamesAPartition(t *testing.T) {
	ofEveryPair(t, func(pair, stack, region, other string, template synth.Template) {
		text := template.Text(t)
		if names := partitionName.FindAllString(text, -1); names != nil {
			t.Errorf("%s: %s names partitions: %q", pair, stack, names)
		}
		for _, name := range endpointName.FindAllString(text, -1) {
			if !servicePrincipal.MatchString(name) {
				t.Errorf("%s: %s names the endpoint %s", pair, stack, name)
			}
		}
		if strings.Contains(text, other) {
			t.Errorf("%s: %s, which is deployed to %s, knows of %s", pair, stack, region, other)
		}
	})
}

// lintIgnored are warnings of cfn-lint that are meant.
var lintIgnored = map[string]string{
	"W3005": "CDK lets a function wait for its whole role, policies included, and says so for the role too, which a GetAtt says already",
}

// The templates are valid by the schemas of the regions they are for, as far as
// cfn-lint knows them.
func TestLint(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "cfn-lint", "--version").CombinedOutput(); err != nil {
		t.Skipf("cfn-lint does not run here, so NO TEMPLATE WAS CHECKED against its region (pip install cfn-lint): %v %s", err, out)
	}
	byRegion := map[string][]string{}
	for _, p := range pairs {
		byRegion[p.from] = append(byRegion[p.from], filepath.Join("testdata", p.name, globalSender+".json"))
		byRegion[p.to] = append(byRegion[p.to], filepath.Join("testdata", p.name, chinaReceiver+".json"))
	}
	seen := map[string]bool{}
	for region, files := range byRegion {
		args := append([]string{"--format", "parseable", "--regions", region, "--template"}, files...)
		out, err := exec.CommandContext(t.Context(), "cfn-lint", args...).CombinedOutput() // fails if it finds something
		for line := range strings.Lines(string(out)) {
			check := lintFinding.ReplaceAllString(strings.TrimSpace(line), "$1")
			if lintIgnored[check] == "" {
				t.Errorf("%s: %s", region, line)
			}
			seen[check] = true
		}
		if err == nil && len(out) > 0 {
			t.Errorf("%s: cfn-lint has findings and is content: %s", region, out)
		}
	}
	for check := range lintIgnored {
		if !seen[check] {
			t.Errorf("cfn-lint does not give %s any more: take it out of lintIgnored", check)
		}
	}
}

var lintFinding = regexp.MustCompile(`^\S+\.json:\d+:\d+:\d+:\d+:([EWI]\d{4}):.*`)
