package transfer

import (
	"cmp"
	"strings"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

const classKey = "key-mapping" // permanent: a source key that has no place at the destination

// Mapping says where an object goes and how it is stored there. The zero value
// keeps key and storage class.
type Mapping struct {
	// StripPrefix is taken off the source's key, which must begin with it. Then
	// AddPrefix is put before the rest, with the source's bucket and region in
	// place of {bucket} and {region}.
	StripPrefix, AddPrefix string
	// StorageClasses gives the destination's storage class for the source's, or
	// under AnyClass for all that are not there. Others stay what they are.
	StorageClasses map[string]string
}

// AnyClass stands for every storage class that Mapping.StorageClasses does not
// name.
const AnyClass = "*"

// key returns the destination's key for s. A key that is outside of StripPrefix,
// or that would be empty or too long, is a permanent fault.
func (m *Mapping) key(s wire.Source) (string, error) {
	rest, ok := strings.CutPrefix(s.Key, m.StripPrefix)
	if !ok {
		return "", fault.Permanentf(classKey, "map key: got %q, expected it to begin with %q, which the receiver takes off", s.Key, m.StripPrefix)
	}
	key := strings.NewReplacer("{bucket}", s.Bucket, "{region}", s.Region).Replace(m.AddPrefix) + rest
	if key == "" || len(key) > wire.MaxKey {
		return "", fault.Permanentf(classKey, "map key %q: got one of %d bytes for the destination, expected 1 to %d", s.Key, len(key), wire.MaxKey)
	}
	return key, nil
}

// storageClass returns the destination's storage class for the source's, whose
// empty one is STANDARD.
func (m *Mapping) storageClass(class string) string {
	if to, ok := m.StorageClasses[cmp.Or(class, "STANDARD")]; ok {
		return to
	}
	return cmp.Or(m.StorageClasses[AnyClass], class)
}
