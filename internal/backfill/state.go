package backfill

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/s3ferry/s3ferry/internal/listing"
)

const (
	stateVersion = 1
	// saveEvery is how much of the work may have to be done again.
	saveEvery = time.Second
)

// Shard is a part of a backfill that is done in its order: a range of a listing,
// or a file of an inventory.
type Shard struct {
	Range *listing.Range `json:"range,omitempty"`
	File  *File          `json:"file,omitempty"`

	// Cursor is how far it is done: the last key of a range, or the number of
	// rows of a file.
	Cursor string `json:"cursor"`
	Queued int64  `json:"queued"` // objects
	Done   bool   `json:"done"`
	// Unfit are objects that no event can name, and an example.
	Unfit   int64  `json:"unfit,omitempty"`
	Example string `json:"example,omitempty"`
}

// State is how far a backfill is, kept in a file. It is safe for concurrent use.
type State struct {
	path string // "": it is not kept

	mu    sync.Mutex
	saved time.Time
	doc   stateDocument
}

type stateDocument struct {
	V      int     `json:"v"`
	Job    string  `json:"job"` // what is carried, and to where
	Shards []Shard `json:"shards"`
}

// OpenState reads the state of job from the file at path. A file that is not
// there, an empty one, and an empty path, is a job not begun. A file of another job is an
// error.
func OpenState(path, job string) (*State, error) {
	s := &State{path: path, doc: stateDocument{V: stateVersion, Job: job}}
	if path == "" {
		return s, nil
	}
	data, err := os.ReadFile(path) //nolint:gosec // it is the operator's
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(data)) == 0 {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read backfill state: %w", err)
	}
	var doc stateDocument
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read backfill state in %s: %w", path, err)
	}
	if doc.V != stateVersion || doc.Job != job {
		return nil, fmt.Errorf("read backfill state in %s: got version %d of %q, expected version %d of %q: name another file",
			path, doc.V, doc.Job, stateVersion, job)
	}
	s.doc = doc
	return s, nil
}

// shards returns the parts of the work: none before it was divided.
func (s *State) shards() []Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.doc.Shards)
}

// divide sets the parts of the work.
func (s *State) divide(shards []Shard) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc.Shards = shards
	return s.save()
}

// advance notes that the i-th part is done up to cursor, and what came of more of it.
func (s *State) advance(i int, cursor string, more Totals) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	shard := &s.doc.Shards[i]
	shard.Cursor = cursor
	shard.Queued += more.Queued
	shard.Unfit += more.Unfit
	shard.Example = cmp.Or(shard.Example, more.Example)
	if time.Since(s.saved) < saveEvery {
		return nil
	}
	return s.save()
}

// finish notes that all of the i-th part is done.
func (s *State) finish(i int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc.Shards[i].Done = true
	return s.save()
}

// flush saves what advance has not.
func (s *State) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.save()
}

// save replaces the file as a whole, so that a crash leaves one of the two.
func (s *State) save() error {
	if s.path == "" {
		return nil
	}
	data, err := json.MarshalIndent(s.doc, "", " ")
	if err != nil {
		return fmt.Errorf("save backfill state: %w", err)
	}
	next := filepath.Join(filepath.Dir(s.path), "."+filepath.Base(s.path)+".next")
	if err := os.WriteFile(next, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save backfill state: %w", err)
	}
	if err := os.Rename(next, s.path); err != nil {
		return fmt.Errorf("save backfill state: %w", err)
	}
	s.saved = time.Now()
	return nil
}
