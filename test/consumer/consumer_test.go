// Package consumer imports the constructs as a stranger's app does, in every way
// that Go knows, and compares what comes out.
package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/s3ferry/s3ferry/internal/version"
)

const (
	path     = "github.com/s3ferry/s3ferry"
	receiver = path + "/functions/receiver"
)

// The receiver's binary is the same wherever its source was found, so an app
// that changes from one way to another deploys nothing.
func TestAStrangersAppSynthesizes(t *testing.T) {
	c := newConsumer(t)
	program := readme(t)

	assets := map[string]string{}
	for _, tc := range []struct {
		name  string
		make  func(*testing.T, string) string // returns the app's directory
		flags []string
		// version is what the stack says of itself.
		version string
	}{
		{"module cache", c.fromProxy, nil, c.version},
		{"module cache, -trimpath", c.fromProxy, []string{"-trimpath"}, c.version},
		{"replace", c.withReplace, nil, version.Unknown},
		{"workspace", c.inWorkspace, nil, version.Unknown},
		{"vendored", c.vendored, []string{"-trimpath", "-mod=vendor"}, c.version},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := tc.make(t, program)
			bundle, version := c.synth(t, app, tc.flags...)
			if version != tc.version {
				t.Errorf("the receiver says that it is of %q, want %q", version, tc.version)
			}
			if info, err := os.Stat(filepath.Join(app, "cdk.out", "asset."+bundle, "bootstrap")); err != nil || info.Size() < 1<<20 {
				t.Errorf("the bundle holds no function: %v, %v", info, err)
			}
			assets[bundle] += tc.name + "; "
		})
	}
	if len(assets) > 1 {
		t.Errorf("the receiver depends on where its source was found: %v", assets)
	}

	t.Run("vendored, with Code", func(t *testing.T) {
		app := c.vendoredWithBundle(t, strings.NewReplacer(
			"ReceiverProps{Mailbox: mailbox}", `ReceiverProps{Mailbox: mailbox, Code: awslambda.Code_FromAsset(jsii.String("bundle"), nil)}`,
			"import (", "import (\n\t\"github.com/aws/aws-cdk-go/awscdk/v2/awslambda\"",
		).Replace(program))
		bundle, _ := c.synth(t, app, "-trimpath", "-mod=vendor")
		if _, err := os.Stat(filepath.Join(app, "cdk.out", "asset."+bundle, "bootstrap")); err != nil {
			t.Error(err)
		}
	})
}

// readme returns the program of README.md.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, found := strings.Cut(string(text), "```go\npackage main")
	program, _, closed := strings.Cut(program, "```")
	if !found || !closed {
		t.Fatal("README.md has no program")
	}
	return "package main" + program
}

// consumer is a machine that gets this tree as a release of the module.
type consumer struct {
	version string
	proxy   string // GOPROXY
	source  string // directory with the release's source
	cache   string // GOMODCACHE
	env     []string
}

