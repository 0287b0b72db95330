// Package envcfg is the environment contract between the constructs, which set
// it, and the functions, which read it. It is the one package both sides share,
// so a variable cannot be renamed on one side only.
//
// Credentials, region and endpoints are the AWS SDK's own variables and are not
// listed here. Fields tagged optional need not be there, and Encode leaves them
// out when empty. So are those tagged test, which are for the laptop cloud: a
// construct never sets them.
package envcfg

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Prefixes of the journal's entries that may expire. An order record must last as
// long as its object.
const (
	JournalUploads = "uploads/" // a multipart upload under way
	JournalNewest  = "newest/"  // the newest event of a key; needed while an older one may still come
	JournalTags    = "tags/"    // a version whose tags have changed; needed while the version may still come
)

// Sender configures functions/sender.
type Sender struct {
	Name string `env:"S3FERRY_NAME"` // of the sender or receiver, in metrics

	OutboxURL    string        `env:"S3FERRY_OUTBOX_URL"`
	OutboxDLQURL string        `env:"S3FERRY_OUTBOX_DLQ_URL"`
	LinkSecret   string        `env:"S3FERRY_LINK_SECRET"` // ARN or name of the link secret
	SignerRole   string        `env:"S3FERRY_SIGNER_ROLE"` // ARN of the role whose credentials sign URLs
	URLLife      time.Duration `env:"S3FERRY_URL_LIFE"`    // wanted life of a signed URL, clamped to the credentials

	Concurrency   int    `env:"S3FERRY_CONCURRENCY"`          // most invocations at once, which share the room in the inbox
	PaceParameter string `env:"S3FERRY_PACE_PARAMETER"`       // name of the SSM parameter with the receiver's pace
	Deletes       bool   `env:"S3FERRY_DELETES,optional"`     // deletions are carried too
	TagChanges    bool   `env:"S3FERRY_TAG_CHANGES,optional"` // changes of tags are carried too

	// TestSourceEndpoint replaces the S3 endpoint that goes into signed URLs.
	TestSourceEndpoint string `env:"S3FERRY_TEST_SOURCE_ENDPOINT,test"`
}

// Courier configures functions/courier.
type Courier struct {
	Name string `env:"S3FERRY_NAME"` // of the sender or receiver, in metrics

	OutboxURL    string `env:"S3FERRY_OUTBOX_URL"`
	OutboxDLQURL string `env:"S3FERRY_OUTBOX_DLQ_URL"` // for receipts that cannot be read
	LinkSecret   string `env:"S3FERRY_LINK_SECRET"`

	PaceParameter string `env:"S3FERRY_PACE_PARAMETER"`
	MaxRounds     int    `env:"S3FERRY_MAX_ROUNDS"` // how often a transfer is sent again before it is given up
}

// DefaultMaxRounds is a round an hour, the longest life of a URL, for the 14 days
// that a queue keeps a message, and some more.
const DefaultMaxRounds = 400

// Receiver configures functions/receiver.
type Receiver struct {
	Name string `env:"S3FERRY_NAME"` // of the sender or receiver, in metrics

	InboxURL          string `env:"S3FERRY_INBOX_URL"`
	InboxDLQURL       string `env:"S3FERRY_INBOX_DLQ_URL"`
	ReceiptsURL       string `env:"S3FERRY_RECEIPTS_URL"`
	TrustParameter    string `env:"S3FERRY_TRUST_PARAMETER"` // name of the SSM parameter with public keys and sources
	DestinationBucket string `env:"S3FERRY_DESTINATION_BUCKET"`
	JournalBucket     string `env:"S3FERRY_JOURNAL_BUCKET"`

	Connections int   `env:"S3FERRY_CONNECTIONS"`   // most ranged GETs under way at once, over all messages of a batch
	PartSize    int64 `env:"S3FERRY_PART_SIZE"`     // bytes; grown only where 10,000 parts would not do
	SegmentSize int64 `env:"S3FERRY_SEGMENT_SIZE"`  // bytes; a larger object is carried by several invocations
	MemoryMiB   int64 `env:"S3FERRY_MEMORY_BUDGET"` // MiB of part buffers, over all messages of a batch

	Deletes       bool `env:"S3FERRY_DELETES,optional"`              // deletions are carried too
	TagChanges    bool `env:"S3FERRY_TAG_CHANGES,optional"`          // changes of tags are carried too
	Unconditional bool `env:"S3FERRY_UNCONDITIONAL_WRITES,optional"` // S3 has no conditional writes here
	InboxReceives int  `env:"S3FERRY_INBOX_RECEIVES"`                // after so many, SQS gives a message up

	StripPrefix    string            `env:"S3FERRY_STRIP_PREFIX,optional"`    // taken off the source's key
	AddPrefix      string            `env:"S3FERRY_ADD_PREFIX,optional"`      // put before it; {bucket} and {region} are the source's
	StorageClasses map[string]string `env:"S3FERRY_STORAGE_CLASSES,optional"` // at the destination, by the source's; * is any other
	SourceNetworks []netip.Prefix    `env:"S3FERRY_SOURCE_NETWORKS,optional"` // private ones in which S3 of the sources may be

	// TestSourceEndpoint is the one endpoint outside S3 that a URL may name.
	TestSourceEndpoint string `env:"S3FERRY_TEST_SOURCE_ENDPOINT,test"`
}

