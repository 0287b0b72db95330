package linking

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Two people who each reach one side link them by two files. The sending side's
// request has its public keys, and the receiving side's answer has the API key,
// encrypted to the request's: neither file is a secret. That nobody has swapped
// one on its way is for the two to see by their fingerprints.
const (
	requestKind = "s3ferry-link-request/1"
	answerKind  = "s3ferry-link-answer/1"
)

// request is the file that the sending side exports.
type request struct {
	Kind      string          `json:"kind"`
	Key       jose.JSONWebKey `json:"key"`                // to be trusted
	Sources   []link.Source   `json:"sources"`            // to be allowed; the sender's own first
	Replaces  string          `json:"replaces,omitempty"` // key ID that the sender signs with until it has the answer
	EncryptTo jose.JSONWebKey `json:"encryptTo"`
}

// answer is the file that the receiving side exports.
type answer struct {
	Kind   string `json:"kind"`
	KeyID  string `json:"kid"`    // that is trusted now
	Sealed string `json:"sealed"` // door as a JWE (RFC 7516), ECDH-ES with A256GCM
}

// door is what the sender needs beside its key.
type door struct {
	Request string `json:"request"` // fingerprint of what is answered
	APIURL  string `json:"apiUrl"`
	APIKey  string `json:"apiKey"`

	AccessKey *accessKey `json:"accessKey,omitempty"` // to sign requests with, if the API asks for that
}

type accessKey struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	Region string `json:"region"`
}

// door is what the state's mailbox tells whoever answers request.
func (c chinaState) door(request string) door {
	d := door{Request: request, APIURL: c.url, APIKey: c.apiKey.Reveal()}
	if k := c.accessKey; k.AccessKeyID != "" {
		d.AccessKey = &accessKey{k.AccessKeyID, k.SecretAccessKey.Reveal(), k.Region}
	}
	return d
}

// pendingLink is what the sending side keeps until it has the answer, beside the
// link secret that is in use.
type pendingLink struct {
	Request    request         `json:"request"`
	SigningKey jose.JSONWebKey `json:"signingKey"`
	Decrypt    jose.JSONWebKey `json:"decrypt"`
}

// File is one half of a link on its way to the other side.
type File struct {
	Content     []byte   `json:"-"`
	Fingerprint string   `json:"fingerprint"`        // to be compared by another way than the file's
	Imported    string   `json:"imported,omitempty"` // fingerprint of the file that it answers
	KeyID       string   `json:"kid"`
	Steps       []string `json:"steps"`
	DryRun      bool     `json:"dryRun"`
}

// Export makes a key pair on the sending side and returns the request for the
// receiving side. The link that is in use stays in use. Until its answer is
// imported, the same request is exported again, unless Rotate wants another.
func (l *Linker) Export(ctx context.Context, g *Global, o Options) (*File, error) {
	state, err := g.read(ctx)
	if err != nil {
		return nil, err
	}
	if state.broken != nil && !o.Rotate {
		return nil, fmt.Errorf("%w: --rotate replaces it", state.broken)
	}
	sources, err := state.sources(o.Sources)
	if err := errors.Join(err, checkName(o.Name), g.checkSources(ctx, state, sources)); err != nil {
		return nil, err
	}
	p, found, err := g.readPending(ctx, state.secretARN)
	if err != nil && !o.Rotate {
		return nil, err
	}
	stale := !slices.Equal(p.Request.Sources, sources) || p.Request.Replaces != state.secret.SigningKey.ID
	if !found || stale || o.Rotate || o.Name != "" && o.Name != nameOf(p.Request.Key.KeyID) {
		if p, err = newPending(state, sources, o.Name, time.Now()); err != nil {
			return nil, err
		}
		found = false
	}
	file, err := newFile(p.Request, p.Request.Key.KeyID)
	if err != nil {
		return nil, err
	}
	file.DryRun = o.DryRun
	if found {
		return file, nil
	}
	file.Steps = []string{fmt.Sprintf("keep the new key %s beside link secret %s", p.Request.Key.KeyID, state.secretARN)}
	if o.DryRun {
		return file, nil
	}
	return file, g.writePending(ctx, state, p)
}

func newPending(state globalState, sources []link.Source, name string, now time.Time) (pendingLink, error) {
	key, err := newKey(cmp.Or(name, nameOf(state.secret.SigningKey.ID), state.source.Bucket), now)
	if err != nil {
		return pendingLink{}, err
	}
	decrypt, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pendingLink{}, fmt.Errorf("make encryption key: %w", err)
	}
	signing := jose.JSONWebKey{Key: key.Key.Reveal(), KeyID: key.ID, Algorithm: string(jose.EdDSA), Use: "sig"}
	private := jose.JSONWebKey{Key: decrypt, KeyID: key.ID, Algorithm: string(jose.ECDH_ES), Use: "enc"}
	return pendingLink{
		SigningKey: signing, Decrypt: private,
		Request: request{
			Kind: requestKind, Key: signing.Public(), EncryptTo: private.Public(),
			Sources: sources, Replaces: state.secret.SigningKey.ID,
		},
	}, nil
}

