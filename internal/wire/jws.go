package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/internal/secret"
)

// Type is the "typ" header of a transfer.
const Type = "s3ferry-transfer+jws"

// MaxMessage is the most bytes of a signed transfer.
const MaxMessage = door.MaxMessage

// Errors of Verify, for errors.Is. Every other error of it is ErrMalformed.
var (
	ErrMalformed  = errors.New("malformed transfer")
	ErrUnknownKey = errors.New("transfer signed by an unknown key")
	ErrSignature  = errors.New("transfer signature does not verify")
	ErrVersion    = errors.New("unknown transfer version")
)

// ErrTooLarge is the error of Sign for a transfer over MaxMessage.
var ErrTooLarge = errors.New("transfer too large")

// SigningKey signs transfers.
type SigningKey struct {
	ID  string // "kid" header
	Key secret.Value[ed25519.PrivateKey]
}

// PublicKeys maps key IDs to the keys whose transfers are accepted.
type PublicKeys map[string]ed25519.PublicKey

// payload is the JSON form of a Transfer, where the URL is in the clear.
type payload struct {
	V        int       `json:"v"`
	ID       string    `json:"id"`
	Op       Op        `json:"op"`
	Round    int       `json:"round,omitempty"`
	Source   Source    `json:"source"`
	Object   Object    `json:"object"`
	URL      string    `json:"url,omitempty"`
	NotAfter time.Time `json:"notAfter"`
}

// Sign returns t as an inbox message. It fails with ErrTooLarge where metadata,
// tags and URL together make more than MaxMessage bytes, and if t is not valid.
func Sign(t *Transfer, key SigningKey) (string, error) {
	if err := t.Validate(); err != nil {
		return "", fmt.Errorf("sign transfer of %q: %w", t.Source.Key, err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key.Key.Reveal(), KeyID: key.ID}},
		(&jose.SignerOptions{}).WithType(Type),
	)
	if err != nil {
		return "", fmt.Errorf("sign transfer of %q: %w", t.Source.Key, err)
	}
	body, err := marshal(payload{
		V: Version, ID: t.ID, Op: t.Op, Round: t.Round, Source: t.Source, Object: t.Object,
		URL: t.URL.Reveal(), NotAfter: t.NotAfter,
	})
	if err != nil {
		return "", fmt.Errorf("sign transfer of %q: %w", t.Source.Key, err)
	}
	// JSON has no way to write text that isn't UTF-8: better to say so here than
	// to deliver it changed.
	if _, err := decode(body); err != nil {
		return "", fmt.Errorf("sign transfer of %q: its headers, metadata or tags are not valid UTF-8: %w", t.Source.Key, err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", fmt.Errorf("sign transfer of %q: %w", t.Source.Key, err)
	}
	message, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("sign transfer of %q: %w", t.Source.Key, err)
	}
	if len(message) > MaxMessage {
		return "", fmt.Errorf("%w: the message for %q has %d bytes, expected at most %d: shorten its metadata or tags",
			ErrTooLarge, t.Source.Key, len(message), MaxMessage)
	}
	return message, nil
}

// Verify returns the transfer in message if one of keys signed it. The header is
// judged before the signature, and the signature before the payload.
func Verify(message string, keys PublicKeys) (*Transfer, error) {
	if len(message) > MaxMessage {
		return nil, fmt.Errorf("%w: got %d bytes, expected at most %d", ErrMalformed, len(message), MaxMessage)
	}
	signed, err := jose.ParseSignedCompact(message, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, fmt.Errorf("%w: not a JWS in compact form with EdDSA: %w", ErrMalformed, err)
	}
	header := signed.Signatures[0].Protected
	if typ := header.ExtraHeaders[jose.HeaderType]; typ != Type || len(header.ExtraHeaders) != 1 || header.JSONWebKey != nil {
		return nil, fmt.Errorf("%w: got typ %v and %d header members beside alg and kid, expected only typ %q",
			ErrMalformed, typ, len(header.ExtraHeaders), Type)
	}
	key, ok := keys[header.KeyID]
	if !ok {
		return nil, fmt.Errorf("%w: got kid %q", ErrUnknownKey, header.KeyID)
	}
	body, err := signed.Verify(key)
	if err != nil {
		return nil, fmt.Errorf("%w: kid %q", ErrSignature, header.KeyID)
	}
	// Base64 has several spellings of the same bytes; only ours is accepted.
	if again, err := signed.CompactSerialize(); err != nil || again != message {
		return nil, fmt.Errorf("%w: not in canonical form", ErrMalformed)
	}
	return decode(body)
}

func decode(body []byte) (*Transfer, error) {
	v, err := versionOf(body)
	if err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	if v != Version {
		return nil, fmt.Errorf("%w: got %d, expected %d: deploy the receiver before the sender", ErrVersion, v, Version)
	}
	var p payload
	if err := unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	t := &Transfer{
		ID: p.ID, Op: p.Op, Round: p.Round, Source: p.Source, Object: p.Object,
		URL: secret.New(p.URL), NotAfter: p.NotAfter,
	}
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return t, nil
}

// versionOf looks only at the version, which says how to read the rest.
func versionOf(body []byte) (int, error) {
	var version struct {
		V int `json:"v"`
	}
	err := json.Unmarshal(body, &version)
	return version.V, err
}

// marshal writes v without escaping for HTML, which would lengthen every URL, and
// with escapes for the two characters that JSON may have as they are and SQS takes
// in no message.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\uFFFE"), []byte(`\ufffe`))
	return bytes.ReplaceAll(text, []byte("\uFFFF"), []byte(`\uffff`)), nil
}

// unmarshal reads what marshal wrote, and nothing else: encoding/json would also
// take members twice, in other letters or with text behind.
func unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	again, err := marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("not in canonical form: members repeated, reordered, empty or followed by more text")
	}
	return nil
}
