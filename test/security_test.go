package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Whatever SECURITY.md says that somebody cannot do, a test shows.
func TestSecurityNamesTestsThatExist(t *testing.T) {
	data, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(data), "\n## Who can do what\n")
	if !found {
		t.Fatal("SECURITY.md has no section \"Who can do what\"")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	tests := testFunctions(t)
	rows := 0
	for _, row := range regexp.MustCompile(`(?m)^\| [^|]+ \| [^|]+ \| [^|]+ \| ([^|]*) \|$`).FindAllStringSubmatch(table, -1) {
		if row[1] == "tests" {
			continue
		}
		rows++
		names := regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(row[1], -1)
		if len(names) == 0 {
			t.Errorf("a row names no test: %s", row[0])
		}
		for _, name := range names {
			if !tests[name[1]] {
				t.Errorf("there is no %s, which this row names: %s", name[1], row[0])
			}
		}
	}
	if lines := strings.Count(table, "\n|") - 2; rows != lines {
		t.Errorf("%d of %d rows of the table were understood", rows, lines)
	}
}

// testFunctions returns the tests and fuzz targets of the repository.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, root := range []string{"../internal", "../constructs", "../infra", "../cmd", "."} {
		err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
				return err
			}
			syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range syntax.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					found[f.Name.Name] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
