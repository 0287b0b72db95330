package sqs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// TargetPrefix begins the X-Amz-Target header of every request.
const TargetPrefix = "AmazonSQS."

const (
	contentType = "application/x-amz-json-1.0"

	maxBatch      = 10
	maxWait       = 20
	maxVisibility = 12 * 60 * 60

	// maxRequest is above any request within the limits: text may be escaped.
	maxRequest = 8 << 20
)

// ServeHTTP answers one request of the AWS JSON protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	response, err := s.serve(w, r)
	if err != nil {
		writeError(w, err)
		return
	}
	write(w, http.StatusOK, response)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) (any, error) {
	target, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), TargetPrefix)
	act, known := actions[target]
	if !ok || !known {
		return nil, newError(codeInvalidAction, "The action %q is not valid for this endpoint.", target)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	return act(s, r, body)
}

// action is one operation of the service. An error that is no *Error means the
// request never came through.
type action func(s *Server, r *http.Request, body []byte) (any, error)

var actions = map[string]action{
	"CreateQueue":                  handle(createQueue),
	"GetQueueUrl":                  handle(getQueueURL),
	"ListQueues":                   handle(listQueues),
	"GetQueueAttributes":           onQueue(getQueueAttributes),
	"SetQueueAttributes":           onQueue(setQueueAttributes),
	"PurgeQueue":                   onQueue(purgeQueue),
	"SendMessage":                  onQueue(sendMessage),
	"SendMessageBatch":             onQueue(sendMessageBatch),
	"ReceiveMessage":               onQueue(receiveMessage),
	"DeleteMessage":                onQueue(deleteMessage),
	"DeleteMessageBatch":           onQueue(deleteMessageBatch),
	"ChangeMessageVisibility":      onQueue(changeMessageVisibility),
	"ChangeMessageVisibilityBatch": onQueue(changeMessageVisibilityBatch),
}

// handle decodes the request of an action.
func handle[In any](f func(*Server, In) (any, error)) action {
	return func(s *Server, _ *http.Request, body []byte) (any, error) {
		var in In
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		return f(s, in)
	}
}

// onQueue decodes the request of an action and finds its queue.
func onQueue[In any](f func(*Queue, *http.Request, In) (any, error)) action {
	return func(s *Server, r *http.Request, body []byte) (any, error) {
		var (
			at struct{ QueueUrl string } //nolint:revive // as the protocol spells it
			in In
		)
		if err := decode(body, &at); err != nil {
			return nil, err
		}
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		q, err := s.Queue(at.QueueUrl)
		if err != nil {
			return nil, err
		}
		return f(q, r, in)
	}
}

func decode(body []byte, in any) error {
	if err := json.Unmarshal(body, in); err != nil {
		return newError(codeSerialization, "The request is no JSON of the expected form: %v", err)
	}
	return nil
}

type empty struct{}

type queueRequest struct {
	QueueName       string
	QueueNamePrefix string
	Attributes      map[string]string
}

func createQueue(s *Server, in queueRequest) (any, error) {
	q, err := s.Create(in.QueueName, in.Attributes)
	if err != nil {
		return nil, err
	}
	return map[string]string{"QueueUrl": q.url}, nil
}

func getQueueURL(s *Server, in queueRequest) (any, error) {
	q, err := s.Queue(in.QueueName)
	if err != nil {
		return nil, err
	}
	return map[string]string{"QueueUrl": q.url}, nil
}

func listQueues(s *Server, in queueRequest) (any, error) {
	var urls []string
	for _, q := range s.list(in.QueueNamePrefix) {
		urls = append(urls, q.url)
	}
	return map[string][]string{"QueueUrls": urls}, nil
}

func getQueueAttributes(q *Queue, _ *http.Request, in struct{ AttributeNames []string }) (any, error) {
	q.server.mu.Lock()
	all := q.settings.attributes()
	counts := q.counts()
	q.server.mu.Unlock()
	created := strconv.FormatInt(q.created.Unix(), 10)
	maps.Copy(all, map[string]string{
		"QueueArn":                              q.arn,
		"CreatedTimestamp":                      created,
		"LastModifiedTimestamp":                 created,
		"ApproximateNumberOfMessages":           strconv.Itoa(counts.Visible),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(counts.InFlight),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(counts.Delayed),
	})
	return map[string]any{"Attributes": selectNames(all, in.AttributeNames)}, nil
}

