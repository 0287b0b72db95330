package sqs

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxBytes is the most bytes of a message with its attributes, and of a batch.
// The service takes 1 MiB in most regions; China's limit is what is kept here.
const MaxBytes = 256 << 10

const (
	maxAttributes = 10
	maxDelay      = 15 * time.Minute
)

// Attribute is a typed message attribute. Exactly one value is set, the one
// that the data type says.
type Attribute struct {
	DataType    string  // String, Number or Binary, or one of them with ".custom" behind it
	StringValue *string `json:",omitempty"`
	BinaryValue []byte  `json:",omitempty"`
}

func (a Attribute) binary() bool { return strings.HasPrefix(a.DataType, "Binary") }

func (a Attribute) value() []byte {
	if a.binary() {
		return a.BinaryValue
	}
	if a.StringValue == nil {
		return nil
	}
	return []byte(*a.StringValue)
}

// size is what counts towards MaxBytes.
func (m Message) size() int {
	n := len(m.Body)
	for name, a := range m.Attributes {
		n += len(name) + len(a.DataType) + len(a.value())
	}
	return n
}

func (m Message) check() error {
	switch {
	case m.Body == "":
		return newError(codeMissingParameter, "The request must contain the parameter MessageBody.")
	case m.size() > MaxBytes:
		return newError(codeInvalidParameterValue, "One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", MaxBytes)
	case m.Delay != nil && (*m.Delay < 0 || *m.Delay > maxDelay):
		return newError(codeInvalidParameterValue, "Value %d for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.", int(m.Delay.Seconds()))
	case !validText(m.Body):
		return newError(codeInvalidMessageContents, "Message body contains characters outside of the allowed set.")
	case len(m.Attributes) > maxAttributes:
		return newError(codeInvalidParameterValue, "Number of message attributes [%d] exceeds the allowed maximum [%d].", len(m.Attributes), maxAttributes)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		if err := m.Attributes[name].check(name); err != nil {
			return err
		}
	}
	return nil
}

func (a Attribute) check(name string) error {
	base, _, _ := strings.Cut(a.DataType, ".")
	switch {
	case !slices.Contains([]string{"String", "Number", "Binary"}, base):
		return newError(codeInvalidParameterValue, "The type of message (user) attribute '%s' is invalid. You must use only the following supported type prefixes: Binary, Number, String.", name)
	case len(a.value()) == 0:
		return newError(codeInvalidParameterValue, "The message (user) attribute '%s' must contain a non-empty value of its type '%s'.", name, a.DataType)
	case !a.binary() && !validText(*a.StringValue):
		return newError(codeInvalidMessageContents, "Message attribute '%s' contains characters outside of the allowed set.", name)
	}
	return nil
}

// validText reports whether s has only the characters of an XML 1.0 document,
// which is what the service takes.
func validText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}

// MD5OfBody is the checksum clients compare.
func MD5OfBody(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// MD5OfAttributes is the checksum over attributes that the developer guide
// defines ("Calculating the MD5 message digest for message attributes"); ""
// without any.
func MD5OfAttributes(attributes map[string]Attribute) string {
	if len(attributes) == 0 {
		return ""
	}
	hash := md5.New()
	field := func(b []byte) {
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		hash.Write(b)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		field([]byte(name))
		field([]byte(a.DataType))
		transport := byte(1)
		if a.binary() {
			transport = 2
		}
		hash.Write([]byte{transport})
		field(a.value())
	}
	return hex.EncodeToString(hash.Sum(nil))
}
