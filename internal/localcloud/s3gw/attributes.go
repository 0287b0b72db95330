package s3gw

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
)

// maxInline is the most bytes of an attribute that stay in the file itself.
// All attributes of a file share one block of 4 KiB on ext4, and the part list
// of one multipart upload alone can exceed that.
const maxInline = 200

// spillMark begins an inline value that stands for a spilled one. No attribute
// begins with a NUL byte of its own.
const spillMark = "\x00spilled "

// attributes keeps object metadata in extended attributes, which a rename
// carries into place together with the data. Values over maxInline go to files
// named by their content, which are never changed and never removed.
type attributes struct {
	meta.XattrMeta
	dir string
}

// newAttributes returns the metadata store under dir for objects in data. Where
// data's file system has no extended attributes, metadata lies beside the data
// and a crash in the middle of a write can part the two.
func newAttributes(dir, data string) (meta.MetadataStorer, error) {
	if err := (meta.XattrMeta{}).Test(data); err != nil {
		return meta.NewSideCar(dir)
	}
	return attributes{dir: dir}, nil
}

func (a attributes) StoreAttribute(f *os.File, bucket, object, name string, value []byte) error {
	if len(value) > maxInline {
		sum, err := a.spill(value)
		if err != nil {
			return fmt.Errorf("spill attribute %q of %q: %w", name, object, err)
		}
		value = []byte(spillMark + sum)
	}
	return a.XattrMeta.StoreAttribute(f, bucket, object, name, value)
}

func (a attributes) RetrieveAttribute(f *os.File, bucket, object, name string) ([]byte, error) {
	value, err := a.XattrMeta.RetrieveAttribute(f, bucket, object, name)
	if err != nil {
		return nil, err
	}
	if sum, ok := bytes.CutPrefix(value, []byte(spillMark)); ok {
		return os.ReadFile(a.path(string(sum)))
	}
	return value, nil
}

func (a attributes) path(sum string) string { return filepath.Join(a.dir, sum[:2], sum) }

func (a attributes) spill(value []byte) (string, error) {
	digest := sha256.Sum256(value)
	sum := hex.EncodeToString(digest[:])
	path := a.path(sum)
	if _, err := os.Stat(path); err == nil {
		return sum, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return sum, writeFile(path, value)
}

// writeFile makes path hold data, whole or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