func setQueueAttributes(q *Queue, _ *http.Request, in struct{ Attributes map[string]string }) (any, error) {
	q.server.mu.Lock()
	defer q.server.mu.Unlock()
	return empty{}, q.configure(in.Attributes)
}

func purgeQueue(q *Queue, _ *http.Request, _ empty) (any, error) {
	q.Purge()
	return empty{}, nil
}

// wireMessage is a message in a request.
type wireMessage struct {
	Id                string //nolint:revive // as the protocol spells it
	MessageBody       string
	DelaySeconds      *int
	MessageAttributes map[string]Attribute
}

func (m wireMessage) message() Message {
	out := Message{Body: m.MessageBody, Attributes: m.MessageAttributes}
	if m.DelaySeconds != nil {
		out.Delay = duration(*m.DelaySeconds)
	}
	return out
}

// sent is the answer for one message.
type sent struct {
	Id                     string `json:",omitempty"` //nolint:revive // as the protocol spells it
	MessageId              string //nolint:revive // as the protocol spells it
	MD5OfMessageBody       string
	MD5OfMessageAttributes string `json:",omitempty"`
}

func send(q *Queue, in wireMessage) (sent, error) {
	id, err := q.Send(in.message())
	return sent{
		Id: in.Id, MessageId: id, MD5OfMessageBody: MD5OfBody(in.MessageBody),
		MD5OfMessageAttributes: MD5OfAttributes(in.MessageAttributes),
	}, err
}

func sendMessage(q *Queue, _ *http.Request, in wireMessage) (any, error) { return send(q, in) }

func sendMessageBatch(q *Queue, _ *http.Request, in struct{ Entries []wireMessage }) (any, error) {
	total := 0
	for _, e := range in.Entries {
		total += e.message().size()
	}
	if total > MaxBytes {
		return nil, newError(codeBatchRequestTooLong, "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", MaxBytes, total)
	}
	return batch(in.Entries, func(e wireMessage) string { return e.Id },
		func(e wireMessage) (any, error) { return send(q, e) })
}

type receiveRequest struct {
	MaxNumberOfMessages         *int
	WaitTimeSeconds             *int
	VisibilityTimeout           *int
	AttributeNames              []string // the older name of the next
	MessageSystemAttributeNames []string
	MessageAttributeNames       []string
}

type receivedMessage struct {
	MessageId              string //nolint:revive // as the protocol spells it
	ReceiptHandle          string
	Body                   string
	MD5OfBody              string
	Attributes             map[string]string    `json:",omitempty"`
	MessageAttributes      map[string]Attribute `json:",omitempty"`
	MD5OfMessageAttributes string               `json:",omitempty"`
}

func receiveMessage(q *Queue, r *http.Request, in receiveRequest) (any, error) {
	o := ReceiveOptions{Max: 1}
	if in.MaxNumberOfMessages != nil {
		o.Max = *in.MaxNumberOfMessages
	}
	if o.Max < 1 || o.Max > maxBatch {
		return nil, newError(codeInvalidParameterValue, "Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", o.Max)
	}
	var err error
	if o.Wait, err = within(in.WaitTimeSeconds, "WaitTimeSeconds", maxWait); err != nil {
		return nil, err
	}
	if o.Visibility, err = within(in.VisibilityTimeout, "VisibilityTimeout", maxVisibility); err != nil {
		return nil, err
	}
	system := slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)
	messages := []receivedMessage{}
	for _, m := range q.Receive(r.Context(), o) {
		attributes := selectAttributes(m.Attributes, in.MessageAttributeNames)
		messages = append(messages, receivedMessage{
			MessageId: m.ID, ReceiptHandle: m.ReceiptHandle, Body: m.Body, MD5OfBody: MD5OfBody(m.Body),
			Attributes:        selectNames(m.System, system),
			MessageAttributes: attributes, MD5OfMessageAttributes: MD5OfAttributes(attributes),
		})
	}
	return map[string]any{"Messages": messages}, nil
}

// receipt names a received message in a request.
type receipt struct {
	Id                string //nolint:revive // as the protocol spells it
	ReceiptHandle     string
	VisibilityTimeout *int
}

func (r receipt) id() string { return r.Id }

