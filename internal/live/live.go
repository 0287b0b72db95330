// Package live shows a laptop cloud at work in a browser: what crosses, what
// waits, and what happens when something breaks.
package live

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/page"
)

//go:embed live.html
var document string

//go:embed live.css
var style string

//go:embed live.js
var script string

var layout = template.Must(template.New("live").Parse(document))

// policy lets the page load what this server serves and nothing else, and no
// page frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// View serves the page on 127.0.0.1 until Close. Whoever can reach that address
// can switch faults on: only pages of its own may, and only under its own name,
// so no website can, not even by a name that leads here.
type View struct {
	URL string

	cloud  *localcloud.Cloud
	watch  *watch
	faults []fault
	server *http.Server
	ended  chan struct{} // closed when the watch has ended
	stop   chan struct{}
}

// Start begins to watch a gated cloud and to serve its page; port 0 picks a free
// one.
func Start(cloud *localcloud.Cloud, port int) (*View, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // it ends by Close
	if err != nil {
		return nil, fmt.Errorf("listen for the live view: %w", err)
	}
	v := &View{
		URL: "http://" + listener.Addr().String() + "/", cloud: cloud, watch: newWatch(cloud), faults: faults(cloud),
		ended: make(chan struct{}), stop: make(chan struct{}),
	}
	cloud.Watch(v.watch.accepted)
	v.server = &http.Server{Handler: v.handler(listener.Addr().String()), ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(v.ended)
		v.watch.run(v.stop, func(t *tick) {
			for i := range v.faults {
				t.Faults[v.faults[i].Name] = v.faults[i].isOn()
			}
		})
	}()
	go func() { _ = v.server.Serve(listener) }() // until Close
	return v, nil
}

// Close ends the view and all its connections.
func (v *View) Close() error {
	close(v.stop)
	<-v.ended
	return v.server.Close()
}

func (v *View) handler(address string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", v.servePage)
	mux.HandleFunc("GET /style.css", serveText("text/css", string(page.Style())+style))
	mux.HandleFunc("GET /script.js", serveText("text/javascript", string(page.Script())+script))
	mux.HandleFunc("GET /ticks", v.watch.serve)
	mux.HandleFunc("POST /faults/{name}", v.serveFault)
	mux.HandleFunc("POST /objects", v.serveObjects)
	mux.HandleFunc("POST /deletions", v.serveDeletions)
	return guarded(address, http.NewCrossOriginProtection().Handler(mux))
}

// guarded answers only requests that name this server as browsers do that were
// sent to it: a name of another site that leads to 127.0.0.1 is no way in.
func guarded(address string, next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(address) // of a listener
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if r.Host != address && r.Host != "localhost:"+port {
			http.Error(w, fmt.Sprintf("got host %q, expected %s", r.Host, address), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (v *View) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = layout.Execute(w, map[string]any{"Faults": v.faults, "Cloud": v.cloud.Description, "Deletes": v.cloud.Deletes()}) // the client is gone
}

func serveText(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
		_, _ = w.Write([]byte(text)) // the client is gone
	}
}

// serveFault switches a fault: {"on": true}.
func (v *View) serveFault(w http.ResponseWriter, r *http.Request) {
	var in struct{ On bool }
	if !decode(w, r, &in) {
		return
	}
	for i := range v.faults {
		if v.faults[i].Name == r.PathValue("name") {
			v.faults[i].set(in.On)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	http.NotFound(w, r)
}

// serveObjects puts objects into the source bucket: {"count": 50, "size": 2000}.
func (v *View) serveObjects(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Count int
		Size  int64
	}
	if !decode(w, r, &in) {
		return
	}
	if in.Count < 1 || in.Count > maxCount || in.Size < 0 || in.Size > maxSize {
		http.Error(w, fmt.Sprintf("got %d objects of %d bytes, expected 1 to %d of at most %d", in.Count, in.Size, maxCount, maxSize), http.StatusBadRequest)
		return
	}
	if err := put(r.Context(), v.cloud.Source, in.Count, in.Size); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveDeletions deletes objects from the source bucket: {"count": 20}.
func (v *View) serveDeletions(w http.ResponseWriter, r *http.Request) {
	var in struct{ Count int }
	if !decode(w, r, &in) {
		return
	}
	if in.Count < 1 || in.Count > maxCount {
		http.Error(w, fmt.Sprintf("got %d deletions, expected 1 to %d", in.Count, maxCount), http.StatusBadRequest)
		return
	}
	if !v.cloud.Deletes() {
		http.Error(w, "this laptop cloud carries no deletions: start it with --deletes", http.StatusConflict)
		return
	}
	if err := remove(r.Context(), v.cloud.Source, in.Count); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// decode reads a request and reports whether it could; if not, it has answered.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(into); err != nil {
		http.Error(w, fmt.Sprintf("read request: %v", err), http.StatusBadRequest)
		return false
	}
	return true
}
