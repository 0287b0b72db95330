package journal

import (
	"context"
	"time"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Newest is the newest event of a destination key that has set out to overwrite
// or delete the object there. Of a deletion it is the tombstone: what keeps a
// late older object away, since an absent object tells nothing.
type Newest struct {
	Bucket string // destination
	Key    string
	Op     wire.Op
	Source wire.Source // of the event
	At     time.Time   // when it was announced

	etag string // of the entry this was read from
}

type newestEntry struct {
	V      int         `json:"v"`
	Bucket string      `json:"bucket"`
	Key    string      `json:"key"`
	Op     wire.Op     `json:"op"`
	Source wire.Source `json:"source"`
	At     time.Time   `json:"at"`
}

// Newest returns the newest event announced for key in bucket, or nil if there is
// none. An entry that names another key is a permanent fault.
func (j *Journal) Newest(ctx context.Context, bucket, key string) (*Newest, error) {
	name := newestName(bucket, key)
	var e newestEntry
	etag, err := j.read(ctx, name, &e)
	if err != nil || etag == "" {
		return nil, err
	}
	if e.V != version || e.Bucket != bucket || e.Key != key || e.Source.Sequencer == "" {
		return nil, fault.Permanentf(ClassCorrupt, "read journal entry %q: got version %d of %q in %q, expected version %d of %q in %q",
			name, e.V, e.Key, e.Bucket, version, key, bucket)
	}
	return &Newest{Bucket: e.Bucket, Key: e.Key, Op: e.Op, Source: e.Source, At: e.At, etag: etag}, nil
}

// Announce makes n the newest event of its key unless it is there or a newer one
// is, and returns the event that then is the newest. It is called before the
// object is changed: whoever then finds a newer event in place of its own knows
// that its change may have come on top of that event's.
func (j *Journal) Announce(ctx context.Context, n Newest) (*Newest, error) {
	name := newestName(n.Bucket, n.Key)
	var held *Newest
	err := contest(ctx, name, func() error {
		prior, err := j.Newest(ctx, n.Bucket, n.Key)
		if err != nil {
			return err
		}
		if prior != nil && wire.CompareSequencers(prior.Source.Sequencer, n.Source.Sequencer) >= 0 {
			held = prior
			return nil
		}
		var instead string
		if prior != nil {
			instead = prior.etag
		}
		n.etag, err = j.write(ctx, name, instead, newestEntry{
			V: version, Bucket: n.Bucket, Key: n.Key, Op: n.Op, Source: n.Source, At: n.At,
		})
		held = &n
		return err
	})
	return held, err
}

func newestName(bucket, key string) string { return keyName(envcfg.JournalNewest, bucket, key) }