// newConsumer packs this tree into a module proxy of files, before the machine's
// own. What of it then gets into the module cache is removed after the test.
func newConsumer(t *testing.T) *consumer {
	t.Helper()
	// The name is new each time, since the cache never looks twice.
	c := &consumer{version: fmt.Sprintf("v0.0.1-consumer.%d", time.Now().UnixNano()), cache: goEnv(t, "GOMODCACHE")}
	dir := t.TempDir()
	versions := filepath.Join(dir, "proxy", filepath.FromSlash(path), "@v")
	if err := os.MkdirAll(versions, 0o750); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(map[string]any{"Version": c.version, "Time": time.Now().UTC()})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"list": []byte(c.version + "\n"), c.version + ".info": info, c.version + ".mod": mod} {
		if err := os.WriteFile(filepath.Join(versions, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(versions, c.version+".zip")
	release := module.Version{Path: path, Version: c.version}
	pack(t, archive, release)
	c.source = filepath.Join(dir, "s3ferry")
	if err := modzip.Unzip(c.source, release, archive); err != nil {
		t.Fatal(err)
	}
	c.proxy = "file://" + filepath.ToSlash(filepath.Join(dir, "proxy")) + "," + goEnv(t, "GOPROXY")
	t.Cleanup(func() { c.forget(t) })
	return c
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// pack writes the module as a release would hold it.
func pack(t *testing.T, archive string, release module.Version) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var files []modzip.File
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "node_modules", "cdk.out"}, entry.Name()) {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() {
			relative, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			files = append(files, file{name, filepath.ToSlash(relative)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(modzip.Create(out, release, files), out.Close()); err != nil {
		t.Fatal(err)
	}
}

type file struct{ name, path string }

func (f file) Path() string                 { return f.path }
func (f file) Lstat() (fs.FileInfo, error)  { return os.Lstat(f.name) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.name) }

// fromProxy is what the README says: an app of its own module, and go get.
func (c *consumer) fromProxy(t *testing.T, program string) string {
	app := c.init(t, t.TempDir(), program)
	c.run(t, app, "go", "get", path+"/constructs/ferry@"+c.version)
	return app
}

func (c *consumer) withReplace(t *testing.T, program string) string {
	app := c.init(t, t.TempDir(), program)
	c.run(t, app, "go", "mod", "edit", "-replace="+path+"="+c.source)
	c.run(t, app, "go", "get", path+"/constructs/ferry")
	return app
}

func (c *consumer) inWorkspace(t *testing.T, program string) string {
	workspace := t.TempDir()
	if err := os.CopyFS(filepath.Join(workspace, "s3ferry"), os.DirFS(c.source)); err != nil {
		t.Fatal(err)
	}
	app := filepath.Join(workspace, "app")
	if err := os.Mkdir(app, 0o750); err != nil {
		t.Fatal(err)
	}
	c.init(t, app, program)
	c.run(t, workspace, "go", "work", "init", "./app", "./s3ferry")
	return app
}

// vendored is an app that vendors what it imports. No app imports the functions,
// so their source still comes from the module cache.
func (c *consumer) vendored(t *testing.T, program string) string {
	app := c.fromProxy(t, program)
	c.run(t, app, "go", "mod", "vendor")
	return app
}

// vendoredWithBundle needs nothing but what it has vendored: the receiver is a
// tool of the app, and built beforehand.
func (c *consumer) vendoredWithBundle(t *testing.T, program string) string {
	app := c.fromProxy(t, program)
	c.run(t, app, "go", "get", "-tool", receiver+"@"+c.version)
	c.run(t, app, "go", "mod", "vendor")
	c.proxy = "off"
	c.env = []string{"GOOS=linux", "GOARCH=amd64"}
	c.run(t, app, "go", "build", "-mod=vendor", "-trimpath", "-tags=lambda.norpc", "-ldflags=-s -w", "-o", "bundle/bootstrap", receiver)
	c.env = nil
	return app
}

// init makes the module of an app in dir.
func (c *consumer) init(t *testing.T, dir, program string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, dir, "go", "mod", "init", "example.com/app")
	return dir
}

// synth runs the app as the CDK CLI would, and returns the asset of the receiver
// and its version. Only the receiver's stack is bundled.
func (c *consumer) synth(t *testing.T, app string, flags ...string) (asset, version string) {
	t.Helper()
	c.run(t, app, "go", slices.Concat([]string{"run"}, flags, []string{"."})...)
	data, err := os.ReadFile(filepath.Join(app, "cdk.out", "China.template.json"))
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Outputs   map[string]struct{ Value any }
		Resources map[string]struct {
			Type       string
			Properties struct{ Code struct{ S3Key string } }
		}
	}
	if err := json.Unmarshal(data, &template); err != nil {
		t.Fatal(err)
	}
	for _, r := range template.Resources {
		if r.Type == "AWS::Lambda::Function" {
			return strings.TrimSuffix(r.Properties.Code.S3Key, ".zip"), fmt.Sprint(template.Outputs["ReceiverVersion"].Value)
		}
	}
	t.Fatal("the stack has no function")
	return "", ""
}

// run runs a command in dir, with nothing of how this test was started.
func (c *consumer) run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	start := time.Now()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(os.Environ(), []string{
		"PWD=" + dir, "GOPROXY=" + c.proxy, "GOFLAGS=", "GOWORK=",
		// No checksum database knows this release.
		"GOSUMDB=off", "GOPRIVATE=", "GONOPROXY=",
		"CDK_OUTDIR=cdk.out", `CDK_CONTEXT_JSON={"aws:cdk:bundling-stacks":["China"]}`,
	}, c.env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	t.Logf("%s: %v", cmd, time.Since(start).Round(time.Second))
}

// forget removes the release from the module cache, where all is read-only.
func (c *consumer) forget(t *testing.T) {
	tree := filepath.Join(c.cache, filepath.FromSlash(path)+"@"+c.version)
	_ = filepath.WalkDir(tree, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		return err
	})
	versions := filepath.Join(c.cache, "cache", "download", filepath.FromSlash(path), "@v")
	gone, err := filepath.Glob(filepath.Join(versions, c.version+".*"))
	if err != nil {
		t.Error(err)
	}
	// The cache also keeps a list of the versions that it knows of.
	for _, name := range append(gone, tree, filepath.Join(versions, "list")) {
		if err := os.RemoveAll(name); err != nil {
			t.Error(err)
		}
	}
}
