package transfer

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// S3 closes a connection on which nothing comes for a while. So a body keeps some
// bytes back as long as the next slab is not there, and hands out a few from time to
// time: enough for longer than a range is tried.
const (
	dripPause = 5 * time.Second
	drip      = 8 << 10 // more than what net/http would collect first
	keepMost  = 512 << 10
)

// slab is a piece of a part.
type slab struct {
	buf    []byte        // nil once it was given back
	sum    uint64        // CRC of buf
	pulled chan struct{} // closed when buf is full and sum is set
}

// body is the bytes of a part, read while they are pulled. It gives each slab back
// once that was read.
type body struct {
	crc  crc
	size int64
	give func([]byte)
	over chan struct{} // closed when nothing is pulled any more
	room chan struct{} // holds one for each slab that was not read
	more chan struct{} // says that there is another slab

	mu      sync.Mutex
	current *bodyReader // who may read
	slabs   []*slab     // in order, those that were read too
	next    int         // of slabs
	rest    []byte      // of the slab before that
	left    int64       // bytes that were not read
	total   uint64      // CRC of what was read
}

// newBody returns a body that has at most so many slabs at once.
func newBody(size int64, c crc, give func([]byte), slabs int) *body {
	return &body{
		crc: c, size: size, left: size, give: give, over: make(chan struct{}),
		room: make(chan struct{}, max(1, slabs)), more: make(chan struct{}, 1),
	}
}

// reserve waits for room for another slab, and returns false if ctx ends first.
func (b *body) reserve(ctx context.Context) bool {
	select {
	case b.room <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// add appends s, which has room and whose buffer is b's from now on.
func (b *body) add(s *slab) {
	b.mu.Lock()
	b.slabs = append(b.slabs, s)
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// begun waits until there is something to read, or b is over.
func (b *body) begun() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.free() == 0 {
		if _, err := b.wait(); err != nil {
			return err
		}
	}
	return nil
}

// sent returns how many bytes were read.
func (b *body) sent() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size - b.left
}

// checksum returns the CRC of what was read.
func (b *body) checksum() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.crc.format(b.total)
}

// end lets nobody read any more.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = nil
}

// release gives back what is left, when nothing is pulled or read any more.
func (b *body) release() {
	for _, s := range b.slabs {
		if s.buf != nil {
			b.give(s.buf)
			s.buf = nil
		}
	}
}

// bodyReader reads a body for one request. net/http may hold on to it for longer
// than the request lasts: then it gets nothing, and never what another one reads.
type bodyReader struct{ *body }

// reader returns a reader in place of the one before, from the start if b is intact
// and from where that one stopped otherwise.
func (b *body) reader() io.Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next > 0 && b.slabs[0].buf != nil {
		b.rest, b.left = b.slabs[0].buf, b.size
	}
	b.current = &bodyReader{b}
	return b.current
}

// intact reports whether another request can have all of b: no slab was given back.
func (b *body) intact() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.slabs) > 0 && b.slabs[0].buf != nil
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.current == r {
		if r.left == 0 {
			return 0, io.EOF
		}
		if n := r.free(); n > 0 {
			return r.hand(p[:min(n, len(p))]), nil
		}
		dry, err := r.wait()
		switch {
		case err != nil:
			return 0, err
		case dry && r.current == r && len(r.rest) > 0:
			return r.hand(p[:min(drip, len(p))]), nil
		}
	}
	return 0, errCut
}

// coming returns the next slab, nil if it is not open yet. mu is held.
func (b *body) coming() *slab {
	if b.next == len(b.slabs) {
		return nil
	}
	return b.slabs[b.next]
}

// free returns how many bytes may be handed out now. mu is held.
func (b *body) free() int {
	coming, here := b.coming(), false
	if coming != nil {
		select {
		case <-coming.pulled:
			here = true
		default:
		}
	}
	switch {
	case len(b.rest) > 0 && (here || coming == nil):
		// The last slab has nothing to wait for, and one that is not open yet may
		// want the memory of this one.
		return len(b.rest)
	case len(b.rest) > 0:
		return max(0, len(b.rest)-min(keepMost, len(b.slabs[b.next-1].buf)/2))
	case here:
		b.rest = coming.buf
		b.next++
		return b.free()
	default:
		return 0
	}
}

// hand fills p as far as there is something, and gives back a slab that was read.
// mu is held.
func (b *body) hand(p []byte) int {
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	b.left -= int64(n)
	if len(b.rest) == 0 {
		s := b.slabs[b.next-1]
		b.total = b.crc.combine(b.total, s.sum, int64(len(s.buf)))
		b.give(s.buf)
		s.buf = nil
		<-b.room
	}
	return n
}

// wait waits until something may have changed, but not for longer than dripPause;
// then dry is true. mu is held, but not meanwhile.
func (b *body) wait() (dry bool, err error) {
	var pulled <-chan struct{}
	if coming := b.coming(); coming != nil {
		pulled = coming.pulled
	}
	timer := time.NewTimer(dripPause)
	defer timer.Stop()
	over := false
	b.mu.Unlock()
	select {
	case <-pulled:
	case <-b.more:
	case <-timer.C:
		dry = true
	case <-b.over:
		over = true
	}
	b.mu.Lock()
	if over && b.free() == 0 { // else there is something that was pulled before that
		return false, errCut
	}
	return dry, nil
}

// trailing sends the checksum of an algorithm after the bytes of a request, when
// sum knows it. The SDK could do that too, but not over plain HTTP, which the
// laptop cloud speaks. Such a request cannot be sent twice.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
func trailing(algorithm types.ChecksumAlgorithm, sum func() string) func(*s3.Options) {
	return func(o *s3.Options) {
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.Retryer = aws.NopRetryer{}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(&trailer{algorithm, sum}, (*v4.ComputePayloadSHA256)(nil).ID(), middleware.Before)
		})
	}
}

type trailer struct {
	algorithm types.ChecksumAlgorithm
	sum       func() string
}

func (*trailer) ID() string { return "s3ferryTrailer" }

// HandleFinalize frames the stream as one chunk and what follows it.
func (t *trailer) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	req, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("add trailer: got a request of type %T", in.Request)
	}
	name := "x-amz-checksum-" + strings.ToLower(string(t.algorithm))
	size := req.ContentLength
	head := strconv.FormatInt(size, 16) + "\r\n"
	tail := func() string { return "\r\n0\r\n" + name + ":" + t.sum() + "\r\n\r\n" }
	framed, err := req.SetStream(struct{ io.Reader }{io.MultiReader(strings.NewReader(head), req.GetStream(), &lazy{text: tail})})
	if err != nil {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("add trailer: %w", err)
	}
	framed.ContentLength = int64(len(head)) + size + int64(len(tail()))
	// Without a version net/http does not wait for 100-continue, and would send a
	// body that is already refused.
	framed.Proto, framed.ProtoMajor, framed.ProtoMinor = "HTTP/1.1", 1, 1
	framed.Header.Set("Content-Encoding", "aws-chunked")
	framed.Header.Set("X-Amz-Trailer", name)
	framed.Header.Set("X-Amz-Sdk-Checksum-Algorithm", string(t.algorithm))
	framed.Header.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(size, 10))
	in.Request = framed
	return next.HandleFinalize(v4.SetPayloadHash(ctx, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), in)
}

// lazy is a text that is made when it is first read.
type lazy struct {
	text func() string
	r    *strings.Reader
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.r == nil {
		l.r = strings.NewReader(l.text())
	}
	return l.r.Read(p)
}
