package journal

import (
	"context"
	"time"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// A note says that the tags of a version have changed after it was made. Whoever
// copies that version may have been told the tags it had before.

type tagsEntry struct {
	V         int       `json:"v"`
	Bucket    string    `json:"bucket"` // destination
	Key       string    `json:"key"`
	VersionID string    `json:"versionId,omitempty"` // of the source
	ETag      string    `json:"etag"`
	At        time.Time `json:"at"`
}

// NoteTags notes that the tags of the version that source names have changed. The
// copy is, or would be, at key in bucket.
func (j *Journal) NoteTags(ctx context.Context, bucket, key string, source *wire.Source, at time.Time) error {
	name := tagsName(bucket, key, source)
	return contest(ctx, name, func() error {
		var before tagsEntry
		instead, err := j.read(ctx, name, &before)
		if err != nil {
			return err
		}
		// Written anew even if it is there: it must outlive what is under way now.
		_, err = j.write(ctx, name, instead, tagsEntry{
			V: version, Bucket: bucket, Key: key, VersionID: source.VersionID, ETag: source.ETag, At: at.UTC(),
		})
		return err
	})
}

// TagsNoted reports whether NoteTags was called for the same. An entry that names
// something else is a permanent fault.
func (j *Journal) TagsNoted(ctx context.Context, bucket, key string, source *wire.Source) (bool, error) {
	name := tagsName(bucket, key, source)
	var e tagsEntry
	etag, err := j.read(ctx, name, &e)
	if err != nil || etag == "" {
		return false, err
	}
	if e.V != version || e.Bucket != bucket || e.Key != key || e.VersionID != source.VersionID || e.ETag != source.ETag {
		return false, fault.Permanentf(ClassCorrupt, "read journal entry %q: got version %d of %q in %q, expected version %d of %q in %q",
			name, e.V, e.Key, e.Bucket, version, key, bucket)
	}
	return true, nil
}

func tagsName(bucket, key string, source *wire.Source) string {
	// Neither version IDs nor ETags have slashes in them.
	return keyName(envcfg.JournalTags, bucket, source.VersionID+"/"+source.ETag+"/"+key)
}
