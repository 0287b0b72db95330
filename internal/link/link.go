// Package link is what ties two partitions together: the link secret, which the
// sending side keeps in Secrets Manager, and the trust document, which the
// receiving side keeps in an SSM parameter. Only public material is in the
// second.
package link

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// ErrNotLinked says that the two sides have not been tied together yet. Events
// wait in the outbox meanwhile.
var ErrNotLinked = errors.New("not linked to a receiver yet: run `s3ferry link`")

// Secret is the link secret.
type Secret struct {
	APIURL     string        // of the mailbox API's stage; without a slash at the end
	APIKey     secret.String // value of the API key
	SigningKey wire.SigningKey
	// Credentials sign every request to the API. Zero: the API asks for none.
	Credentials Credentials
}

// Credentials are the access key of a user in the receiving partition who may do
// nothing but call the mailbox API.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey secret.String
	Region          string // of the API
}

// SameDoor reports whether both lead to one mailbox with the same keys to it.
func (s Secret) SameDoor(other Secret) bool {
	a, b := s.Credentials, other.Credentials
	return s.APIURL == other.APIURL && s.APIKey.Equal(other.APIKey) &&
		a.AccessKeyID == b.AccessKeyID && a.SecretAccessKey.Equal(b.SecretAccessKey) && a.Region == b.Region
}

type secretDocument struct {
	APIURL     string          `json:"apiUrl"`
	APIKey     string          `json:"apiKey"`
	SigningKey jose.JSONWebKey `json:"signingKey"`

	Credentials *credentialsDocument `json:"iamCredentials,omitempty"`
}

type credentialsDocument struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	Region          string `json:"region"`
}

// EncodeSecret returns s as it is kept, in the clear.
func EncodeSecret(s Secret) ([]byte, error) {
	document := secretDocument{
		APIURL: s.APIURL, APIKey: s.APIKey.Reveal(),
		SigningKey: jose.JSONWebKey{Key: s.SigningKey.Key.Reveal(), KeyID: s.SigningKey.ID, Algorithm: string(jose.EdDSA), Use: "sig"},
	}
	if c := s.Credentials; c.AccessKeyID != "" {
		document.Credentials = &credentialsDocument{c.AccessKeyID, c.SecretAccessKey.Reveal(), c.Region}
	}
	return json.Marshal(document) //nolint:gosec // keeping secrets is what it is for
}

// DecodeSecret reads the link secret. An empty one, or {}, is ErrNotLinked. The
// error never quotes the document.
func DecodeSecret(document []byte) (Secret, error) {
	var d map[string]json.RawMessage
	if len(bytes.TrimSpace(document)) == 0 {
		return Secret{}, ErrNotLinked
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return Secret{}, errors.New("read link secret: not a JSON object: run `s3ferry link` again")
	}
	if len(d) == 0 {
		return Secret{}, ErrNotLinked
	}
	var problems []error
	member := func(name string, v any) {
		if err := json.Unmarshal(d[name], v); err != nil {
			problems = append(problems, fmt.Errorf("%s: missing or malformed", name))
		}
	}
	var doc secretDocument
	member("apiUrl", &doc.APIURL)
	member("apiKey", &doc.APIKey)
	member("signingKey", &doc.SigningKey)
	if u, err := url.Parse(doc.APIURL); len(problems) == 0 && (err != nil || u.Host == "" || u.RawQuery != "") {
		problems = append(problems, errors.New("apiUrl: expected the URL of the API's stage"))
	}
	key, ok := doc.SigningKey.Key.(ed25519.PrivateKey)
	if len(problems) == 0 && (!ok || doc.SigningKey.KeyID == "") {
		problems = append(problems, errors.New("signingKey: expected an Ed25519 private JWK with a kid"))
	}
	s := Secret{
		APIURL: strings.TrimSuffix(doc.APIURL, "/"), APIKey: secret.New(doc.APIKey),
		SigningKey: wire.SigningKey{ID: doc.SigningKey.KeyID, Key: secret.New(key)},
	}
	if _, ok := d["iamCredentials"]; ok {
		var c credentialsDocument
		member("iamCredentials", &c)
		if c.AccessKeyID == "" || c.SecretAccessKey == "" || c.Region == "" {
			problems = append(problems, errors.New("iamCredentials: expected accessKeyId, secretAccessKey and region"))
		}
		s.Credentials = Credentials{c.AccessKeyID, secret.New(c.SecretAccessKey), c.Region}
	}
	if len(problems) > 0 {
		return Secret{}, fmt.Errorf("read link secret: %w: run `s3ferry link` again", errors.Join(problems...))
	}
	return s, nil
}

// Trust is whom the receiver believes, and what they may send.
type Trust struct {
	Keys    wire.PublicKeys
	Sources []Source
}

// Source is a bucket that objects may come from.
type Source struct {
	Bucket string `json:"bucket"`
	Region string `json:"region"`
}

// trustDocument is a JWK Set (RFC 7517) with one more member, which section 5
// of it allows.
type trustDocument struct {
	Keys    []jose.JSONWebKey `json:"keys"`
	Sources []Source          `json:"sources"`
}

// EncodeTrust returns t as it is kept.
func EncodeTrust(t Trust) ([]byte, error) {
	doc := trustDocument{Keys: []jose.JSONWebKey{}, Sources: t.Sources}
	for id, key := range t.Keys {
		doc.Keys = append(doc.Keys, jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(jose.EdDSA), Use: "sig"})
	}
	return json.Marshal(doc)
}

// DecodeTrust reads the trust document as it holds at now: a key whose exp, in
// seconds since 1970, has come is not trusted any more. A document without keys
// trusts nobody, which is how a receiver begins.
func DecodeTrust(document []byte, now time.Time) (Trust, error) {
	var doc struct {
		Keys    []trustedKey `json:"keys"`
		Sources []Source     `json:"sources"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return Trust{}, fmt.Errorf("read trust document: %w: run `s3ferry link` again", err)
	}
	t := Trust{Keys: wire.PublicKeys{}, Sources: doc.Sources}
	var problems []error
	for i, k := range doc.Keys {
		key, ok := k.Key.(ed25519.PublicKey)
		if !ok || k.KeyID == "" {
			problems = append(problems, fmt.Errorf("keys[%d]: expected an Ed25519 public JWK with a kid", i))
			continue
		}
		if k.expires == 0 || now.Before(time.Unix(k.expires, 0)) {
			t.Keys[k.KeyID] = key
		}
	}
	for i, s := range doc.Sources {
		if s.Bucket == "" || s.Region == "" {
			problems = append(problems, fmt.Errorf("sources[%d]: got bucket %q and region %q, expected both", i, s.Bucket, s.Region))
		}
	}
	if len(problems) > 0 {
		return Trust{}, fmt.Errorf("read trust document: %w: run `s3ferry link` again", errors.Join(problems...))
	}
	return t, nil
}

// trustedKey is a JWK that may have an exp, as OpenID Federation has it, which
// go-jose leaves out.
type trustedKey struct {
	jose.JSONWebKey

	expires int64
}

func (k *trustedKey) UnmarshalJSON(data []byte) error {
	var more struct {
		Expires int64 `json:"exp"`
	}
	if err := json.Unmarshal(data, &more); err != nil {
		return err
	}
	k.expires = more.Expires
	return k.JSONWebKey.UnmarshalJSON(data)
}

// Allows reports whether objects may come from bucket in region.
func (t Trust) Allows(bucket, region string) bool {
	for _, s := range t.Sources {
		if s.Bucket == bucket && s.Region == region {
			return true
		}
	}
	return false
}