func deleteMessage(q *Queue, _ *http.Request, in receipt) (any, error) {
	return empty{}, q.Delete(in.ReceiptHandle)
}

func deleteMessageBatch(q *Queue, _ *http.Request, in struct{ Entries []receipt }) (any, error) {
	return batch(in.Entries, receipt.id, func(e receipt) (any, error) {
		return map[string]string{"Id": e.Id}, q.Delete(e.ReceiptHandle)
	})
}

func changeVisibility(q *Queue, in receipt) error {
	d, err := within(in.VisibilityTimeout, "VisibilityTimeout", maxVisibility)
	if err != nil {
		return err
	}
	if d == nil {
		return newError(codeMissingParameter, "The request must contain the parameter VisibilityTimeout.")
	}
	return q.ChangeVisibility(in.ReceiptHandle, *d)
}

func changeMessageVisibility(q *Queue, _ *http.Request, in receipt) (any, error) {
	return empty{}, changeVisibility(q, in)
}

func changeMessageVisibilityBatch(q *Queue, _ *http.Request, in struct{ Entries []receipt }) (any, error) {
	return batch(in.Entries, receipt.id, func(e receipt) (any, error) {
		return map[string]string{"Id": e.Id}, changeVisibility(q, e)
	})
}

// failed is one entry of a batch that did not go through.
type failed struct {
	Id          string //nolint:revive // as the protocol spells it
	SenderFault bool
	Code        string
	Message     string
}

// batch does each entry on its own. Only a batch that is malformed as a whole
// is an error.
func batch[E any](entries []E, id func(E) string, do func(E) (any, error)) (any, error) {
	switch {
	case len(entries) == 0:
		return nil, newError(codeEmptyBatchRequest, "There should be at least one entry in the request.")
	case len(entries) > maxBatch:
		return nil, newError(codeTooManyEntries, "Maximum number of entries per request are 10. You have sent %d.", len(entries))
	}
	seen := map[string]bool{}
	for _, e := range entries {
		switch id := id(e); {
		case !queueName.MatchString(id):
			return nil, newError(codeInvalidBatchEntryID, "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		case seen[id]:
			return nil, newError(codeBatchEntryIDsNotDistinct, "Id %s repeated.", id)
		default:
			seen[id] = true
		}
	}
	out := struct {
		Successful []any
		Failed     []failed
	}{[]any{}, []failed{}}
	for _, e := range entries {
		result, err := do(e)
		if err != nil {
			f := asError(err)
			out.Failed = append(out.Failed, failed{Id: id(e), SenderFault: true, Code: f.code.query(), Message: f.message})
			continue
		}
		out.Successful = append(out.Successful, result)
	}
	return out, nil
}

// selectNames returns the entries that names ask for; All is every one.
func selectNames(all map[string]string, names []string) map[string]string {
	if slices.Contains(names, "All") {
		return all
	}
	out := map[string]string{}
	for _, name := range names {
		if value, ok := all[name]; ok {
			out[name] = value
		}
	}
	return out
}

// selectAttributes returns the attributes that names ask for: a name, "All",
// ".*" or "prefix.*".
func selectAttributes(all map[string]Attribute, names []string) map[string]Attribute {
	out := map[string]Attribute{}
	for name, a := range all {
		if slices.ContainsFunc(names, func(wanted string) bool {
			prefix, wild := strings.CutSuffix(wanted, ".*")
			return wanted == "All" || wanted == name || wild && strings.HasPrefix(name, prefix)
		}) {
			out[name] = a
		}
	}
	return out
}

// within converts seconds of 0 to high; nil stays nil.
func within(n *int, name string, high int) (*time.Duration, error) {
	if n == nil {
		return nil, nil
	}
	if *n < 0 || *n > high {
		return nil, newError(codeInvalidParameterValue, "Value %d for parameter %s is invalid. Reason: Must be >= 0 and <= %d, if provided.", *n, name, high)
	}
	return duration(*n), nil
}

func duration(seconds int) *time.Duration {
	return new(time.Duration(seconds) * time.Second)
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Amzn-RequestId", uuid.NewString())
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	w.Header().Set("X-Amzn-Query-Error", e.code.query()+";Sender")
	write(w, http.StatusBadRequest, map[string]string{
		"__type": "com.amazonaws.sqs#" + e.code.shape, "message": cmp.Or(e.message, e.code.shape),
	})
}
