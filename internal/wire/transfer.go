// Package wire is the format in which one partition tells the other what to
// carry: a transfer, signed, and the receipt that says what became of it.
//
// A transfer is a JWS in compact form (RFC 7515) with EdDSA over Ed25519 (RFC
// 8037) and the header {"alg":"EdDSA","kid":...,"typ":"s3ferry-transfer+jws"}.
// Decoding is strict: the payload must be byte for byte what this package would
// write, so unknown, repeated or reordered members and trailing text are refused.
//
// Compatibility: a receiver accepts versions N and N-1, so it is deployed first.
package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/s3ferry/s3ferry/internal/secret"
)

// Version is the version that this package writes and the only one it reads.
const Version = 1

// MaxObjectSize is the largest S3 object: 10,000 parts of 5 GiB, 48.8 TiB.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const MaxObjectSize = 10_000 * 5 << 30

// MaxKey is the most bytes of an S3 key in UTF-8.
const MaxKey = 1024

// Op is what a transfer does to the destination.
type Op string

// The ops.
const (
	OpPut    Op = "put"    // copies one object version
	OpDelete Op = "delete" // deletes the key
	OpTag    Op = "tag"    // makes the tags of a copy those that its source's version has now
	OpNoop   Op = "noop"   // changes nothing: it asks for a receipt, which proves a link
)

// Transfer is one object version to carry, one deletion, or one change of tags.
type Transfer struct {
	ID       string // see ID
	Op       Op
	Round    int // how often it was sent before, by the receipts that asked for it
	Source   Source
	Object   Object
	URL      secret.String // presigned GET of exactly this version, of its tags for OpTag; none of other ops
	NotAfter time.Time     // the URL and the transfer are dead from then on; whole seconds, UTC
}

// MaxRound is the highest Round: what a sender may be set to at most.
const MaxRound = 10_000

// Source names an object version where it comes from, and the event about it.
type Source struct {
	Region    string    `json:"region"`
	Bucket    string    `json:"bucket"`
	Key       string    `json:"key"`                 // as it is, not URL-encoded
	VersionID string    `json:"versionId,omitempty"` // empty where the bucket is not versioned
	ETag      string    `json:"etag,omitempty"`      // without quotes; none of a deletion
	Size      int64     `json:"size"`                // bytes
	Sequencer string    `json:"sequencer"`           // hex; orders the events of one key; S3 gives none for OpTag
	EventTime time.Time `json:"eventTime"`
}

