package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents returns the Markdown files of the repository with their text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "*.md")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	found := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if text, err := os.ReadFile(filepath.Join("..", name)); err == nil { // else deleted, not yet committed
			found[name] = string(text)
		}
	}
	return found
}

// A link of the documentation to a file of the repository leads to one, and one
// to a heading to a heading.
func TestLinksOfTheDocumentationLeadSomewhere(t *testing.T) {
	docs := documents(t)
	links := 0
	for name, text := range docs {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			path := name
			if target != "" {
				path = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, link[1])
				continue
			}
			if linked, ok := docs[path]; anchor != "" && ok && !anchors(linked)[anchor] {
				t.Errorf("%s: the link %s leads to no heading", name, link[1])
			}
		}
	}
	if links == 0 {
		t.Error("found no links")
	}
}

// anchors are the names that GitHub gives to the headings of a text.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

// A setting that the documentation names is one of docs/configuration.md, which a
// test holds against the code.
func TestSettingsOfTheDocumentationExist(t *testing.T) {
	setting := regexp.MustCompile("`((?:china|global)\\.[A-Za-z.]+)`")
	docs := documents(t)
	known := map[string]bool{}
	for _, row := range setting.FindAllStringSubmatch(docs["docs/configuration.md"], -1) {
		known[row[1]] = true
	}
	named := 0
	for name, text := range docs {
		for _, use := range setting.FindAllStringSubmatch(text, -1) {
			named++
			if !known[use[1]] {
				t.Errorf("%s names the setting %s, which is not in docs/configuration.md", name, use[1])
			}
		}
	}
	if named <= len(known) {
		t.Errorf("found %d names of %d settings: the other documents name some, too", named, len(known))
	}
}
