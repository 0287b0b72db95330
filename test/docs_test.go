package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The classes of failures are what an operator finds beside a dead letter and in
// the logs, so docs/troubleshooting.md has each of them, and no other.
func TestEveryClassOfFailureIsExplained(t *testing.T) {
	permanent, transient := faultClasses(t)
	for _, tc := range []struct {
		heading string
		want    map[string]string
	}{{"## Dead letters", permanent}, {"## Messages that wait", transient}} {
		_, section, found := strings.Cut(readDoc(t, "troubleshooting.md"), "\n"+tc.heading+"\n")
		if !found {
			t.Fatalf("docs/troubleshooting.md has no section %q", tc.heading)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		var got []string
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
			got = append(got, row[1])
		}
		slices.Sort(got)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(tc.want)), got); diff != "" {
			t.Errorf("%s: the code has (-), the table has (+):\n%s\n%v", tc.heading, diff, tc.want)
		}
	}
}

// faultClasses returns the classes that the code gives to failures, each with a
// place where it does.
func faultClasses(t *testing.T) (permanent, transient map[string]string) {
	t.Helper()
	permanent, transient = map[string]string{}, map[string]string{}
	files := sources(t, "../internal")
	constants := map[string]string{} // by package.name
	for _, f := range files {
		maps.Copy(constants, stringConstants(f))
	}
	for _, f := range files {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			kind, ok := strings.CutPrefix(nameOf(call.Fun), "fault.")
			into := map[string]map[string]string{
				"Permanent": permanent, "Permanentf": permanent, "Transient": transient, "Transientf": transient,
			}[kind]
			if !ok || into == nil {
				return true
			}
			for _, class := range f.values(t, call.Args[0], constants) {
				into[class] = f.at(call)
			}
			return true
		})
	}
	return permanent, transient
}

// source is one file of Go.
type source struct {
	pkg    string
	set    *token.FileSet
	syntax *ast.File
	funcs  map[string]*ast.FuncDecl // of the whole package
}

func (f source) at(n ast.Node) string { return f.set.Position(n.Pos()).String() }

// sources parses the packages below root, without their tests.
func sources(t *testing.T, root string) []source {
	t.Helper()
	var all []source
	funcs := map[string]map[string]*ast.FuncDecl{} // by directory
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.Dir(name)
		if funcs[dir] == nil {
			funcs[dir] = map[string]*ast.FuncDecl{}
		}
		for _, d := range syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				funcs[dir][f.Name.Name] = f
			}
		}
		all = append(all, source{pkg: syntax.Name.Name, set: set, syntax: syntax, funcs: funcs[dir]})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func stringConstants(f source) map[string]string {
	found := map[string]string{}
	for _, d := range f.syntax.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, spec := range decl.Specs {
			values := spec.(*ast.ValueSpec)
			for i, name := range values.Names {
				if i < len(values.Values) {
					if text, ok := literal(values.Values[i]); ok {
						found[f.pkg+"."+name.Name] = text
					}
				}
			}
		}
	}
	return found
}

// values returns what the expression may be: a literal, a constant, or whatever
// a function of the package returns.
func (f source) values(t *testing.T, e ast.Expr, constants map[string]string) []string {
	t.Helper()
	if text, ok := literal(e); ok {
		return []string{text}
	}
	if call, ok := e.(*ast.CallExpr); ok && f.funcs[nameOf(call.Fun)] != nil {
		var all []string
		ast.Inspect(f.funcs[nameOf(call.Fun)], func(n ast.Node) bool {
			if ret, ok := n.(*ast.ReturnStmt); ok {
				all = append(all, f.values(t, ret.Results[0], constants)...)
			}
			return true
		})
		return all
	}
	name := nameOf(e)
	if !strings.Contains(name, ".") {
		name = f.pkg + "." + name
	}
	text, ok := constants[name]
	if !ok {
		t.Errorf("%s: this test cannot tell which class %s is: give a constant", f.at(e), name)
	}
	return []string{text}
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// nameOf returns the name that e is, "package.name" for another package's.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return fmt.Sprintf("%s.%s", nameOf(e.X), e.Sel.Name)
	default:
		return ""
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(path.Join("../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