// Object is what the destination object carries beside its bytes. Values are
// those of the S3 headers, verbatim.
type Object struct {
	ContentType        string            `json:"contentType,omitempty"`
	CacheControl       string            `json:"cacheControl,omitempty"`
	ContentDisposition string            `json:"contentDisposition,omitempty"`
	ContentEncoding    string            `json:"contentEncoding,omitempty"`
	ContentLanguage    string            `json:"contentLanguage,omitempty"`
	Expires            string            `json:"expires,omitempty"`
	WebsiteRedirect    string            `json:"websiteRedirectLocation,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	Tags               map[string]string `json:"tags,omitempty"`
	StorageClass       string            `json:"storageClass,omitempty"` // empty is STANDARD
	Checksum           *Checksum         `json:"checksum,omitempty"`     // nil where the source has none
}

// Checksum is a checksum that S3 keeps with an object.
type Checksum struct {
	Algorithm string `json:"algorithm"` // CRC64NVME, CRC32, CRC32C, SHA1, SHA256
	Type      string `json:"type"`      // FULL_OBJECT or COMPOSITE
	Value     string `json:"value"`     // base64, as S3 gives it
}

// Checksum types.
const (
	FullObject = "FULL_OBJECT"
	Composite  = "COMPOSITE"
)

// ID returns the transfer's identity: the first 32 hex digits of the SHA-256
// over region, bucket, key, version ID (or, without one, the ETag), op and
// sequencer (or, for OpTag, the time of the event in RFC 3339), each preceded by
// its length. Whoever computes it for the same event gets the same.
func ID(op Op, s Source) string {
	version, event := s.VersionID, s.Sequencer
	if version == "" {
		version = s.ETag
	}
	if op == OpTag {
		event = s.EventTime.UTC().Format(time.RFC3339Nano)
	}
	h := sha256.New()
	for _, field := range []string{s.Region, s.Bucket, s.Key, version, string(op), event} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(field))) //nolint:gosec // fields are far below 4 GiB
		h.Write([]byte(field))
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// CompareSequencers orders two events of one key: negative if a came first, 0 if
// they are the same event. The shorter is padded with zeros on the right.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
func CompareSequencers(a, b string) int {
	n := max(len(a), len(b))
	pad := func(s string) string { return strings.ToUpper(s) + strings.Repeat("0", n-len(s)) }
	return strings.Compare(pad(a), pad(b))
}

// Validate reports everything that is wrong with t at once.
func (t *Transfer) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	ops := []Op{OpPut, OpDelete, OpTag, OpNoop}
	switch hasURL, pulls := t.URL.Reveal() != "", t.Op == OpPut || t.Op == OpTag; {
	case !slices.Contains(ops, t.Op):
		bad("op: got %q, expected one of %q", t.Op, ops)
	case pulls && !hasURL:
		bad("url: got nothing, expected a presigned URL")
	case !pulls && hasURL:
		bad("url: got one, expected none for %q", t.Op)
	}
	if want := ID(t.Op, t.Source); t.ID != want {
		bad("id: got %q, expected %q, the hash of its source", t.ID, want)
	}
	if t.Round < 0 || t.Round > MaxRound {
		bad("round: got %d, expected 0 to %d", t.Round, MaxRound)
	}
	if t.NotAfter.IsZero() {
		bad("notAfter: got nothing, expected a time")
	}
	if err := t.Source.Validate(t.Op); err != nil {
		problems = append(problems, fmt.Errorf("source: %w", err))
	}
	if c := t.Object.Checksum; c != nil {
		if c.Type != FullObject && c.Type != Composite {
			bad("object.checksum.type: got %q, expected %s or %s", c.Type, FullObject, Composite)
		}
		if c.Algorithm == "" || c.Value == "" {
			bad("object.checksum: got algorithm %q and value %q, expected both", c.Algorithm, c.Value)
		}
	}
	return errors.Join(problems...)
}

// Validate reports everything that is wrong with s, the source of an op, at once.
func (s *Source) Validate(op Op) error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	for _, f := range []struct{ name, value string }{
		{"region", s.Region}, {"bucket", s.Bucket}, {"key", s.Key}, {"etag", s.ETag}, {"sequencer", s.Sequencer},
	} {
		none := f.name == "etag" && op == OpDelete || f.name == "sequencer" && op == OpTag
		if f.value == "" && !none {
			bad("%s: got nothing, expected a value", f.name)
		}
	}
	if op == OpTag && (s.Sequencer != "" || s.Size != 0) {
		bad("sequencer and size: got %.64q and %d, expected neither for %q", s.Sequencer, s.Size, op)
	}
	if len(s.Key) > MaxKey || !utf8.ValidString(s.Key) {
		bad("key: got %.64q of %d bytes, expected at most %d bytes of UTF-8", s.Key, len(s.Key), MaxKey)
	}
	if strings.Trim(s.Sequencer, "0123456789abcdefABCDEF") != "" {
		bad("sequencer: got %.64q, expected hexadecimal digits", s.Sequencer)
	}
	if strings.Contains(s.ETag, `"`) {
		bad("etag: got %.64q, expected it without quotes", s.ETag)
	}
	if s.Size < 0 || s.Size > MaxObjectSize {
		bad("size: got %d bytes, expected 0 to %d", s.Size, int64(MaxObjectSize))
	}
	if y := s.EventTime.Year(); y < 2006 || y > 9999 { // S3 was born in 2006
		bad("eventTime: got year %d, expected when it happened", y)
	}
	return errors.Join(problems...)
}
