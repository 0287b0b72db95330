// Package mailbox calls the mailbox API of the receiving partition: it sends
// transfers and collects receipts.
//
// The border between the two is closed for hours at a time, so every call is
// tried a few times here, and what then still fails is transient, except what
// the API refuses as such.
package mailbox

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/cenkalti/backoff/v5"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
)

// Classes of this package's errors.
const (
	Border  = "border"         // transient: no answer, a throttle, or not an answer of the API
	Denied  = "link-denied"    // transient: the link is broken, not the message; see ErrDenied
	Refused = "refused-by-api" // permanent: the API takes this message from nobody
)

// ErrDenied says that the API denies access: the API key or the access key is
// not, or no longer, the right one. Whoever holds an old link secret reads it
// again.
var ErrDenied = errors.New("the mailbox API denies access")

const (
	tries = 5 // of each call
	// timeout of one try: API Gateway gives up after 29 s.
	timeout = 35 * time.Second
	// longestPause is the longest Retry-After that is worth waiting for here;
	// with a longer one, the message waits in its queue.
	longestPause = 20 * time.Second
	// maxAnswer is the most bytes of an answer: ten messages of the queue's
	// size, escaped.
	maxAnswer = 4 << 20
)

// Client calls the mailbox API. It is safe for concurrent use.
type Client struct {
	HTTP  *http.Client  // see NewHTTPClient
	URL   string        // of the API's stage
	Key   secret.String // value of the API key
	Pause time.Duration // before the first retry, then growing; 0 is 500 ms
	// Credentials sign every request, where the API's authorization is IAM. Zero:
	// requests are not signed.
	Credentials link.Credentials
}

// New returns a client of the mailbox that the link secret leads to.
func New(client *http.Client, s link.Secret) *Client {
	return &Client{HTTP: client, URL: s.APIURL, Key: s.APIKey, Credentials: s.Credentials}
}

// NewHTTPClient returns an HTTP client for any number of Clients. It keeps its
// connections, since a new one across the border costs most of a second, and
// follows no redirects, since the API never sends one.
func NewHTTPClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // net/http says so
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns
	return &http.Client{
		Timeout:       timeout,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Receipt is a message of the receipts queue. It comes again unless it is
// deleted in time.
type Receipt struct {
	Body   string
	Handle string // for Delete
}

// sendEntry and deleteEntry are the entries of door.SendTransfers and
// door.DeleteReceipts.
type (
	sendEntry struct {
		ID   string `json:"Id"`
		Body string `json:"MessageBody"`
	}
	deleteEntry struct {
		ID     string `json:"Id"`
		Handle string `json:"ReceiptHandle"`
	}
)

// batchAnswer is what SQS says of each entry of a batch.
type batchAnswer struct {
	Successful []struct {
		ID string `json:"Id"`
	}
	Failed []struct {
		ID          string `json:"Id"`
		Code        string
		Message     string
		SenderFault bool
	}
}

// Send puts messages, signed transfers, into the inbox, in requests of up to
// door.MaxEntries. It returns one error per message, nil for those that are
// there; the fate of the others is not known, so they may be there too.
func (c *Client) Send(ctx context.Context, messages []string) []error {
	errs := make([]error, 0, len(messages))
	for part := range slices.Chunk(messages, door.MaxEntries) {
		errs = append(errs, c.send(ctx, part)...)
	}
	return errs
}

// send is Send of one request. If the API refuses several messages together, it
// gets each alone, so that a bad one does not speak for the others.
func (c *Client) send(ctx context.Context, messages []string) []error {
	entries := make([]sendEntry, len(messages))
	for i, m := range messages {
		entries[i] = sendEntry{ID: strconv.Itoa(i), Body: m}
	}
	errs := c.batch(ctx, door.SendTransfers, entries, len(entries))
	if len(messages) == 1 || !isRefusal(errs) {
		return errs
	}
	for i, m := range messages {
		errs[i] = c.send(ctx, []string{m})[0]
	}
	return errs
}

// isRefusal reports whether a whole request was refused.
func isRefusal(errs []error) bool {
	return !slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, errRefused) })
}

// Receive takes up to ten receipts; none means that there are none just now.
func (c *Client) Receive(ctx context.Context) ([]Receipt, error) {
	var answer struct {
		Messages []struct {
			Body   string
			Handle string `json:"ReceiptHandle"`
		}
	}
	if err := c.call(ctx, door.ReceiveReceipts, nil, &answer); err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(answer.Messages))
	for i, m := range answer.Messages {
		if m.Handle == "" {
			return nil, fault.Transientf(Border, "%s: got a message without a receipt handle", door.ReceiveReceipts.Name)
		}
		receipts[i] = Receipt(m)
	}
	return receipts, nil
}

// Depth is how many messages the inbox has.
type Depth struct {
	Waiting int // that nobody works on
	Begun   int // that a receiver holds, or that wait until they are tried again
}

// Total is all of them.
func (d Depth) Total() int { return d.Waiting + d.Begun }

// Depth asks for the depth of the inbox.
func (c *Client) Depth(ctx context.Context) (Depth, error) {
	var answer struct{ Attributes map[string]string }
	if err := c.call(ctx, door.GetDepth, nil, &answer); err != nil {
		return Depth{}, err
	}
	var problem error
	count := func(name string) int {
		n, err := strconv.Atoi(answer.Attributes[name])
		if err != nil || n < 0 {
			problem = fault.Transientf(Border, "%s: got %q as %s, expected a number", door.GetDepth.Name, answer.Attributes[name], name)
		}
		return n
	}
	depth := Depth{Waiting: count(door.Visible), Begun: count(door.InFlight) + count(door.Delayed)}
	if problem != nil {
		return Depth{}, problem
	}
	return depth, nil
}

