package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestCostOfAWorkload(t *testing.T) {
	stdout, stderr, code := command(t.Context(), "cost", "--objects", "1000", "--size", "1000000", "--per", "day")
	if code != exitOK || !strings.Contains(stdout, "standing") || !strings.Contains(stdout, "30.00K objects of 1.00MB, in 30 days, over a fair link") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	_, stderr, code = command(t.Context(), "cost", "--size", "-1", "--per", "week", "--link", "lost")
	if code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{`--per: got "week"`, `--link: got "lost"`, "--objects: got 0", "--size: got -1"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("got %q, want %q in it", stderr, want)
		}
	}
}

// The table of README.md is what the command says.
func TestReadmeHasTheCost(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| ([\d,]+) objects of ([\d,]+) bytes \| ([\d.]+) \| ([\d.]+) \|`).FindAllStringSubmatch(string(readme), -1)
	if len(rows) != 2 {
		t.Fatalf("README.md has %d rows", len(rows))
	}
	for _, row := range rows {
		for i, flags := range [][]string{nil, {"--alone"}} {
			plain := strings.NewReplacer(",", "")
			args := append([]string{"cost", "--json", "--objects", plain.Replace(row[1]), "--size", plain.Replace(row[2])}, flags...)
			stdout, stderr, code := command(t.Context(), args...)
			var got struct{ USD struct{ Carrying float64 } }
			if err := json.Unmarshal([]byte(stdout), &got); code != exitOK || err != nil {
				t.Fatalf("exit code %d, %v\n%s", code, err, stderr)
			}
			if said := fmt.Sprintf("%.2f", got.USD.Carrying); said != row[3+i] {
				t.Errorf("README.md: %s objects of %s bytes cost %s, but %v says %s", row[1], row[2], row[3+i], args, said)
			}
		}
	}
}
