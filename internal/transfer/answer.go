package transfer

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Fault classes of the source's answers; all permanent.
const (
	classSourceDenied   = "source-denied"
	classSourceArchived = "source-archived"
	classSourceRedirect = "source-redirect"
	classSourceRefused  = "source-refused"  // it finds fault with the request
	classSourceMismatch = "source-mismatch" // it answers with something else
)

// checkAnswer returns nil if the body of resp is the size bytes from offset on
// of the version that was asked for, and otherwise what that means for the
// transfer.
func (j *job) checkAnswer(resp *http.Response, offset, size int64) error {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return j.checkBytes(resp, offset, size)
	default:
		return j.refusal(resp, offset)
	}
}

// refusal returns what an answer without the object means for the transfer.
func (j *job) refusal(resp *http.Response, offset int64) error {
	answer := readError(resp)
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500, answer.Code == "RequestTimeout":
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			j.connections.slowDown()
		}
		return setback{err: answer, after: j.retryAfter(resp)}
	case answer.expired(), status == http.StatusForbidden && !j.Now().Before(j.t.NotAfter):
		return ended{wire.Expired, answer.Error()}
	case answer.Code == "InvalidObjectState":
		return fault.Permanent(classSourceArchived, answer)
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return fault.Permanent(classSourceDenied, answer)
	case status == http.StatusNotFound, status == http.StatusGone:
		return ended{wire.Gone, answer.Error()}
	case status == http.StatusPreconditionFailed:
		return ended{wire.Superseded, answer.Error()}
	case status == http.StatusRequestedRangeNotSatisfiable:
		return fault.Permanentf(classSourceMismatch, "pull bytes from %d: expected an object of %d bytes: %w", offset, j.t.Source.Size, answer)
	case status >= 300 && status < 400:
		return fault.Permanent(classSourceRedirect, answer)
	default:
		return fault.Permanent(classSourceRefused, answer)
	}
}

// checkBytes refuses an answer that ignored the pin or the range: its bytes
// would make an object of two versions.
func (j *job) checkBytes(resp *http.Response, offset, size int64) error {
	if got := strings.Trim(resp.Header.Get("ETag"), `"`); got != j.t.Source.ETag {
		return fault.Permanentf(classSourceMismatch, "pull bytes from %d: ETag: got %q, expected %q", offset, got, j.t.Source.ETag)
	}
	whole := offset == 0 && size == j.t.Source.Size
	want := fmt.Sprintf("bytes %d-%d/%d", offset, offset+size-1, j.t.Source.Size)
	if got := resp.Header.Get("Content-Range"); got != want && (resp.StatusCode != http.StatusOK || !whole) {
		return fault.Permanentf(classSourceMismatch, "pull bytes from %d: Content-Range: got status %d and %q, expected %q", offset, resp.StatusCode, got, want)
	}
	// S3 always says how long its answer is, so -1, for unknown, is wrong too.
	if got := resp.ContentLength; got != size {
		return fault.Permanentf(classSourceMismatch, "pull bytes from %d: Content-Length: got %d, expected %d", offset, got, size)
	}
	return nil
}

// retryAfter returns what a Retry-After header asks for, in either of its forms.
func (j *job) retryAfter(resp *http.Response) time.Duration {
	header := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(j.Now()))
	}
	return 0
}

// sourceError is an error answer of S3.
type sourceError struct {
	status  int
	Code    string
	Message string
}

func (e *sourceError) Error() string {
	return fmt.Sprintf("source answered %d %s: %.300s", e.status, e.Code, e.Message)
}

// expired reports whether signing again helps. S3 has no code of its own for a
// URL that is too old.
func (e *sourceError) expired() bool {
	return slices.Contains([]string{"ExpiredToken", "TokenRefreshRequired"}, e.Code) ||
		e.Code == "AccessDenied" && strings.Contains(strings.ToLower(e.Message), "expired")
}

// readError reads no more of the body than an error document takes.
func readError(resp *http.Response) *sourceError {
	const most = 8 << 10
	e := &sourceError{status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil || xml.Unmarshal(body, e) != nil {
		e.Code, e.Message = http.StatusText(e.status), ""
	}
	return e
}
