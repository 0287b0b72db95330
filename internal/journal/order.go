package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Order is the place of an object in the order of its key's events, kept here
// where the object's own metadata has no room for it.
type Order struct {
	Bucket       string // destination
	Key          string
	Sequencer    string
	SourceBucket string
	ETag         string // of the source
	VersionID    string // of the source
	// Written is the ETag the destination gave to the object; empty until it
	// has been written.
	Written string

	etag string // of the entry this was read from
}

type orderEntry struct {
	V            int    `json:"v"`
	Bucket       string `json:"bucket"`
	Key          string `json:"key"`
	Sequencer    string `json:"sequencer"`
	SourceBucket string `json:"sourceBucket"`
	ETag         string `json:"etag"`
	VersionID    string `json:"versionId"`
	Written      string `json:"written"`
}

// Order returns the order record of key in bucket, or nil if there is none. A
// record that names another key is a permanent fault.
func (j *Journal) Order(ctx context.Context, bucket, key string) (*Order, error) {
	name := orderName(bucket, key)
	var e orderEntry
	etag, err := j.read(ctx, name, &e)
	if err != nil || etag == "" {
		return nil, err
	}
	if e.V != version || e.Bucket != bucket || e.Key != key || e.Sequencer == "" {
		return nil, fault.Permanentf(ClassCorrupt, "read journal entry %q: got version %d of %q in %q, expected version %d of %q in %q",
			name, e.V, e.Key, e.Bucket, version, key, bucket)
	}
	return &Order{
		Bucket: e.Bucket, Key: e.Key, Sequencer: e.Sequencer,
		SourceBucket: e.SourceBucket, ETag: e.ETag, VersionID: e.VersionID, Written: e.Written, etag: etag,
	}, nil
}

// Advance makes o the order record of its key unless a newer one is there, and
// returns the record that is then there. It is called before the object is
// written: a crash in between leaves a record that no object bears out, which
// its own transfer repairs when it is delivered again.
func (j *Journal) Advance(ctx context.Context, o Order) (*Order, error) {
	name := orderName(o.Bucket, o.Key)
	var held *Order
	err := contest(ctx, name, func() error {
		prior, err := j.Order(ctx, o.Bucket, o.Key)
		if err != nil {
			return err
		}
		if prior != nil && wire.CompareSequencers(prior.Sequencer, o.Sequencer) >= 0 {
			held = prior
			return nil
		}
		o.etag = ""
		if prior != nil {
			o.etag = prior.etag
		}
		held, err = j.writeOrder(ctx, name, o)
		return err
	})
	return held, err
}

// Confirm notes that the object of record o, as Advance returned it, is at the
// destination under the ETag written. A record that has moved on is left alone.
func (j *Journal) Confirm(ctx context.Context, o *Order, written string) error {
	name := orderName(o.Bucket, o.Key)
	done := *o
	done.Written = written
	_, err := j.writeOrder(ctx, name, done)
	if errors.Is(err, errLost) {
		return nil
	}
	return err
}

func (j *Journal) writeOrder(ctx context.Context, name string, o Order) (*Order, error) {
	etag, err := j.write(ctx, name, o.etag, orderEntry{
		V: version, Bucket: o.Bucket, Key: o.Key, Sequencer: o.Sequencer,
		SourceBucket: o.SourceBucket, ETag: o.ETag, VersionID: o.VersionID, Written: o.Written,
	})
	if err != nil {
		return nil, err
	}
	o.etag = etag
	return &o, nil
}

func orderName(bucket, key string) string { return keyName("order/", bucket, key) }

func keyName(prefix, bucket, key string) string { return prefix + keyHash(bucket, key) + ".json" }

// keyHash stands for bucket and key in names, since a key of 1,024 bytes has no room
// for a prefix. The entry holds both, so a collision is found.
func keyHash(bucket, key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s", bucket, key))
	return hex.EncodeToString(sum[:])
}