// What a receiver of 2,048 MiB gets unless it is told otherwise.
const (
	DefaultConnections     = 256
	DefaultPartSize        = 8 << 20
	DefaultSegmentSize     = 1 << 30
	DefaultMemoryBudgetMiB = 512
)

// Encode returns the environment block for cfg, a pointer to one of the structs
// above. Values may hold unresolved deploy-time tokens; they are not looked at.
func Encode(cfg any) map[string]string {
	env := map[string]string{}
	for field, value := range fields(cfg) {
		if text := encode(value); text != "" || !field.optional {
			env[field.name] = text
		}
	}
	return env
}

// Decode fills cfg, a pointer to one of the structs above, from lookup, which
// has the form of os.LookupEnv. It reports every variable that is missing or
// malformed in one error, and sets nothing that it reports.
func Decode(cfg any, lookup func(string) (string, bool)) error {
	var problems []error
	for field, value := range fields(cfg) {
		text, ok := lookup(field.name)
		if !ok || text == "" {
			if !field.optional {
				problems = append(problems, fmt.Errorf("%s: got nothing, expected %s", field.name, kind(value)))
			}
			continue
		}
		if err := set(value, text); err != nil {
			problems = append(problems, fmt.Errorf("%s: got %q, expected %s", field.name, text, kind(value)))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("read the environment that the s3ferry constructs set: %w", errors.Join(problems...))
	}
	return nil
}

type field struct {
	name     string
	optional bool
}

// fields yields the tagged fields of the struct that cfg points to.
func fields(cfg any) func(yield func(field, reflect.Value) bool) {
	v := reflect.ValueOf(cfg).Elem()
	return func(yield func(field, reflect.Value) bool) {
		for i := range v.NumField() {
			name, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("env"), ",")
			if !yield(field{name: name, optional: option != ""}, v.Field(i)) {
				return
			}
		}
	}
}

// encode returns the text of v that set reads.
func encode(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case bool:
		if !value {
			return "" // as if it were not there
		}
		return "true"
	case map[string]string:
		pairs := make([]string, 0, len(value))
		for _, key := range slices.Sorted(maps.Keys(value)) {
			pairs = append(pairs, key+"="+value[key])
		}
		return strings.Join(pairs, ",")
	case []netip.Prefix:
		networks := make([]string, len(value))
		for i := range value {
			networks[i] = value[i].String()
		}
		return strings.Join(networks, ",")
	default:
		return fmt.Sprint(value)
	}
}

func set(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
	case bool:
		if text != "true" {
			return errors.New("not true")
		}
		v.SetBool(true)
	case map[string]string:
		pairs := map[string]string{}
		for pair := range strings.SplitSeq(text, ",") {
			key, value, ok := strings.Cut(pair, "=")
			if !ok || key == "" || value == "" {
				return errors.New("not a pair")
			}
			pairs[key] = value
		}
		v.Set(reflect.ValueOf(pairs))
	case []netip.Prefix:
		var networks []netip.Prefix
		for part := range strings.SplitSeq(text, ",") {
			network, err := netip.ParsePrefix(part)
			if err != nil {
				return err
			}
			networks = append(networks, network)
		}
		v.Set(reflect.ValueOf(networks))
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return errors.New("not a positive duration")
		}
		v.SetInt(int64(d))
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return errors.New("not a positive number")
		}
		v.SetInt(n)
	}
	return nil
}

func kind(v reflect.Value) string {
	switch v.Interface().(type) {
	case string:
		return "a value"
	case bool:
		return "true or nothing"
	case time.Duration:
		return "a positive duration such as 45m0s"
	case map[string]string:
		return "pairs such as A=B,C=D"
	case []netip.Prefix:
		return "networks such as 10.0.0.0/8,fd00::/8"
	default:
		return "a positive whole number"
	}
}
