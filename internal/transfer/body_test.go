package transfer

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// newSlabs returns a body of the bytes in slabs of that size, none of which is
// there yet, and what counts the bytes that were given back.
func newSlabs(t *testing.T, whole []byte, size int) (b *body, given *int) {
	t.Helper()
	given = new(int)
	b = newBody(int64(len(whole)), computed, func(buf []byte) { *given += len(buf) }, 100)
	for from := 0; from < len(whole); from += size {
		buf := whole[from:min(from+size, len(whole))]
		b.reserve(t.Context())
		b.add(&slab{buf: buf, sum: computed.sum(buf), pulled: make(chan struct{})})
	}
	return b, given
}

// The last slab may be opened and filled, and everything be over, between a look of
// the reader and its wait.
func TestABodyThatIsOverIsReadToItsEnd(t *testing.T) {
	const rounds = 50_000
	whole := make([]byte, 20)
	for i := range rounds {
		b := newBody(int64(len(whole)), computed, func([]byte) {}, 2)
		add := func(buf []byte) {
			b.reserve(t.Context())
			s := &slab{buf: buf, pulled: make(chan struct{})}
			close(s.pulled)
			b.add(s)
		}
		add(whole[:10])
		<-b.more
		r := b.reader()
		go func() {
			for range i % 1000 { // spins
			}
			add(whole[10:])
			close(b.over)
		}()
		if _, err := io.ReadFull(r, make([]byte, len(whole))); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}

// S3 ends a request on which nothing comes, so something does, but not the last
// bytes that there are.
func TestABodyDripsWhileItsNextSlabIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 MiB
		b, given := newSlabs(t, whole, 1<<20)
		close(b.slabs[0].pulled)
		r := b.reader()
		var got bytes.Buffer
		if _, err := io.CopyN(&got, r, 1<<19); err != nil || b.sent() != 1<<19 {
			t.Fatalf("half a slab: %v", err)
		}
		began := time.Now()
		buf := make([]byte, 32<<10)
		drips := 0
		for ; b.sent() < 1<<20-8<<10; drips++ {
			n, err := r.Read(buf)
			got.Write(buf[:n])
			if err != nil || n > drip {
				t.Fatalf("got %d bytes, %v, want at most %d at a time", n, err, drip)
			}
		}
		if took := time.Since(began); took != time.Duration(drips)*dripPause || took < 5*time.Minute {
			t.Errorf("%d drips in %s, want %s between each", drips, took, dripPause)
		}
		close(b.slabs[1].pulled)
		close(b.slabs[2].pulled)
		began = time.Now()
		if _, err := io.Copy(&got, r); err != nil || time.Since(began) != 0 {
			t.Errorf("the rest: %v after %s", err, time.Since(began))
		}
		if !bytes.Equal(got.Bytes(), whole) || b.checksum() != computed.of(whole).value || *given != len(whole) {
			t.Errorf("got %d bytes, checksum %s, %d bytes given back", got.Len(), b.checksum(), *given)
		}
	})
}

// A slab that is not open yet may want the memory of the one before it.
func TestABodyKeepsNothingBackForASlabThatIsNotOpen(t *testing.T) {
	whole := bytes.Repeat([]byte("x"), 1000)
	b := newBody(2000, computed, func([]byte) {}, 100)
	b.reserve(t.Context())
	s := &slab{buf: whole, pulled: make(chan struct{})}
	close(s.pulled)
	b.add(s)
	if _, err := io.ReadFull(b.reader(), make([]byte, len(whole))); err != nil {
		t.Error(err)
	}
	close(b.over)
	if n, err := b.reader().Read(make([]byte, 1)); n != 0 || !errors.Is(err, errCut) {
		t.Errorf("nothing will come: got %d bytes, %v", n, err)
	}
}

func TestABodyIsReadByOneRequestOnly(t *testing.T) {
	whole := []byte("0123456789abcdefghij")
	b, _ := newSlabs(t, whole, 10)
	close(b.slabs[0].pulled)
	first := b.reader()
	buf := make([]byte, 4)
	if n, err := first.Read(buf); n != 4 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if !b.intact() {
		t.Error("nothing was given back, and yet the body cannot be read again")
	}
	second := b.reader()
	if n, err := first.Read(buf); n != 0 || !errors.Is(err, errCut) {
		t.Errorf("the earlier request: got %d bytes, %v", n, err)
	}
	close(b.slabs[1].pulled)
	if got, err := io.ReadAll(second); !bytes.Equal(got, whole) || err != nil || b.checksum() != computed.of(whole).value {
		t.Errorf("got %q, %v, checksum %s", got, err, b.checksum())
	}
	if b.intact() {
		t.Error("what was given back can be read again")
	}
	b.end()
	if n, err := second.Read(buf); n != 0 || !errors.Is(err, errCut) {
		t.Errorf("after its end: got %d bytes, %v", n, err)
	}
}

func TestPartSizes(t *testing.T) {
	const giB, tiB = 1 << 30, 1 << 40
	e := New(Options{})
	for _, tc := range []struct {
		size, want int64
		streamed   bool
	}{
		{1, 8 << 20, false},
		{10_000 * 8 << 20, 8 << 20, false},
		{10_000*8<<20 + 1, 16 << 20, false},
		{10_000 * 256 << 20, 256 << 20, false},
		{10_000*256<<20 + 1, 264 << 20, true},
		{16 * tiB, 1680 << 20, true},
		{50_000 * giB, 5 * giB, true}, // 48.8 TiB
		{50_000*giB + 1, 0, false},
	} {
		got, err := e.partSize(tc.size)
		if got != tc.want || (err != nil) != (tc.want == 0) || e.streams(part{size: got}) != tc.streamed {
			t.Errorf("%d bytes: got parts of %d, %v, streamed %v, want %d", tc.size, got, err, e.streams(part{size: got}), tc.want)
		}
	}
	odd := New(Options{PartSize: 7 << 20})
	if got, err := odd.partSize(50_000 * giB); got != 5*giB || err != nil {
		t.Errorf("parts of no multiple of the wanted size: got %d, %v", got, err)
	}
}
