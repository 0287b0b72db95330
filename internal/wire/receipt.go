package wire

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is what became of a transfer.
type Outcome string

// The outcomes. Expired asks for the transfer to be signed and sent again, and so
// does a Failed whose receipt says Retry.
const (
	Copied     Outcome = "copied"     // the object is at the destination, verified
	Skipped    Outcome = "skipped"    // it already was; of OpTag: there is no copy, which will bring its tags
	Superseded Outcome = "superseded" // a newer version is, or the source has one
	Gone       Outcome = "gone"       // the source has deleted it
	Deleted    Outcome = "deleted"    // the answer to OpDelete: the destination no longer has the object
	Tagged     Outcome = "tagged"     // the answer to OpTag: the copy has its source's tags
	Expired    Outcome = "expired"    // the URL died first
	Refused    Outcome = "refused"    // the receiver would not touch it
	Failed     Outcome = "failed"     // given up: for good, or for this round
	Linked     Outcome = "linked"     // the answer to OpNoop: key and source are trusted
)

// Outcomes lists every outcome.
func Outcomes() []Outcome {
	return []Outcome{Copied, Skipped, Superseded, Gone, Deleted, Tagged, Expired, Refused, Failed, Linked}
}

// Verified is how a copied object was proved to be the source's.
type Verified string

// From the strongest to the weakest. Whatever was proved, the destination has
// also checked that it stored the bytes that were pulled.
const (
	ByFullObject Verified = "full-object" // the source's checksum of the whole object
	ByETag       Verified = "etag"        // the source's ETag, an MD5
	ByLength     Verified = "length"      // every range pinned to the source's ETag, and the length
)

// Receipt says what became of one transfer.
type Receipt struct {
	V        int       `json:"v"`
	ID       string    `json:"id"`
	Op       Op        `json:"op"`
	Round    int       `json:"round,omitempty"` // of the transfer
	Outcome  Outcome   `json:"outcome"`
	Source   Source    `json:"source"`
	Bytes    int64     `json:"bytes"`              // delivered by the whole transfer; 0 unless copied
	Millis   int64     `json:"millis"`             // of the invocation that ended it
	Attempts int       `json:"attempts"`           // receives of the message that ended it
	Verified Verified  `json:"verified,omitempty"` // of copied
	Class    string    `json:"class,omitempty"`    // of refused and failed: the fault's class
	Reason   string    `json:"reason,omitempty"`   // of refused and failed, in words
	Retry    bool      `json:"retry,omitempty"`    // of failed: what failed may pass, so it is worth another round
	At       time.Time `json:"at"`
}

// MaxReason is the most bytes of a receipt's reason; EncodeReceipt cuts it there.
const MaxReason = 1024

// EncodeReceipt returns r as a receipts-queue message. It sets V.
func EncodeReceipt(r Receipt) (string, error) {
	r.V = Version
	r.Reason = strings.ToValidUTF8(r.Reason[:min(len(r.Reason), MaxReason)], "")
	if err := r.validate(); err != nil {
		return "", fmt.Errorf("encode receipt: %w", err)
	}
	body, err := marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode receipt: %w", err)
	}
	return string(body), nil
}

// DecodeReceipt reads what EncodeReceipt wrote, as strictly as Verify.
func DecodeReceipt(message string) (Receipt, error) {
	var r Receipt
	v, err := versionOf([]byte(message))
	if err != nil {
		return Receipt{}, fmt.Errorf("decode receipt: %w", err)
	}
	if v != Version {
		return Receipt{}, fmt.Errorf("decode receipt: got version %d, expected %d: deploy the courier", v, Version)
	}
	if err := unmarshal([]byte(message), &r); err != nil {
		return Receipt{}, fmt.Errorf("decode receipt: %w", err)
	}
	if err := r.validate(); err != nil {
		return Receipt{}, fmt.Errorf("decode receipt: %w", err)
	}
	return r, nil
}

// opsOf are the ops of the outcomes that not every op can have.
var opsOf = map[Outcome][]Op{Copied: {OpPut}, Gone: {OpPut, OpTag}, Deleted: {OpDelete}, Tagged: {OpTag}, Linked: {OpNoop}}

func (r *Receipt) validate() error {
	var problems []error
	if err := r.Source.Validate(r.Op); err != nil {
		problems = append(problems, fmt.Errorf("source: %w", err))
	}
	if !slices.Contains(Outcomes(), r.Outcome) {
		problems = append(problems, fmt.Errorf("outcome: got %q, expected one of %q", r.Outcome, Outcomes()))
	}
	if want := ID(r.Op, r.Source); r.ID != want {
		problems = append(problems, fmt.Errorf("id: got %q, expected %q, the hash of its source", r.ID, want))
	}
	if ops := opsOf[r.Outcome]; ops != nil && !slices.Contains(ops, r.Op) {
		problems = append(problems, fmt.Errorf("op: got %q for outcome %q, expected one of %q", r.Op, r.Outcome, ops))
	}
	if r.Round < 0 || r.Round > MaxRound {
		problems = append(problems, fmt.Errorf("round: got %d, expected 0 to %d", r.Round, MaxRound))
	}
	if r.Retry && r.Outcome != Failed {
		problems = append(problems, fmt.Errorf("retry: got true for outcome %q, expected it of %q only", r.Outcome, Failed))
	}
	if (r.Outcome == Copied) != (r.Verified != "") {
		problems = append(problems, fmt.Errorf("verified: got %q for outcome %q", r.Verified, r.Outcome))
	}
	return errors.Join(problems...)
}