// readPending returns the link that waits for its answer, if there is one.
func (g *Global) readPending(ctx context.Context, id string) (p pendingLink, found bool, err error) {
	text, found, err := g.readSecret(ctx, id, stagePending)
	if err != nil || !found || strings.TrimSpace(text) == "{}" {
		return pendingLink{}, false, err
	}
	if err := decodeStrictly([]byte(text), &p); err != nil {
		return pendingLink{}, false, fmt.Errorf("version %s of secret %s is not what --export writes: export again with --rotate", stagePending, id)
	}
	return p, true, nil
}

// writePending keeps p beside the link secret. The first version of a secret
// becomes its current one whatever its label, so an empty one comes before it.
func (g *Global) writePending(ctx context.Context, state globalState, p pendingLink) error {
	if state.empty {
		if err := g.putSecret(ctx, state.secretARN, stageCurrent, []byte("{}")); err != nil {
			return err
		}
	}
	return g.putSecret(ctx, state.secretARN, stagePending, marshal(p))
}

// Answer trusts the key of a request on the receiving side, allows its source,
// and returns the answer for the sending side. Keys that the request's
// predecessors replaced are removed once their grace is over.
func (l *Linker) Answer(ctx context.Context, c *China, content []byte, o Options) (*File, error) {
	r, public, err := readRequest(content)
	if err != nil {
		return nil, err
	}
	state, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	id := r.Key.KeyID
	if known, ok := state.trust.decoded.Keys[id]; ok && !known.Equal(public) {
		return nil, fmt.Errorf("parameter %s has another key called %s: have the request exported again with --rotate", state.parameter, id)
	}
	if err := errors.Join(state.checkOwner(nameOf(id), r.Replaces, r.Sources[0].Bucket, id), c.checkDestination(ctx, state)); err != nil {
		return nil, err
	}
	sealed, err := seal(r, state.door(fingerprint(r)))
	if err != nil {
		return nil, err
	}
	file, err := newFile(answer{Kind: answerKind, KeyID: id, Sealed: sealed}, id)
	if err != nil {
		return nil, err
	}
	file.DryRun, file.Imported = o.DryRun, fingerprint(r)
	file.Steps = []string{
		fmt.Sprintf("trust key %s in parameter %s", id, state.parameter),
	}
	for _, source := range r.Sources {
		file.Steps = append(file.Steps, fmt.Sprintf("allow source bucket %s in %s there", source.Bucket, source.Region))
	}
	now := time.Now().UTC().Truncate(time.Second)
	change := func(t trust) (trust, error) {
		t = t.withKey(id, public).withSources(r.Sources)
		for _, k := range t.keys {
			if nameOf(k.id) == nameOf(id) && k.id != id && k.id != r.Replaces {
				t = t.withExpiry(k.id, now.Add(grace)).withoutExpired(k.id, now)
			}
		}
		return t, nil
	}
	if o.DryRun {
		return file, nil
	}
	_, err = c.edit(ctx, state.parameter, state.trust, change)
	return file, err
}

// Complete proves the link that an answer is for, and puts it into use on the
// sending side. An error leaves the link that was in use, and the answer can be
// imported again.
func (l *Linker) Complete(ctx context.Context, g *Global, content []byte, o Options) (*Result, error) {
	var a answer
	if err := decodeStrictly(content, &a); err != nil || a.Kind != answerKind {
		return nil, fmt.Errorf("the file is no answer (%s) of the receiving side: expected what its `s3ferry link --import ... --export` wrote", answerKind)
	}
	state, err := g.read(ctx)
	if err != nil {
		return nil, err
	}
	p, found, err := g.readPending(ctx, state.secretARN)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, fmt.Errorf("secret %s waits for no answer: export a request first", state.secretARN)
	}
	s, err := p.open(a)
	if err != nil {
		return nil, err
	}
	result := &Result{
		DryRun: o.DryRun, KeyID: s.SigningKey.ID, NewKey: true, Mailbox: s.APIURL, Imported: fingerprint(a),
		Source: BucketRef{state.source.Bucket, state.source.Region, state.who.account, state.who.partition},
		Steps: []string{
			fmt.Sprintf("prove key %s by a no-op transfer through %s", s.SigningKey.ID, s.APIURL),
			fmt.Sprintf("write link secret %s", state.secretARN),
		},
	}
	if o.DryRun {
		return result, nil
	}
	// The other side may have answered only just now.
	if err := sleep(ctx, l.Times.withDefaults().Settle); err != nil {
		return nil, err
	}
	if err := l.prove(ctx, s, state.source); err != nil {
		return nil, err
	}
	if err := g.writeSecret(ctx, state.secretARN, s); err != nil {
		return nil, err
	}
	if err := g.putSecret(ctx, state.secretARN, stagePending, []byte("{}")); err != nil {
		return result, fmt.Errorf("the link is made, but its request is still kept: %w", err)
	}
	return result, nil
}

