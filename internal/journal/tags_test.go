package journal

import (
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

func TestTagsAreNotedOfOneVersion(t *testing.T) {
	b := newBucket()
	j := New(b, "journal")
	version := wire.Source{Bucket: "source", Key: "k", VersionID: "v1", ETag: "e1"}
	noted := func(bucket, key string, s wire.Source) bool {
		t.Helper()
		noted, err := j.TagsNoted(t.Context(), bucket, key, &s)
		if err != nil {
			t.Fatal(err)
		}
		return noted
	}
	if noted("dest", "k", version) {
		t.Error("tags are noted from the start")
	}
	for range 2 { // so that it outlasts whatever is under way now
		before := b.writes
		if err := j.NoteTags(t.Context(), "dest", "k", &version, time.Now()); err != nil || b.writes != before+1 {
			t.Fatalf("note: %v after %d writes", err, b.writes-before)
		}
	}
	others := []wire.Source{version, version}
	others[0].VersionID, others[1].ETag = "v2", "e2"
	if !noted("dest", "k", version) || noted("dest", "l", version) || noted("other", "k", version) || noted("dest", "k", others[0]) || noted("dest", "k", others[1]) {
		t.Error("the note is not of just that version of that key")
	}

	b.fail = func(string) error { return answer(503, "SlowDown") }
	if _, err := j.TagsNoted(t.Context(), "dest", "k", &version); err == nil || fault.IsPermanent(err) {
		t.Errorf("got %v, want a failure that may pass", err)
	}
	if err := j.NoteTags(t.Context(), "dest", "k", &version, time.Now()); err == nil || fault.IsPermanent(err) {
		t.Errorf("got %v, want a failure that may pass", err)
	}
	b.fail = nil
	for name := range b.entries {
		b.entries[name] = `{"v":1,"bucket":"dest","key":"k","versionId":"v9","etag":"e1","at":"2026-11-29T00:00:00Z"}`
	}
	if _, err := j.TagsNoted(t.Context(), "dest", "k", &version); fault.Class(err) != ClassCorrupt {
		t.Errorf("another version's entry: got %v, want class %s", err, ClassCorrupt)
	}
}
