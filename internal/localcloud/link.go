package localcloud

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// link ties the two sides together with a new signing key, as `s3ferry link`
// does with two accounts.
func (c *Cloud) link(context.Context) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("make signing key: %w", err)
	}
	digest := sha256.Sum256(public)
	id := base64.RawURLEncoding.EncodeToString(digest[:12])

	trust, err := link.EncodeTrust(link.Trust{
		Keys:    wire.PublicKeys{id: public},
		Sources: []link.Source{{Bucket: c.Source.Bucket, Region: c.Source.Region}},
	})
	if err != nil {
		return fmt.Errorf("encode trust document: %w", err)
	}
	if err := c.control.PutParameter(trustParameter, string(trust)); err != nil {
		return fmt.Errorf("write trust document: %w", err)
	}
	document, err := link.EncodeSecret(link.Secret{
		APIURL: c.API.URL, APIKey: secret.New(c.API.Key), SigningKey: wire.SigningKey{ID: id, Key: private},
	})
	if err != nil {
		return fmt.Errorf("encode link secret: %w", err)
	}
	c.control.CreateSecret(linkSecret)
	if err := c.control.PutSecret(linkSecret, string(document)); err != nil {
		return fmt.Errorf("write link secret: %w", err)
	}
	return nil
}
