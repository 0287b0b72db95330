// Package event reads what S3 says about its objects: the messages of the
// outbox, in the JSON of S3 event notifications or of EventBridge.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-configure-notification.html
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Malformed is the class of a message that cannot be read.
const Malformed = "malformed-event"

const (
	testEvent     = "s3:TestEvent"   // sent once when a notification is configured
	created       = "ObjectCreated:" // prefixes of the names that carry something
	removed       = "ObjectRemoved:"
	expired       = "LifecycleExpiration:"
	tagged        = "ObjectTagging:"
	markerCreated = "DeleteMarkerCreated" // what follows a prefix, or "Delete"
	bridgeCreated = "Object Created"
	bridgeDeleted = "Object Deleted"
	bridgeTagged  = "Object Tags Added"
	bridgeCleared = "Object Tags Deleted"
	bridgeMarker  = "Delete Marker Created" // deletion types of the latter
	bridgeForGood = "Permanently Deleted"
)

// Event is something that happened to a key.
type Event struct {
	Op     wire.Op     // OpPut, OpDelete or OpTag
	Source wire.Source // of OpDelete without ETag and size, of OpTag without size and sequencer
	// Unclear, of OpDelete, says that one version went, and perhaps not the current
	// one: what is current now decides what is to be carried.
	Unclear bool
}

// Message is what one message of the outbox says.
type Message struct {
	Events  []Event
	Ignored []string // names of the events that carry nothing
}

// Parse reads a message. The records of one message stand or fall together:
// carrying one twice changes nothing. Its error names everything that is wrong
// and is permanent.
func Parse(body string) (Message, error) {
	message, err := parse([]byte(body))
	if err != nil {
		return Message{}, fault.Permanent(Malformed, fmt.Errorf("read event: %w", err))
	}
	return message, nil
}

func parse(body []byte) (Message, error) {
	if !utf8.Valid(body) {
		return Message{}, errors.New("got invalid UTF-8")
	}
	var form struct {
		Records    []json.RawMessage `json:"Records"`
		Event      string            `json:"Event"`
		DetailType string            `json:"detail-type"`
	}
	if err := json.Unmarshal(body, &form); err != nil {
		return Message{}, fmt.Errorf("not an S3 notification: %w", err)
	}
	switch {
	case len(form.Records) > 0:
		return parseRecords(form.Records)
	case form.Event == testEvent:
		return Message{Ignored: []string{testEvent}}, nil
	case form.DetailType != "":
		return parseBridge(body)
	default:
		return Message{}, errors.New(`got neither "Records" nor "detail-type", expected an event of S3 or EventBridge`)
	}
}

func parseRecords(records []json.RawMessage) (Message, error) {
	var message Message
	var problems []error
	for i, raw := range records {
		var r events.S3EventRecord
		err := json.Unmarshal(raw, &r)
		switch name := strings.TrimPrefix(r.EventName, "s3:"); {
		case err != nil:
		case r.EventSource != "aws:s3" || !strings.HasPrefix(r.EventVersion, "2.") || name == "":
			err = fmt.Errorf("got source %q, version %q and name %q, expected aws:s3, 2.x and a name",
				r.EventSource, r.EventVersion, r.EventName)
		default:
			o := r.S3.Object
			source := wire.Source{
				Region: r.AWSRegion, Bucket: r.S3.Bucket.Name, Key: o.URLDecodedKey, VersionID: o.VersionID,
				ETag: o.ETag, Size: o.Size, Sequencer: o.Sequencer, EventTime: r.EventTime.UTC(),
			}
			switch prefix, what, _ := strings.Cut(name, ":"); {
			case prefix+":" == created:
				err = message.put(source)
			case (prefix+":" == removed || prefix+":" == expired) && what == markerCreated:
				err = message.delete(source, false)
			case prefix+":" == removed && what == "Delete":
				err = message.delete(source, source.VersionID != "")
			case prefix+":" == expired && what == "Delete": // of an unversioned object, or of some version
				err = message.delete(source, true)
			case prefix+":" == tagged:
				err = message.tag(source)
			default:
				message.Ignored = append(message.Ignored, name)
			}
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("record %d: %w", i, err))
		}
	}
	return message, errors.Join(problems...)
}

