// Package fault says of an error whether trying again can help.
//
// Waiting must not look like failing, so every failure is classified where it
// is born and nowhere else: the queues' consumers only read the class.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Permanent marks err as one that no retry can mend: the message is malformed,
// unsigned, over a limit, or access was denied. class is a short, stable,
// kebab-case name for metrics and dead-letter attributes ("bad-signature").
// It returns nil if err is nil.
func Permanent(class string, err error) error {
	if err == nil {
		return nil
	}
	return &classified{class: class, permanent: true, err: err}
}

// Permanentf is Permanent of a formatted error; %w wraps as in fmt.Errorf.
func Permanentf(class, format string, args ...any) error {
	return Permanent(class, fmt.Errorf(format, args...))
}

// Recalled is a permanent failure that was written down as its class and text.
func Recalled(class, text string) error {
	return &classified{class: class, permanent: true, err: errors.New(text)}
}

// Transient marks err as one that time mends: a border down, a throttle, a
// destination that is busy. It returns nil if err is nil.
func Transient(class string, err error) error {
	if err == nil {
		return nil
	}
	return &classified{class: class, err: err}
}

// Transientf is Transient of a formatted error; %w wraps as in fmt.Errorf.
func Transientf(class, format string, args ...any) error {
	return Transient(class, fmt.Errorf(format, args...))
}

// After is err with a shortest time to wait before the next try, as a
// Retry-After header gives. The class of err is kept.
func After(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &delayed{after: d, err: err}
}

// Hold is After for what is only put off: the waits between its tries do not grow
// as they do after failures.
func Hold(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &delayed{after: d, held: true, err: err}
}

// IsPermanent reports whether err, or an error it wraps, was marked Permanent.
// An unmarked error is transient: the queue's receive count bounds it.
func IsPermanent(err error) bool {
	c, ok := errors.AsType[*classified](err)
	return ok && c.permanent
}

// Class returns the class given to err, or "unclassified".
func Class(err error) string {
	if c, ok := errors.AsType[*classified](err); ok {
		return c.class
	}
	return "unclassified"
}

// IsHeld reports whether err, or an error it wraps, was given to Hold.
func IsHeld(err error) bool {
	d, ok := errors.AsType[*delayed](err)
	return ok && d.held
}

// RetryAfter returns the wait that After or Hold gave, or 0.
func RetryAfter(err error) time.Duration {
	if d, ok := errors.AsType[*delayed](err); ok {
		return d.after
	}
	return 0
}

type classified struct {
	class     string
	permanent bool
	err       error
}

func (c *classified) Error() string { return c.err.Error() }
func (c *classified) Unwrap() error { return c.err }

type delayed struct {
	after time.Duration
	held  bool
	err   error
}

func (d *delayed) Error() string { return d.err.Error() }
func (d *delayed) Unwrap() error { return d.err }
