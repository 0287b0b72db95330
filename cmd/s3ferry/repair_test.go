package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestExitCodesOfRepair(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.json")
	for name, tc := range map[string]struct {
		args   []string
		want   int
		stderr string
	}{
		"no sides":                    {[]string{"verify"}, exitUsage, "got neither --local nor a profile"},
		"half the sides":              {[]string{"verify", "--global-profile", "g"}, exitUsage, "--china-profile: got nothing"},
		"the other half":              {[]string{"redrive", "--china-profile", "c"}, exitUsage, "--global-profile: got nothing"},
		"both ways":                   {[]string{"backfill", "--local", "x", "--global-profile", "g"}, exitUsage, "--local goes with neither"},
		"an argument":                 {[]string{"backfill", "here", "--local", "x"}, exitUsage, "here"},
		"a rate below zero":           {[]string{"backfill", "--local", "x", "--rate", "-1"}, exitUsage, "--rate: got -1"},
		"a state of nothing":          {[]string{"backfill", "--local", "x", "--state", "s", "--dry-run"}, exitUsage, "--dry-run does nothing"},
		"no lookups":                  {[]string{"verify", "--local", "x", "--lookups", "0"}, exitUsage, "--lookups: got 0"},
		"another queue":               {[]string{"redrive", "--local", "x", "--queue", "receipts"}, exitUsage, `--queue: got "receipts"`},
		"two ways to change nothing":  {[]string{"redrive", "--local", "x", "--list", "--dry-run"}, exitUsage, "--list and --dry-run"},
		"a pattern that is no key":    {[]string{"redrive", "--local", "x", "--key", "\xff*"}, exitUsage, `--key: got "\xff*", expected UTF-8`},
		"no such file":                {[]string{"redrive", "--local", none}, exitFailed, "--local: open"},
		"no such file for a backfill": {[]string{"backfill", "--local", none}, exitFailed, "--local: open"},
		"nothing to compare":          {[]string{"verify", "--local", none}, exitNotCompared, "not compared to the end: --local: open"},
		"no such report":              {[]string{"verify", "--local", "-", "--report", filepath.Join(none, "x")}, exitNotCompared, "--report: open"},
		"not what local prints":       {[]string{"verify", "--local", "-"}, exitNotCompared, "read the line that `s3ferry local` prints"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot()
			var stdout, stderr bytes.Buffer
			root.SetOut(&stdout)
			root.SetErr(&stderr)
			root.SetIn(strings.NewReader("{}"))
			if tc.want == exitNotCompared && !strings.Contains(tc.stderr, "report") {
				root.SetIn(strings.NewReader("nonsense"))
			}
			if got := run(t.Context(), root, tc.args); got != tc.want {
				t.Errorf("exit code %d, want %d", got, tc.want)
			}
			if !strings.Contains(stderr.String(), tc.stderr) || stdout.Len() > 0 {
				t.Errorf("stderr %q, want %q in it, and stdout %q, want nothing", stderr.String(), tc.stderr, stdout.String())
			}
		})
	}
}
