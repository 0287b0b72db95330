// Package secret holds text that must not reach a log. A value redacts itself
// in fmt, slog and JSON; only Reveal gives it back, so each use can be found.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every printed form of a String says.
const Redacted = "[redacted]"

// String is a secret text. The zero value is the empty secret.
//
// The text sits behind a pointer because fmt prints an unexported field of a
// foreign struct without asking its methods: it finds an address there.
type String struct{ text *string }

// New returns text as a secret.
func New(text string) String { return String{text: &text} }

// Reveal returns the text itself.
func (s String) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Equal reports whether both hold the same text.
func (s String) Equal(other String) bool { return s.Reveal() == other.Reveal() }

// Format implements fmt.Formatter: every verb prints Redacted.
func (s String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalText redacts the secret in JSON and other text encodings.
func (s String) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue implements slog.LogValuer.
func (s String) LogValue() slog.Value { return slog.StringValue(Redacted) }
