package linking

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// keyID is the form of the key IDs made here: name, UTC date, random.
var keyID = regexp.MustCompile(`^(.+)-(\d{8})-[0-9a-f]{8}$`)

const keyDate = "20060102"

// newKey makes a signing key for the link called name.
func newKey(name string, now time.Time) (wire.SigningKey, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return wire.SigningKey{}, fmt.Errorf("make signing key: %w", err)
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	id := name + "-" + now.UTC().Format(keyDate) + "-" + hex.EncodeToString(random[:])
	return wire.SigningKey{ID: id, Key: secret.New(private)}, nil
}

// publicOf returns the public half of a key, nil of none.
func publicOf(key wire.SigningKey) ed25519.PublicKey {
	if len(key.Key.Reveal()) != ed25519.PrivateKeySize {
		return nil
	}
	public, _ := key.Key.Reveal().Public().(ed25519.PublicKey)
	return public
}

// nameOf returns the name of the link that a key is of, "" of one that was not
// made here.
func nameOf(id string) string {
	if parts := keyID.FindStringSubmatch(id); parts != nil {
		return parts[1]
	}
	return ""
}

// dayOf returns the day on which a key was made, "" of one that was not made
// here.
func dayOf(id string) string {
	parts := keyID.FindStringSubmatch(id)
	if parts == nil {
		return ""
	}
	day, err := time.Parse(keyDate, parts[2])
	if err != nil {
		return ""
	}
	return day.Format(time.DateOnly)
}
