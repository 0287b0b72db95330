package live

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/chromedp/chromedp"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/internal/page/pagetest"
	"github.com/s3ferry/s3ferry/internal/wire"
)

var update = flag.Bool("update", false, "draw docs/images/live.png")

func TestMain(m *testing.M) {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	os.Exit(m.Run())
}

// start starts a cloud, with deletions or without, and its view.
func start(t *testing.T, deletes bool) *View {
	t.Helper()
	cloud, err := localcloud.Start(t.Context(), localcloud.Options{
		Gated: true, Deletes: deletes, Logs: io.Discard, CourierInterval: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	view, err := Start(cloud, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := view.Close(); err != nil {
			t.Error(err)
		}
		if _, err := cloud.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return view
}

func number(id string) string {
	return `+document.getElementById("` + id + `").textContent.replace(/\D/g, "")`
}

func TestTheViewInABrowser(t *testing.T) {
	view := start(t, true)
	p := pagetest.Open(t, view.URL, pagetest.Views()[0])
	p.Wait(`document.documentElement.dataset.ready === "yes"`)

	// Pressed twice, it puts once; and it keeps the focus.
	const fifty = `document.querySelector('[data-count="50"]')`
	if !pagetest.Eval[bool](p, `(b => { b.focus(); for (let i = 0; i < 2; i++) b.click(); return b.ariaDisabled === "true" && !b.disabled; })(`+fifty+`)`) {
		t.Error("the button does not say that it is busy, or is disabled")
	}
	p.Wait(number("n-destination") + " === 50 && " + number("n-courier") + " >= 50 && " + fifty + ".ariaDisabled === null")
	if !pagetest.Eval[bool](p, `document.activeElement === `+fifty) {
		t.Error("the button has lost the focus")
	}
	if n := pagetest.Eval[int](p, `document.querySelectorAll("#latest tr").length`); n != 12 {
		t.Errorf("%d rows of receipts, want the latest 12", n)
	}
	p.CheckLook()

	// A closed border: what is put waits, and crosses once it is open.
	toggle := chromedp.Click[chromedp.CSS](`[data-fault="border"]`)
	p.Do(toggle)
	p.Wait(`document.querySelector("#wall.closed") && document.querySelector('[data-fault="border"]').ariaChecked === "true"`)
	p.Do(chromedp.Click[chromedp.CSS](`[data-count="4"]`))
	p.Wait(number("n-source") + " === 54 && " + number("n-outbox") + " > 0")
	p.Screenshot("live-closed")
	if n := pagetest.Eval[int](p, number("n-destination")); n != 50 {
		t.Errorf("%d objects arrived over a closed border, want the 50 from before", n)
	}
	p.Do(toggle)
	p.Wait(`!document.querySelector("#wall.closed")`)
	p.Wait(number("n-destination") + " === 54")

	slow := chromedp.Click[chromedp.CSS](`[data-fault="slow"]`)
	p.Do(slow, chromedp.Click[chromedp.CSS](`[data-count="1"]`))
	p.Wait(`document.querySelector("path.pull.flows") && document.getElementById("wall-rate").textContent`)
	p.Do(chromedp.Click[chromedp.CSS](`[data-count="50"]`))
	p.Wait(number("n-destination") + " > 70")
	p.Screenshot("live")
	if *update {
		p.Draw("../../docs/images/live.png")
	}
	p.Do(slow)
	p.Wait(number("n-destination") + " === 105")
	p.CheckLook()

	// Deletions arrive, too.
	p.Do(chromedp.Click[chromedp.CSS](`[data-delete="20"]`))
	p.Wait(`document.getElementById("s-destination").textContent.endsWith("; 20 deleted") && ` + number("n-courier") + " >= 125")
	if n := pagetest.Eval[int](p, `[...document.querySelectorAll("#latest tr")].filter(r => r.cells[1].textContent === "delete" && r.cells[2].textContent === "deleted").length`); n != 12 {
		t.Errorf("%d rows of deletions, want the latest 12", n)
	}
	left, err := client(view.cloud.Destination).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &view.cloud.Destination.Bucket})
	if err != nil || len(left.Contents) != 85 {
		t.Errorf("%d objects are left at the destination (%v), want 85", len(left.Contents), err)
	}
	p.CheckLook()

	// What failed says why.
	source := wire.Source{Region: "us-east-1", Bucket: "source", Key: "failed", ETag: "e", EventTime: time.Now(), Sequencer: "01"}
	failed, err := wire.EncodeReceipt(wire.Receipt{ID: wire.ID(wire.OpPut, source), Op: wire.OpPut, Outcome: wire.Failed, Source: source, Reason: "the key has no place", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	view.watch.accepted("receipts", failed)
	p.Wait(`document.querySelector("#latest tr").cells[0].innerText === "failed\nthe key has no place"`)
	p.CheckLook()

	// Another page, opened later, sees the same.
	for _, v := range pagetest.Views()[1:] {
		other := pagetest.Open(t, view.URL, v)
		other.Wait(`document.documentElement.dataset.ready === "yes" && ` + number("n-destination") + " === 105")
		other.CheckLook()
		other.Screenshot("live")
		for _, url := range other.Requests() {
			if !strings.HasPrefix(url, view.URL) && !strings.HasPrefix(url, "data:") {
				t.Errorf("the page asks for %s", url)
			}
		}
	}
}

func TestTheViewIsForItsOwnPagesOnly(t *testing.T) {
	view := start(t, false)
	host := strings.TrimSuffix(strings.TrimPrefix(view.URL, "http://"), "/")
	port := host[strings.LastIndex(host, ":"):]
	busy := `{"on":true}`
	for name, tc := range map[string]struct {
		method, path, host, origin, body string
		want                             int
	}{
		"the page":                       {http.MethodGet, "", host, "", "", http.StatusOK},
		"by the name of this machine":    {http.MethodGet, "", "localhost" + port, "", "", http.StatusOK},
		"a name that leads here":         {http.MethodGet, "ticks", "evil.example" + port, "", "", http.StatusForbidden},
		"the name alone":                 {http.MethodGet, "", "127.0.0.1", "", "", http.StatusForbidden},
		"a fault by the page":            {http.MethodPost, "faults/busy", host, "http://" + host, busy, http.StatusNoContent},
		"a fault by another site":        {http.MethodPost, "faults/busy", host, "https://evil.example", busy, http.StatusForbidden},
		"a fault by another port":        {http.MethodPost, "faults/busy", host, "http://127.0.0.1:1", busy, http.StatusForbidden},
		"a fault by a page in a sandbox": {http.MethodPost, "faults/busy", host, "null", busy, http.StatusForbidden},
		"a fault by a name":              {http.MethodPost, "faults/busy", "evil.example" + port, "http://evil.example" + port, busy, http.StatusForbidden},
		"objects by another site":        {http.MethodPost, "objects", host, "https://evil.example", `{"count":1,"size":1}`, http.StatusForbidden},
		"a fault by a link":              {http.MethodGet, "faults/busy", host, "", "", http.StatusMethodNotAllowed},
		"no such fault":                  {http.MethodPost, "faults/rain", host, "", busy, http.StatusNotFound},
		"no JSON":                        {http.MethodPost, "faults/busy", host, "", "on", http.StatusBadRequest},
		"too many objects":               {http.MethodPost, "objects", host, "", `{"count":501,"size":1}`, http.StatusBadRequest},
		"deletions by another site":      {http.MethodPost, "deletions", host, "https://evil.example", `{"count":1}`, http.StatusForbidden},
		"deletions that are not carried": {http.MethodPost, "deletions", host, "", `{"count":1}`, http.StatusConflict},
		"too many deletions":             {http.MethodPost, "deletions", host, "", `{"count":501}`, http.StatusBadRequest},
		"too large":                      {http.MethodPost, "objects", host, "", `{"count":1,"size":268435457}`, http.StatusBadRequest},
		"another page":                   {http.MethodGet, "etc/passwd", host, "", "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tc.method, view.URL+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tc.host
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != tc.want {
				t.Errorf("status %d, want %d", answer.StatusCode, tc.want)
			}
			if got := answer.Header.Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") {
				t.Errorf("the page may be framed: %q", got)
			}
		})
	}
}

// Each fault does what it says, and stops.
func TestFaults(t *testing.T) {
	view := start(t, false)
	ticks := follow(t, view)
	set := func(name string, on bool) {
		t.Helper()
		body, _ := json.Marshal(map[string]bool{"on": on})
		answer, err := http.Post(view.URL+"faults/"+name, "application/json", bytes.NewReader(body))
		if err != nil || answer.StatusCode != http.StatusNoContent {
			t.Fatalf("switch %s: %v, %v", name, answer, err)
		}
		answer.Body.Close()
	}
	until := func(what string, reached func(tick) bool) {
		t.Helper()
		for {
			select {
			case got := <-ticks:
				if reached(got) {
					return
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("no tick with %s", what)
			}
		}
	}
	set("slow", true)
	if err := put(t.Context(), view.cloud.Source, 1, 3*slowRate); err != nil {
		t.Fatal(err)
	}
	until("a slow pull", func(got tick) bool {
		return got.Faults["slow"] && got.Border.Connections > 0 && got.Border.Rate > 0 && got.Border.Rate < 2*slowRate
	})
	set("slow", false)
	until("the large object copied", func(got tick) bool { return got.Outcomes["copied"] == 1 })

	want := 1
	for _, name := range []string{"throttle", "busy"} {
		set(name, true)
		until(name+" on", func(got tick) bool { return got.Faults[name] })
		if err := put(t.Context(), view.cloud.Source, 1, 10); err != nil {
			t.Fatal(err)
		}
		queue := map[string]string{"throttle": "outbox", "busy": "inbox"}[name]
		until("a message held in the "+queue, func(got tick) bool { return got.Queues[queue].Held > 0 })
		set(name, false)
		want++
		until("the object copied", func(got tick) bool { return !got.Faults[name] && got.Outcomes["copied"] == want })
	}
	until("a receiver", func(got tick) bool { return got.Functions["receiver"].Alive > 0 })
	set("kill", true)
	until("no receiver", func(got tick) bool { return got.Functions["receiver"].Alive == 0 && !got.Faults["kill"] })
}

// follow reads the ticks of a view.
func follow(t *testing.T, view *View) <-chan tick {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, view.URL+"ticks", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	ticks := make(chan tick)
	go func() {
		defer answer.Body.Close()
		event := ""
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			}
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok || event != "tick" {
				continue
			}
			var got tick
			if err := json.Unmarshal([]byte(data), &got); err != nil {
				panic(fmt.Sprintf("read %q: %v", data, err))
			}
			select {
			case ticks <- got:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return ticks
}
