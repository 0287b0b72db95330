package localcloud

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// keptAccessKey returns the access key in the file, which it makes first if it
// is not there: a store belongs to the key that it was made with.
func keptAccessKey(file string) (id, secretKey string, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		id, secretKey = newAccessKey()
		return id, secretKey, os.WriteFile(file, fmt.Appendln(nil, id, secretKey), 0o600)
	}
	if err != nil {
		return "", "", err
	}
	if _, err := fmt.Sscan(string(text), &id, &secretKey); err != nil {
		return "", "", fmt.Errorf("read access key in %s: %w", file, err)
	}
	return id, secretKey, nil
}

// newAccessKey returns a random access key of AWS's form.
func newAccessKey() (id, secretKey string) {
	return "AKIA" + rand.Text()[:16], (rand.Text() + rand.Text())[:40]
}

func newAPIKey() string { return (rand.Text() + rand.Text())[:40] }
