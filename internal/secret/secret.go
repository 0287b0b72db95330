// Package secret holds what must not reach a log: texts, keys, credentials. A
// value redacts itself in fmt, slog and JSON; only Reveal gives it back, so each
// use can be found.
package secret

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
)

// Redacted is what every printed form of a Value says.
const Redacted = "[redacted]"

// Value is a secret T. The zero value holds the zero T.
//
// The T sits behind two pointers because fmt prints an unexported field of a
// foreign struct without asking its methods: it finds an address there. Behind
// one, it would show a slice or a struct.
type Value[T any] struct{ held **T }

// String is a secret text. The zero value is the empty secret.
type String = Value[string]

// New returns v as a secret.
func New[T any](v T) Value[T] {
	held := &v
	return Value[T]{held: &held}
}

// Reveal returns the secret itself.
func (s Value[T]) Reveal() T {
	if s.held == nil {
		var zero T
		return zero
	}
	return **s.held
}

// Equal reports whether both hold the same.
func (s Value[T]) Equal(other Value[T]) bool { return reflect.DeepEqual(s.Reveal(), other.Reveal()) }

// Format implements fmt.Formatter: every verb prints Redacted.
func (s Value[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalText redacts the secret in JSON and other text encodings.
func (s Value[T]) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue implements slog.LogValuer.
func (s Value[T]) LogValue() slog.Value { return slog.StringValue(Redacted) }