// open returns the link secret that p and its answer make.
func (p pendingLink) open(a answer) (link.Secret, error) {
	if a.KeyID != p.Request.Key.KeyID {
		return link.Secret{}, fmt.Errorf("the answer is for key %s, and the request was for %s: import the answer to the last request", a.KeyID, p.Request.Key.KeyID)
	}
	refused := errors.New("the answer was not made for this request: send the request again, and compare the fingerprints")
	sealed, err := jose.ParseEncryptedCompact(a.Sealed, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return link.Secret{}, refused
	}
	text, err := sealed.Decrypt(p.Decrypt.Key)
	if err != nil {
		return link.Secret{}, refused
	}
	var d door
	if err := decodeStrictly(text, &d); err != nil || d.Request != fingerprint(p.Request) {
		return link.Secret{}, refused
	}
	key, ok := p.SigningKey.Key.(ed25519.PrivateKey)
	if !ok {
		return link.Secret{}, errors.New("the request that waits has no signing key: export again with --rotate")
	}
	// As strict as the functions will be.
	s := link.Secret{APIURL: d.APIURL, APIKey: secret.New(d.APIKey), SigningKey: wire.SigningKey{ID: p.SigningKey.KeyID, Key: secret.New(key)}}
	if k := d.AccessKey; k != nil {
		s.Credentials = link.Credentials{AccessKeyID: k.ID, SecretAccessKey: secret.New(k.Secret), Region: k.Region}
	}
	document, err := link.EncodeSecret(s)
	if err != nil {
		return link.Secret{}, fmt.Errorf("encode link secret: %w", err)
	}
	return link.DecodeSecret(document)
}

// readRequest reads a request strictly, and the key in it.
func readRequest(content []byte) (r request, public ed25519.PublicKey, err error) {
	if err := decodeStrictly(content, &r); err != nil || r.Kind != requestKind {
		return request{}, nil, fmt.Errorf("the file is no request (%s) of the sending side: expected what its `s3ferry link --export` wrote", requestKind)
	}
	var problems []error
	public, ok := r.Key.Key.(ed25519.PublicKey)
	if !ok || !nameForm.MatchString(nameOf(r.Key.KeyID)) {
		problems = append(problems, errors.New("key: expected an Ed25519 public JWK with a kid that `s3ferry link` made"))
	}
	if k, ok := r.EncryptTo.Key.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		problems = append(problems, errors.New("encryptTo: expected a P-256 public JWK"))
	}
	if len(r.Sources) == 0 || slices.ContainsFunc(r.Sources, func(s link.Source) bool { return s.Bucket == "" || s.Region == "" }) {
		problems = append(problems, errors.New("sources: expected buckets with their regions"))
	}
	if len(problems) > 0 {
		return request{}, nil, fmt.Errorf("read the request: %w", errors.Join(problems...))
	}
	return r, public, nil
}

// seal encrypts what the sender needs to the request's key.
func seal(r request, d door) (string, error) {
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: r.EncryptTo.Key}, nil)
	if err != nil {
		return "", fmt.Errorf("encrypt the API key: %w", err)
	}
	sealed, err := encrypter.Encrypt(marshal(d))
	if err != nil {
		return "", fmt.Errorf("encrypt the API key: %w", err)
	}
	return sealed.CompactSerialize()
}

func newFile(v any, kid string) (*File, error) {
	var b bytes.Buffer
	if err := json.Indent(&b, marshal(v), "", "  "); err != nil {
		return nil, fmt.Errorf("write the file: %w", err)
	}
	b.WriteByte('\n')
	return &File{Content: b.Bytes(), Fingerprint: fingerprint(v), KeyID: kid}, nil
}

// fingerprint is of what a file says, however it is spelt: 128 bits of SHA-256.
func fingerprint(v any) string {
	digest := sha256.Sum256(marshal(v))
	text := hex.EncodeToString(digest[:16])
	var groups []string
	for ; text != ""; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(groups, "-")
}

// decodeStrictly reads one JSON value with no member that v has not.
func decodeStrictly(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more than one value")
	}
	return nil
}
