package s3gw

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The file holds a bound that a run with a fast clock, or with one set back
// since, has left behind.
func TestSequencerNeverGoesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sequencer")
	ahead := fmt.Sprintf("%016X", time.Now().Add(24*time.Hour).UnixNano())
	if err := os.WriteFile(path, []byte(ahead), 0o644); err != nil {
		t.Fatal(err)
	}
	last := ahead
	for range 3 {
		s, err := openSequencer(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			value, _, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			if value <= last {
				t.Fatalf("%s after %s", value, last)
			}
			last = value
		}
	}
}

func TestSequencerReportsADamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sequencer")
	if err := os.WriteFile(path, []byte("not hex"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openSequencer(path); err == nil {
		t.Error("it was taken")
	}
}
