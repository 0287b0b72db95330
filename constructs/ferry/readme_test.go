package ferry_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/constructs/ferry"
)

// README.md lists every prop, in the order of the struct, and everything that
// the constructs hand out.
func TestReadmeListsProps(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	for _, props := range []any{ferry.SenderProps{}, ferry.Source{}, ferry.MailboxProps{}, ferry.ReceiverProps{}, ferry.WorkerProps{}} {
		var want []string
		for _, field := range reflect.VisibleFields(reflect.TypeOf(props)) {
			want = append(want, field.Name)
		}
		name := reflect.TypeOf(props).Name()
		_, section, _ := strings.Cut(readme, "\n## "+name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		var got []string
		for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section, -1) {
			got = append(got, row[1])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-code +README.md): %s", name, diff)
		}
	}
	for name, construct := range map[string]any{"Sender": &ferry.Sender{}, "Mailbox": &ferry.Mailbox{}, "Receiver": &ferry.Receiver{}, "Worker": &ferry.Worker{}} {
		of := reflect.TypeOf(construct)
		embedded := of.Elem().Field(0).Type // constructs.Construct
		var want []string
		for method := range of.Methods() {
			if _, ok := embedded.MethodByName(method.Name); !ok {
				want = append(want, method.Name)
			}
		}
		_, tables, _ := strings.Cut(readme, "\n## What they hand out\n")
		_, row, _ := strings.Cut(tables, "\n| `"+name+"` |")
		row, _, _ = strings.Cut(row, "\n")
		listed := map[string]bool{}
		for _, word := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row, -1) {
			listed[word[1]] = true
		}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(listed))); diff != "" {
			t.Errorf("methods of %s (-code +README.md): %s", name, diff)
		}
	}
}

// Every exported type has an example, which compiles with the tests.
func TestEveryTypeHasAnExample(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(set, files, "github.com/s3ferry/s3ferry/constructs/ferry")
	if err != nil || len(pkg.Types) == 0 {
		t.Fatalf("%d types, %v", len(pkg.Types), err)
	}
	for _, exported := range pkg.Types {
		if len(exported.Examples) == 0 {
			t.Errorf("%s has no example", exported.Name)
		}
	}
}
