package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// classBorder is the fault class of a source that cannot be reached: transient.
const classBorder = "border"

// setback is an error of one attempt that the next may not meet.
type setback struct {
	err   error
	after time.Duration // the source asked for, or 0
}

func (s setback) Error() string { return s.err.Error() }
func (s setback) Unwrap() error { return s.err }

// span is a run of the object's bytes on their way into buf.
type span struct {
	offset int64
	buf    []byte
	have   atomic.Int64  // bytes that came; they are at the front of buf
	came   *atomic.Int64 // counts them too, if it is not nil
}

// pull fills buf with the source's bytes from offset on: in one request where
// that is as fast, else in ranges over as many connections as it gets.
func (j *job) pull(ctx context.Context, offset int64, buf []byte) error {
	ranges, ctx := errgroup.WithContext(ctx)
	for left := int64(len(buf)); ; {
		if err := j.connections.acquire(ctx, false); err != nil {
			ranges.Go(func() error { return err })
			break
		}
		size := j.rangeSize(left, left)
		s := &span{offset: offset + int64(len(buf)) - left, buf: buf[int64(len(buf))-left:][:size]}
		ranges.Go(func() error { return j.pullSpan(ctx, s) })
		if left -= size; left == 0 {
			break
		}
	}
	return ranges.Wait()
}

// pullSpan fills s. Its caller has acquired a connection, which it releases.
// After an attempt that broke off it goes on from the byte where it stopped; it
// gives up after Attempts in a row that brought next to nothing.
func (j *job) pullSpan(ctx context.Context, s *span) error {
	what := fmt.Sprintf("pull bytes %d-%d", s.offset, s.offset+int64(len(s.buf))-1)
	progress := max(1, min(64<<10, len(s.buf)/8))
	return j.attempts(ctx, what, progress, func() (int, error) { return j.attempt(ctx, s) })
}

// attempts calls attempt, which returns how many bytes came, until its error is no
// setback. It gives up after Attempts in a row that brought less than progress.
// Connections are as with pullSpan.
func (j *job) attempts(ctx context.Context, what string, progress int, attempt func() (int, error)) error {
	failures := 0
	for {
		n, err := attempt()
		j.connections.release()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		again, ok := errors.AsType[setback](err)
		if !ok {
			return err
		}
		if n >= progress {
			failures = 0
		}
		failures++
		if failures >= j.Attempts || again.after > j.MaxBackoff {
			return fault.After(again.after, fault.Transientf(classBorder, "%s: gave up after attempt %d in a row: %w", what, failures, again.err))
		}
		if err := j.pause(ctx, failures, again.after); err != nil {
			return err
		}
		if err := j.connections.acquire(ctx, true); err != nil {
			return err
		}
	}
}

// attempt makes one request for what s misses and returns how many bytes came.
// An error that is worth another attempt is a setback.
func (j *job) attempt(ctx context.Context, s *span) (int, error) {
	if !j.Now().Before(j.t.NotAfter) {
		return 0, ended{wire.Expired, "the URL's time is over"}
	}
	have := s.have.Load()
	offset, buf := s.offset+have, s.buf[have:]
	watched, dog := watch(ctx, j.StallWindow, j.StallFloor)
	defer dog.stop()

	header := http.Header{"If-Match": {`"` + j.t.Source.ETag + `"`}}
	if len(buf) > 0 { // an empty object has no range that could be asked for
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(buf))-1))
	}
	resp, err := j.get(watched, header)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if err := j.checkAnswer(resp, offset, int64(len(buf))); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(&counted{resp.Body, s, dog, j.connections}, buf)
	if err != nil {
		return n, lost(watched, fmt.Errorf("got %d of %d bytes: %w", n, len(buf), err))
	}
	return n, nil
}

// get asks for the URL, with header, which it adds to.
func (j *job) get(ctx context.Context, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.t.URL.Reveal(), nil)
	if err != nil {
		return nil, fault.Permanentf("url-refused", "pull: the URL is malformed") // err quotes it
	}
	req.Header = header
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "s3ferry")
	asked := time.Now()
	resp, err := j.HTTP.Do(req)
	if err != nil {
		return nil, lost(ctx, err)
	}
	j.connections.answered(time.Since(asked))
	return resp, nil
}

// lost makes a setback of an error of the network, without the URL that
// net/http quotes. What the dialler refused for good stays so.
func lost(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if fault.IsPermanent(err) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return setback{err: err}
}

// watchdog ends an attempt whose bytes come too slowly, the wait for the answer
// included.
type watchdog struct {
	read   atomic.Int64 // bytes in this window
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func watch(ctx context.Context, window time.Duration, floor int64) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	d := &watchdog{cancel: cancel}
	least := int64(float64(floor) * window.Seconds())
	started := make(chan struct{})
	d.timer = time.AfterFunc(window, func() {
		<-started // d.timer is set
		if n := d.read.Swap(0); n < least {
			cancel(fmt.Errorf("stalled: %d bytes in %s, expected at least %d", n, window, least))
			return
		}
		d.timer.Reset(window)
	})
	close(started)
	return ctx, d
}

func (d *watchdog) stop() {
	d.timer.Stop()
	d.cancel(context.Canceled)
}

type counted struct {
	r io.Reader
	s *span
	d *watchdog
	l *limiter
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.s.have.Add(int64(n))
	if c.s.came != nil {
		c.s.came.Add(int64(n))
	}
	c.d.read.Add(int64(n))
	c.l.add(n)
	return n, err
}
