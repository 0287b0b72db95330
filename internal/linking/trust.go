package linking

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// trust is a trust document as it is edited: what others have put there stays as
// they put it, byte for byte. Its methods leave the receiver as it is.
type trust struct {
	text    string
	version int64 // of the parameter

	members map[string]json.RawMessage // all but keys and sources
	keys    []trustedKey
	sources []json.RawMessage
	decoded link.Trust
}

type trustedKey struct {
	id      string
	expires time.Time // when a replaced key is to be removed at the latest; zero: it was not replaced
	raw     json.RawMessage
}

// parseTrust reads a trust document as strictly as the receiver does.
func parseTrust(text string, version int64) (trust, error) {
	t := trust{text: text, version: version, members: map[string]json.RawMessage{}}
	var err error
	if t.decoded, err = link.DecodeTrust([]byte(text), time.Now()); err != nil {
		return trust{}, err
	}
	if err := json.Unmarshal([]byte(text), &t.members); err != nil {
		return trust{}, fmt.Errorf("read trust document: %w", err)
	}
	var keys []json.RawMessage
	for member, to := range map[string]*[]json.RawMessage{"keys": &keys, "sources": &t.sources} {
		if raw, ok := t.members[member]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return trust{}, fmt.Errorf("read trust document: %s: %w", member, err)
			}
			delete(t.members, member)
		}
	}
	for _, raw := range keys {
		var k struct {
			ID      string `json:"kid"`
			Expires int64  `json:"exp"`
		}
		if err := json.Unmarshal(raw, &k); err != nil {
			return trust{}, fmt.Errorf("read trust document: key %q: %w", k.ID, err)
		}
		key := trustedKey{id: k.ID, raw: raw}
		if k.Expires != 0 {
			key.expires = time.Unix(k.Expires, 0).UTC()
		}
		t.keys = append(t.keys, key)
	}
	return t, nil
}

// trusts reports whether the document has the public half of key.
func (t trust) trusts(key wire.SigningKey) bool {
	public, ok := t.decoded.Keys[key.ID]
	return ok && public.Equal(publicOf(key))
}

func (t trust) allows(s link.Source) bool { return t.decoded.Allows(s.Bucket, s.Region) }

// withKey adds a key. One that is there already stays as it is, though not
// replaced any more.
func (t trust) withKey(id string, public ed25519.PublicKey) trust {
	i := slices.IndexFunc(t.keys, func(k trustedKey) bool { return k.id == id })
	if i >= 0 && t.keys[i].expires.IsZero() {
		return t
	}
	raw, err := json.Marshal(jose.JSONWebKey{Key: public, KeyID: id, Algorithm: string(jose.EdDSA), Use: "sig"})
	if err != nil {
		panic(err) // an Ed25519 key is always JSON
	}
	if key := (trustedKey{id: id, raw: raw}); i >= 0 {
		t.keys = slices.Clone(t.keys)
		t.keys[i] = key
	} else {
		t.keys = append(slices.Clip(t.keys), key)
	}
	return t.encoded()
}

func (t trust) withoutKey(id string) trust {
	n := len(t.keys)
	if t.keys = slices.DeleteFunc(slices.Clone(t.keys), func(k trustedKey) bool { return k.id == id }); len(t.keys) == n {
		return t
	}
	return t.encoded()
}

// withExpiry marks a key as replaced, unless it is marked.
func (t trust) withExpiry(id string, expires time.Time) trust {
	i := slices.IndexFunc(t.keys, func(k trustedKey) bool { return k.id == id && k.expires.IsZero() })
	if i < 0 {
		return t
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(t.keys[i].raw, &members); err != nil {
		panic(err) // it was read before
	}
	members["exp"] = marshal(expires.Unix()) // as OpenID Federation has it in a JWK
	t.keys = slices.Clone(t.keys)
	t.keys[i] = trustedKey{id: id, expires: expires, raw: marshal(members)}
	return t.encoded()
}

// withSources adds the sources that are not allowed yet.
func (t trust) withSources(sources []link.Source) trust {
	before := len(t.sources)
	for _, s := range sources {
		if !t.allows(s) {
			t.sources = append(slices.Clip(t.sources), marshal(s))
			t.decoded.Sources = append(slices.Clip(t.decoded.Sources), s)
		}
	}
	if len(t.sources) == before {
		return t
	}
	return t.encoded()
}

func (t trust) withoutSource(s link.Source) trust {
	if !t.allows(s) {
		return t
	}
	t.sources = slices.DeleteFunc(slices.Clone(t.sources), func(raw json.RawMessage) bool {
		var is link.Source
		return json.Unmarshal(raw, &is) == nil && is == s
	})
	return t.encoded()
}

// withText is the document with another text, at the same version.
func (t trust) withText(text string) (trust, error) { return parseTrust(text, t.version) }

// encoded is t with the text that its parts make.
func (t trust) encoded() trust {
	members := maps.Clone(t.members)
	keys := make([]json.RawMessage, len(t.keys))
	for i, k := range t.keys {
		keys[i] = k.raw
	}
	members["keys"] = marshal(keys)
	members["sources"] = marshal(append([]json.RawMessage{}, t.sources...))
	t.text = string(marshal(members))
	return t
}

// marshal writes what is known to be JSON, and spares the characters of HTML.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
