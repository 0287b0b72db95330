package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
)

func TestClassSurvivesWrapping(t *testing.T) {
	cause := errors.New("no such key")
	err := fmt.Errorf("pull part 3: %w", fault.After(time.Minute, fault.Permanentf("gone", "get: %w", cause)))

	if !fault.IsPermanent(err) {
		t.Error("a wrapped permanent error is not permanent any more")
	}
	if got := fault.Class(err); got != "gone" {
		t.Errorf("Class = %q, want gone", got)
	}
	if got := fault.RetryAfter(err); got != time.Minute {
		t.Errorf("RetryAfter = %v, want 1m", got)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if got, want := err.Error(), "pull part 3: get: no such key"; got != want {
		t.Errorf("Error() = %q, want %q: the class is for programs, not for the text", got, want)
	}
}

func TestTheOutermostClassWins(t *testing.T) {
	err := fault.Transient("border", fault.Permanentf("gone", "404"))
	if fault.IsPermanent(err) || fault.Class(err) != "border" {
		t.Errorf("got permanent=%v class=%q", fault.IsPermanent(err), fault.Class(err))
	}
}

func TestUnmarkedErrorsAreTransient(t *testing.T) {
	err := errors.New("surprise")
	if fault.IsPermanent(err) || fault.Class(err) != "unclassified" || fault.RetryAfter(err) != 0 {
		t.Errorf("got permanent=%v class=%q after=%v", fault.IsPermanent(err), fault.Class(err), fault.RetryAfter(err))
	}
}

func TestHold(t *testing.T) {
	err := fmt.Errorf("send: %w", fault.Hold(time.Minute, fault.Transientf("full", "later")))
	if !fault.IsHeld(err) || fault.RetryAfter(err) != time.Minute || fault.Class(err) != "full" || fault.IsPermanent(err) {
		t.Errorf("got held=%v after=%v class=%q", fault.IsHeld(err), fault.RetryAfter(err), fault.Class(err))
	}
	if fault.IsHeld(fault.After(time.Minute, errors.New("busy"))) || fault.IsHeld(nil) {
		t.Error("what only asks for a wait is not held")
	}
}

func TestNilStaysNil(t *testing.T) {
	for name, err := range map[string]error{
		"Permanent": fault.Permanent("x", nil), "Transient": fault.Transient("x", nil), "After": fault.After(1, nil), "Hold": fault.Hold(1, nil),
	} {
		if err != nil {
			t.Errorf("%s(nil) = %v", name, err)
		}
	}
}
