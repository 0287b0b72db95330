package relay_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/test/bench/relay"
)

func serve(t *testing.T, body []byte, link relay.Link) (*relay.Relay, *http.Client) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "body", time.Time{}, bytes.NewReader(body))
	}))
	t.Cleanup(server.Close)
	r, err := relay.Start(t.Context(), link, strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, &http.Client{Transport: &http.Transport{}}
}

func get(t *testing.T, client *http.Client, url string) ([]byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestBytesArriveAndAreCounted(t *testing.T) {
	body := random(3 << 20)
	r, client := serve(t, body, relay.Link{RTT: 20 * time.Millisecond, ConnectionRate: 64 << 20, Rate: 64 << 20})
	start := time.Now()
	for range 3 {
		got, err := get(t, client, r.Endpoint())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, body) {
			t.Fatalf("got %d other bytes, want %d", len(got), len(body))
		}
	}
	// One round trip to connect, and one each to be answered.
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("took %s, want at least four round trips", took)
	}
	got := r.Stats()
	const early = 2 * time.Millisecond // by which a chunk may leave before it is due
	if got.Busy < 70*time.Millisecond || got.Busy > time.Since(start)+early {
		t.Errorf("busy for %s, want about %s", got.Busy, time.Since(start))
	}
	got.Busy = 0
	if want := (relay.Stats{Connections: 1, Requests: 3, Bytes: 9 << 20}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRates(t *testing.T) {
	for name, link := range map[string]relay.Link{
		"of a connection": {RTT: 10 * time.Millisecond, ConnectionRate: 1 << 20},
		"of the link":     {Rate: 1 << 20},
	} {
		r, client := serve(t, random(300<<10), link)
		start := time.Now()
		if _, err := get(t, client, r.Endpoint()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 200*time.Millisecond {
			t.Errorf("%s: 300 KiB at 1 MiB/s took %s", name, took)
		}
	}
}

func TestResets(t *testing.T) {
	body := random(1 << 20)
	r, client := serve(t, body, relay.Link{ResetEvery: 1 << 20})
	broken := 0
	for range 60 { // the chance that none breaks is e^-60
		got, err := get(t, client, r.Endpoint())
		switch {
		case err != nil:
			broken++
		case err == nil && !bytes.Equal(got, body):
			t.Fatal("other bytes arrived")
		}
	}
	if broken == 0 || r.Stats().Resets == 0 {
		t.Errorf("%d downloads broke, %+v", broken, r.Stats())
	}
}