func parseBridge(body []byte) (Message, error) {
	var e events.EventBridgeEvent
	if err := json.Unmarshal(body, &e); err != nil {
		return Message{}, err
	}
	if e.Source != "aws.s3" {
		return Message{}, fmt.Errorf("got an EventBridge event of %q, expected aws.s3", e.Source)
	}
	var message Message
	if !slices.Contains([]string{bridgeCreated, bridgeDeleted, bridgeTagged, bridgeCleared}, e.DetailType) {
		message.Ignored = []string{e.DetailType}
		return message, nil
	}
	var detail struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"` // as it is, unlike that of a record
			Size      int64  `json:"size"`
			ETag      string `json:"etag"`
			VersionID string `json:"version-id"`
			Sequencer string `json:"sequencer"`
		} `json:"object"`
		DeletionType string `json:"deletion-type"`
	}
	if err := json.Unmarshal(e.Detail, &detail); err != nil {
		return Message{}, fmt.Errorf("detail: %w", err)
	}
	o := detail.Object
	source := wire.Source{
		Region: e.Region, Bucket: detail.Bucket.Name, Key: o.Key, VersionID: o.VersionID,
		ETag: o.ETag, Size: o.Size, Sequencer: o.Sequencer, EventTime: e.Time.UTC(),
	}
	var err error
	switch {
	case e.DetailType == bridgeCreated:
		err = message.put(source)
	case e.DetailType == bridgeTagged, e.DetailType == bridgeCleared:
		err = message.tag(source)
	case detail.DeletionType == bridgeMarker:
		err = message.delete(source, false)
	case detail.DeletionType == bridgeForGood: // an unversioned object, or some version
		err = message.delete(source, true)
	default:
		err = fmt.Errorf("detail: deletion-type: got %q, expected %q or %q", detail.DeletionType, bridgeMarker, bridgeForGood)
	}
	return message, err
}

func (m *Message) put(s wire.Source) error { return m.add(Event{Op: wire.OpPut, Source: s}) }

func (m *Message) delete(s wire.Source, unclear bool) error {
	s.ETag, s.Size = "", 0 // where S3 gives any, they are of what is gone
	return m.add(Event{Op: wire.OpDelete, Source: s, Unclear: unclear})
}

func (m *Message) tag(s wire.Source) error {
	s.Size, s.Sequencer = 0, "" // S3 gives no sequencer, other servers may
	return m.add(Event{Op: wire.OpTag, Source: s})
}

// add takes e in, or says all that is wrong with it.
func (m *Message) add(e Event) error {
	if err := e.Source.Validate(e.Op); err != nil {
		return err
	}
	m.Events = append(m.Events, e)
	return nil
}

// RoundAttribute is the message attribute of an event whose transfer was sent
// before: how often, as a number.
const RoundAttribute = "s3ferry-round"

// Round returns how often the transfer of a message's event was sent before; 0
// where it does not say, or nothing that can be.
func Round(m events.SQSMessage) int {
	text := m.MessageAttributes[RoundAttribute].StringValue
	if text == nil {
		return 0
	}
	n, err := strconv.Atoi(*text)
	if err != nil || n < 0 || n > wire.MaxRound {
		return 0
	}
	return n
}

// Encode returns the message in which S3 would tell of s and what was done, a put,
// a deletion or a change of tags, so that Parse gives both back and the transfer
// keeps its identity.
func Encode(op wire.Op, s wire.Source) string {
	name := created + "Put"
	object := map[string]any{"key": url.QueryEscape(s.Key)}
	if op != wire.OpTag {
		object["sequencer"] = s.Sequencer
	}
	switch {
	case op == wire.OpPut:
		object["size"], object["eTag"] = s.Size, s.ETag
	case op == wire.OpTag:
		name, object["eTag"] = tagged+"Put", s.ETag
	case s.VersionID == "":
		name = removed + "Delete"
	default:
		name = removed + markerCreated
	}
	if s.VersionID != "" {
		object["versionId"] = s.VersionID
	}
	body, _ := json.Marshal(map[string]any{"Records": []any{map[string]any{ // texts and numbers cannot fail
		"eventVersion": "2.1",
		"eventSource":  "aws:s3",
		"awsRegion":    s.Region,
		"eventTime":    s.EventTime.UTC().Format(time.RFC3339Nano),
		"eventName":    name,
		"s3": map[string]any{
			"s3SchemaVersion": "1.0",
			"bucket":          map[string]any{"name": s.Bucket},
			"object":          object,
		},
	}}})
	return string(body)
}
