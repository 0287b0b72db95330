// Package pagetest opens pages in a headless Chromium.
package pagetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take for anything.
const patience = 2 * time.Minute

// Screenshots is the variable that names a directory for pictures of the pages.
const Screenshots = "S3FERRY_SCREENSHOTS"

// View is how a page is looked at.
type View struct {
	Name          string
	Width, Height int64
	Dark          bool
}

// Views are a desk, a desk at night, and a phone.
func Views() []View {
	return []View{
		{Name: "light", Width: 1280, Height: 900},
		{Name: "dark", Width: 1280, Height: 900, Dark: true},
		{Name: "phone", Width: 390, Height: 844},
		{Name: "phone-dark", Width: 390, Height: 844, Dark: true},
	}
}

// Page is an open page.
type Page struct {
	t    testing.TB
	ctx  context.Context
	view View

	mu       sync.Mutex
	problems []string
	requests []string
}

// Open opens url, which must load without a word on the console. It skips the
// test, and says so, where there is no Chromium.
func Open(t testing.TB, url string, view View) *Page {
	t.Helper()
	browser := find(t)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)

	p := &Page{t: t, ctx: ctx, view: view}
	if err := chromedp.Listen(ctx, p.listen); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	scheme := "light"
	if view.Dark {
		scheme = "dark"
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	p.Do(
		call(log.Enable, cdp.Empty{}), call(network.Enable, network.EnableParams{}),
		chromedp.EmulateViewport(view.Width, view.Height), call(emulation.SetEmulatedMedia, media),
		chromedp.Navigate(url),
	)
	return p
}

// call is a command of the protocol as an action.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, command, params)
		return err
	})
}

// find returns the Chromium of this machine.
func find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("NO PAGE WAS RENDERED: there is no Chromium here (apt-get install chromium)")
	return ""
}

// listen takes down what the page complains of, and what it asks for.
func (p *Page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			text += " " + thrown.Description
		}
		p.problems = append(p.problems, text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			p.problems = append(p.problems, fmt.Sprintf("%s: %s", e.Type, said(e.Args)))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.problems = append(p.problems, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	}
}

// said returns the arguments of a call of the console, a space between them.
func said(args []*runtime.RemoteObject) string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = string(arg.Value) + arg.Description
	}
	return strings.Join(words, " ")
}

// Do runs actions of chromedp.
func (p *Page) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v", p.view.Name, err)
	}
}

// Wait waits until expression, of JavaScript, is true.
func (p *Page) Wait(expression string) {
	p.t.Helper()
	if _, err := chromedp.Run(p.ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(patience))); err != nil {
		p.t.Fatalf("%s: wait for %s: %v", p.view.Name, expression, err)
	}
}

// Eval returns the value of an expression of JavaScript.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: evaluate %s: %v", p.view.Name, expression, err)
	}
	return value
}

// Requests returns the addresses that the page has asked for, its own first.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// CheckLook fails the test if the page complains, is wider than its window, or
// has a chart on which nothing is drawn.
func (p *Page) CheckLook() {
	p.t.Helper()
	if wide := Eval[int64](p, "document.documentElement.scrollWidth"); wide > p.view.Width {
		p.t.Errorf("%s: the page is %d pixels wide in a window of %d: %s", p.view.Name, wide, p.view.Width, Eval[[]string](p,
			`[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth && !e.closest(".scroll")).map(e => e.tagName + "." + e.className)`))
	}
	for _, blank := range Eval[[]string](p, blankCharts) {
		p.t.Errorf("%s: nothing is drawn on chart %s", p.view.Name, blank)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.problems {
		p.t.Errorf("%s: the page complains: %s", p.view.Name, problem)
	}
}

// blankCharts names the charts that are flat or whose canvas has one colour.
const blankCharts = `[...document.querySelectorAll(".chart")].filter(box => {
	const canvas = box.querySelector("canvas");
	if (!canvas || box.clientHeight < 100 || box.clientWidth < 200) return true;
	const copy = Object.assign(document.createElement("canvas"), {width: canvas.width, height: canvas.height}).getContext("2d", {willReadFrequently: true});
	copy.drawImage(canvas, 0, 0);
	const pixels = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
	return new Set(pixels).size < 3;
}).map(box => box.id || "without id")`

// Screenshot keeps a picture of the whole page, if the variable Screenshots
// names a directory.
func (p *Page) Screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv(Screenshots)
	if dir == "" {
		return
	}
	p.keep(filepath.Join(dir, name+"-"+p.view.Name+".png"), chromedp.FullScreenshot(100))
}

// Draw keeps a picture of what is in the window as file.
func (p *Page) Draw(file string) {
	p.t.Helper()
	p.keep(file, chromedp.CaptureScreenshot())
}

func (p *Page) keep(file string, take chromedp.Action[[]byte]) {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, take)
	if err != nil {
		p.t.Fatalf("%s: take a picture: %v", p.view.Name, err)
	}
	if err := os.WriteFile(file, picture, 0o600); err != nil { //nolint:gosec // whoever runs the test names it
		p.t.Fatal(err)
	}
}