// Delete deletes receipts by their handles. Those that an error leaves come
// again.
func (c *Client) Delete(ctx context.Context, handles []string) error {
	var errs []error
	for part := range slices.Chunk(handles, door.MaxEntries) {
		entries := make([]deleteEntry, len(part))
		for i, h := range part {
			entries[i] = deleteEntry{ID: strconv.Itoa(i), Handle: h}
		}
		errs = append(errs, c.batch(ctx, door.DeleteReceipts, entries, len(entries))...)
	}
	return errors.Join(errs...)
}

// batch calls route with n entries, whose IDs are their indices, and returns one
// error per entry.
func (c *Client) batch(ctx context.Context, route door.Route, entries any, n int) []error {
	errs := make([]error, n)
	var answer batchAnswer
	if err := c.call(ctx, route, map[string]any{"entries": entries}, &answer); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	for i := range errs {
		errs[i] = fault.Transientf(Border, "%s: the answer does not mention entry %d of %d", route.Name, i, n)
	}
	for _, ok := range answer.Successful {
		if i, err := strconv.Atoi(ok.ID); err == nil && i >= 0 && i < n {
			errs[i] = nil
		}
	}
	for _, failed := range answer.Failed {
		i, err := strconv.Atoi(failed.ID)
		if err != nil || i < 0 || i >= n {
			continue
		}
		refusal := fmt.Errorf("%s: the queue refused the entry as %.64q: %.200q", route.Name, failed.Code, failed.Message)
		if failed.SenderFault {
			errs[i] = fault.Permanent(Refused, refusal)
		} else {
			errs[i] = fault.Transient(Border, refusal)
		}
	}
	return errs
}

// call calls route with the JSON of in, if any, and reads the answer into out. It
// tries again as long as that can help and ctx's deadline allows.
func (c *Client) call(ctx context.Context, route door.Route, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: encode request: %w", route.Name, err)
		}
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.Multiplier = cmp.Or(c.Pause, 500*time.Millisecond), 2
	var left time.Duration // 0: no limit
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = c.try(ctx, route, body, out)
		wait := fault.RetryAfter(last)
		switch {
		case last != nil && (fault.Class(last) != Border || wait > longestPause):
			return struct{}{}, backoff.Permanent(last)
		case wait > 0:
			return struct{}{}, &backoff.RetryAfterError{Duration: wait}
		}
		return struct{}{}, last
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(tries), backoff.WithMaxElapsedTime(left))
	if err == nil {
		return nil
	}
	return last // and not that the time was up, which the caller knows
}

// errRefused marks the refusal of a request as a whole.
var errRefused = errors.New("the mailbox API refuses the request")

// try is one try of call. Its errors are classified and hold no secret.
func (c *Client) try(ctx context.Context, route door.Route, body []byte, out any) error {
	address := strings.TrimSuffix(c.URL, "/") + route.Path
	request, err := http.NewRequestWithContext(ctx, route.Method, address, bytes.NewReader(body))
	if err != nil {
		return fault.Transientf(Denied, "%s: %w: run `s3ferry link` again", route.Name, unwrapURL(err))
	}
	request.Header.Set(door.KeyHeader, c.Key.Reveal())
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if err := c.sign(request, body); err != nil {
		return fault.Transientf(Denied, "%s: sign the request: %w: run `s3ferry link` again", route.Name, err)
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return fault.Transientf(Border, "%s: %w", route.Name, unwrapURL(err))
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return fault.Transientf(Border, "%s: read the answer: %w", route.Name, err)
	}
	if response.StatusCode != http.StatusOK {
		return judge(route, response, answer)
	}
	if len(answer) > maxAnswer {
		return fault.Transientf(Border, "%s: the answer has over %d bytes", route.Name, maxAnswer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fault.Transientf(Border, "%s: not an answer of the mailbox API, but %.100q: %w", route.Name, answer, err)
	}
	return nil
}

// sign signs the request for API Gateway, if there is something to sign it with.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (c *Client) sign(request *http.Request, body []byte) error {
	if c.Credentials.AccessKeyID == "" {
		return nil
	}
	digest := sha256.Sum256(body)
	return v4.NewSigner().SignHTTP(request.Context(), aws.Credentials{
		AccessKeyID: c.Credentials.AccessKeyID, SecretAccessKey: c.Credentials.SecretAccessKey.Reveal(),
	}, request, hex.EncodeToString(digest[:]), door.SigningName, c.Credentials.Region, time.Now())
}

// judge says what an answer other than 200 means.
func judge(route door.Route, response *http.Response, answer []byte) error {
	got := fmt.Sprintf("%s: got %s %.200q", route.Name, response.Status, answer)
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		if strings.Contains(string(answer), `{"Message":null}`) {
			got += ", which is API Gateway's answer for an account in China without an ICP licence or exemption"
		}
		return fault.Transientf(Denied, "%w: %s: run `s3ferry link` if the API or a key to it has changed", ErrDenied, got)
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return fault.Permanentf(Refused, "%w: %s", errRefused, got)
	default:
		return fault.After(retryAfter(response.Header), fault.Transient(Border, errors.New(got)))
	}
}

// retryAfter returns the wait that a Retry-After header asks for, in seconds or
// as a date (RFC 9110), or 0.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(0, min(seconds, 24*60*60))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// unwrapURL strips an error of the URL that net/http and net/url put into it.
func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
