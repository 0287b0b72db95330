// Package door describes the mailbox API: the only door into the receiving
// partition. The constructs build the REST API from it, the laptop cloud serves
// it and the client calls it, so none of them can hold another opinion of a
// path, a model or the SQS call behind a route.
//
// No route has code behind it. Each is a direct SQS integration in the AWS JSON
// protocol: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
package door

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// KeyHeader carries the API key of every request.
const KeyHeader = "X-Api-Key"

// SigningName is the service that requests are signed for, where the API's
// authorization is IAM.
const SigningName = "execute-api"

// What the usage plan of the API key allows unless it is set otherwise: requests
// a second on average, and at once.
const (
	DefaultRate  = 100
	DefaultBurst = 200
)

// MaxEntries is the most entries of one request, which is SQS's own batch limit.
const MaxEntries = 10

// MaxMessage is the most bytes of one transfer: ten of them fit into the
// 256 KiB that SQS takes in a batch in every partition.
const MaxMessage = 24 << 10

// Queue names the queue behind a route.
type Queue string

// The queues of a mailbox.
const (
	Inbox    Queue = "inbox"
	Receipts Queue = "receipts"
)

// Route is one method of the API. Every method demands the API key.
type Route struct {
	Name   string // of the method and its model, unique in the API
	Method string
	Path   string
	Queue  Queue
	Action string // SQS action

	// Entries is the schema of one member of the body's "entries", which
	// becomes the action's Entries. A route without it takes no body.
	Entries *Object
	// Fixed are parameters of the action that the caller cannot change, as JSON.
	Fixed map[string]json.RawMessage
}

// Object is a JSON object whose properties are all required strings.
type Object map[string]Text

// Text is a JSON string of 1 to Max characters that match Pattern as a whole.
type Text struct {
	Pattern string
	Max     int
}

var (
	entryID = Text{Pattern: `^[A-Za-z0-9_-]+$`, Max: 80}
	jws     = Text{Pattern: `^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`, Max: MaxMessage}
	handle  = Text{Pattern: `^[!-~]+$`, Max: 1024}
)

// SendTransfers puts one to ten transfers into the inbox.
var SendTransfers = Route{
	Name: "SendTransfers", Method: "POST", Path: "/transfers",
	Queue: Inbox, Action: "SendMessageBatch",
	Entries: &Object{"Id": entryID, "MessageBody": jws},
}

// ReceiveReceipts takes up to ten receipts, which stay hidden for the receipts
// queue's visibility timeout.
var ReceiveReceipts = Route{
	Name: "ReceiveReceipts", Method: "GET", Path: "/receipts",
	Queue: Receipts, Action: "ReceiveMessage",
	Fixed: map[string]json.RawMessage{"MaxNumberOfMessages": value(MaxEntries)},
}

// DeleteReceipts deletes one to ten receipts by their receipt handles.
var DeleteReceipts = Route{
	Name: "DeleteReceipts", Method: "POST", Path: "/receipts/delete",
	Queue: Receipts, Action: "DeleteMessageBatch",
	Entries: &Object{"Id": entryID, "ReceiptHandle": handle},
}

// The attributes of the inbox that GetDepth tells.
const (
	Visible  = "ApproximateNumberOfMessages"           // waiting
	InFlight = "ApproximateNumberOfMessagesNotVisible" // being pulled, or hidden until a retry
	Delayed  = "ApproximateNumberOfMessagesDelayed"    // put there to begin later
)

// GetDepth tells how many messages the inbox has. SQS counts roughly, and may be
// a minute late:
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
var GetDepth = Route{
	Name: "GetDepth", Method: "GET", Path: "/transfers/depth",
	Queue: Inbox, Action: "GetQueueAttributes",
	Fixed: map[string]json.RawMessage{"AttributeNames": value([]string{Visible, InFlight, Delayed})},
}

// Routes is the whole API.
func Routes() []Route { return []Route{SendTransfers, GetDepth, ReceiveReceipts, DeleteReceipts} }

// Model returns the JSON schema (draft 4, as API Gateway demands) of the route's
// body, or nil if it takes none.
func (r Route) Model() map[string]any {
	if r.Entries == nil {
		return nil
	}
	properties := map[string]any{}
	for name, text := range *r.Entries {
		properties[name] = map[string]any{
			"type": "string", "minLength": 1, "maxLength": text.Max, "pattern": text.Pattern,
		}
	}
	return map[string]any{
		"$schema":              "http://json-schema.org/draft-04/schema#",
		"title":                r.Name,
		"type":                 "object",
		"required":             []any{"entries"},
		"additionalProperties": false,
		"properties": map[string]any{
			"entries": map[string]any{
				"type": "array", "minItems": 1, "maxItems": MaxEntries,
				"items": map[string]any{
					"type":                 "object",
					"required":             anys(slices.Sorted(maps.Keys(*r.Entries))),
					"additionalProperties": false,
					"properties":           properties,
				},
			},
		},
	}
}

// Template returns the mapping template that turns a valid body into the SQS
// request. queueURL may be an unresolved deploy-time token.
func (r Route) Template(queueURL string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"QueueUrl":"%s"`, queueURL)
	if r.Entries != nil {
		b.WriteString(`,"Entries":$input.json('$.entries')`)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Fixed)) {
		fmt.Fprintf(&b, `,"%s":%s`, name, r.Fixed[name])
	}
	return b.String() + "}"
}

// Request returns what Template makes of body, which must satisfy Model.
func (r Route) Request(queueURL string, body []byte) ([]byte, error) {
	request := map[string]any{"QueueUrl": queueURL}
	if r.Entries != nil {
		var in struct {
			Entries json.RawMessage `json:"entries"`
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fmt.Errorf("read the body of %s: %w", r.Name, err)
		}
		request["Entries"] = in.Entries
	}
	for name, fixed := range r.Fixed {
		request[name] = fixed
	}
	return json.Marshal(request)
}

// value returns v, which is one of this file's, as JSON.
func value(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func anys(s []string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}
