package transfer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

func withTagChanges(o *transfer.Options) { o.TagChanges = true }

// retagging is the event by which the source's object got other tags.
func (f *ferry) retagging(changes ...func(*wire.Transfer)) *wire.Transfer {
	return f.transfer(append([]func(*wire.Transfer){func(t *wire.Transfer) {
		t.Op, t.Object = wire.OpTag, wire.Object{}
		t.Source.Size, t.Source.Sequencer, t.Source.EventTime = 0, "", time.Unix(2e9, 0).UTC()
		t.URL = secret.New(t.URL.Reveal() + "&tagging=")
	}}, changes...)...)
}

// tag expects t to end with the outcome.
func (f *ferry) tag(t *wire.Transfer, redelivered bool, want wire.Outcome) transfer.Result {
	f.Helper()
	r, err := f.engine.Tag(f.Context(), t, redelivered)
	if err != nil || r.Outcome != want {
		f.Fatalf("got %+v, %v, want %s", r, err, want)
	}
	return r
}

// tags answers requests for the source's tags, the next of them each time and the
// last for ever.
func (f *ferry) tags(states ...string) {
	f.src.misbehave = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("tagging") {
			return false
		}
		if r.Header.Get("If-Match") != "" || r.Header.Get("Range") != "" {
			f.Errorf("tags asked for with %v", r.Header)
		}
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet>%s</TagSet></Tagging>`, states[0])
		states = states[min(1, len(states)-1):]
		return true
	}
}

func tagXML(key, value string) string {
	return "<Tag><Key>" + key + "</Key><Value>" + value + "</Value></Tag>"
}

func (f *ferry) hasTags(want map[string]string) {
	f.Helper()
	if diff := cmp.Diff(want, f.dst.tagsOf(bucket+"/"+testKey)); diff != "" {
		f.Errorf("tags of the copy (-want +got):\n%s", diff)
	}
}

func TestTag(t *testing.T) {
	for _, size := range []int{10, 3500} {
		f := newFerry(t, size, withTagChanges)
		f.put(f.transfer(), false, wire.Copied)
		f.hasTags(map[string]string{"team": "east & west", "年": "=1"})

		f.tags(tagXML("team", "&lt;south&gt; ") + tagXML("b", ""))
		f.dst.requests()
		r := f.tag(f.retagging(), false, wire.Tagged)
		f.hasTags(map[string]string{"team": "<south> ", "b": ""})
		if r.Retag != nil || r.Again != nil {
			t.Errorf("got %+v, want nothing to be asked for", r)
		}
		f.asked("journalGet", "journalPut", "Head", "PutTags", "Head")

		f.tags("")
		f.tag(f.retagging(), true, wire.Tagged)
		f.hasTags(map[string]string{})
		f.arrived()
	}
}

// Tags that change while they are carried are carried as they end.
func TestTagsThatChangeOnTheWay(t *testing.T) {
	f := newFerry(t, 10, withTagChanges)
	f.put(f.transfer(), false, wire.Copied)
	f.tags(tagXML("n", "1"), tagXML("n", "2"), tagXML("n", "3"))
	f.tag(f.retagging(), false, wire.Tagged)
	f.hasTags(map[string]string{"n": "3"})
	if n := count(f.dst.requests(), "PutTags"); n != 3 {
		t.Errorf("tags were set %d times, want 3", n)
	}
}

// A change of tags that overtakes its object is not lost: the object has been told
// of the tags before, so whoever brings it asks for them again.
func TestTagsThatComeBeforeTheirObject(t *testing.T) {
	for _, size := range []int{10, 3500} {
		f := newFerry(t, size, withTagChanges)
		f.tags(tagXML("n", "1"))
		if r := f.tag(f.retagging(), false, wire.Skipped); r.Retag != nil {
			t.Errorf("got %+v without an object", r)
		}
		for _, again := range []struct {
			redelivered bool
			want        wire.Outcome
		}{{false, wire.Copied}, {true, wire.Skipped}} {
			r := f.put(f.transfer(), again.redelivered, again.want)
			want := f.retagging().Source
			if r.Retag == nil || r.Retag.ETag != want.ETag || r.Retag.VersionID != want.VersionID || r.Retag.Sequencer != "" || r.Retag.Validate(wire.OpTag) != nil {
				t.Fatalf("%s: got %+v to ask for, want the tags of %+v", again.want, r.Retag, want)
			}
		}
		f.tag(f.retagging(), false, wire.Tagged)
		f.hasTags(map[string]string{"n": "1"})

		// Of other versions nothing was noted.
		if r := f.put(f.transfer(withSequencer("11"), withVersion("v2")), false, wire.Copied); r.Retag != nil {
			t.Errorf("got %+v to ask for, of a version whose tags did not change", r.Retag)
		}
	}
}

// In a bucket that keeps one version, the copy may be replaced between the look and
// the tags. They are then on another version, whose own are asked for.
func TestTagsOnTopOfAnotherVersion(t *testing.T) {
	for _, killed := range []bool{false, true} {
		f := newFerry(t, 10, withTagChanges)
		f.put(f.transfer(), false, wire.Copied)
		f.tags(tagXML("n", "1"))
		f.dst.hook(func(op string, w http.ResponseWriter, _ *http.Request) bool {
			if op != "PutTags" {
				return false
			}
			f.dst.hook(nil)
			f.put(f.transfer(withSequencer("11"), withVersion("v2")), false, wire.Copied)
			if !killed {
				return false
			}
			f.dst.setTags(bucket+"/"+testKey, map[string]string{"n": "1"})
			f.dst.hook(func(string, http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }) // nobody hears of it
			panic(http.ErrAbortHandler)
		})
		var r transfer.Result
		if killed {
			quick := f.newEngine(withTagChanges, func(o *transfer.Options) { o.MaxBackoff = time.Millisecond })
			if _, err := quick.Tag(t.Context(), f.retagging(), false); err == nil || fault.IsPermanent(err) {
				t.Fatalf("got %v, want a failure that may pass", err)
			}
			f.dst.hook(nil)
			r = f.tag(f.retagging(), true, wire.Skipped)
		} else {
			r = f.tag(f.retagging(), false, wire.Skipped)
		}
		if r.Retag == nil || r.Retag.VersionID != "v2" || r.Retag.ETag != f.src.etag || r.Retag.Validate(wire.OpTag) != nil {
			t.Errorf("killed %v: got %+v to ask for, want the tags of v2", killed, r.Retag)
		}
	}
}

func TestTagsThatCannotBePulled(t *testing.T) {
	for name, tc := range map[string]struct {
		status  int
		body    string
		outcome wire.Outcome
		class   string
	}{
		"gone":           {404, `<Error><Code>NoSuchVersion</Code></Error>`, wire.Gone, ""},
		"expired":        {403, `<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`, wire.Expired, ""},
		"denied":         {403, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`, "", "source-denied"},
		"something else": {200, `<html>sign in</html>`, "", "source-mismatch"},
		"half a list":    {200, `<Tagging><TagSet><Tag><Key>a</Key>`, "", "source-mismatch"},
		"busy":           {503, `<Error><Code>SlowDown</Code></Error>`, "", "border"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFerry(t, 10, withTagChanges)
			f.put(f.transfer(), false, wire.Copied)
			f.src.misbehave = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
				return true
			}
			r, err := f.engine.Tag(t.Context(), f.retagging(), false)
			if r.Outcome != tc.outcome || (tc.outcome != "") != (err == nil) || err != nil && fault.Class(err) != tc.class {
				t.Errorf("got %q and %v, want %q and class %q", r.Outcome, err, tc.outcome, tc.class)
			}
			if err != nil && strings.Contains(err.Error(), "topsecret") {
				t.Errorf("the error quotes the URL: %v", err)
			}
			f.hasTags(map[string]string{"team": "east & west", "年": "=1"})
		})
	}
}

// What did not come by ferry, or of another version, keeps its tags.
func TestTagsOfSomethingElse(t *testing.T) {
	f := newFerry(t, 10, withTagChanges)
	f.put(f.transfer(withVersion("v2")), false, wire.Copied)
	f.tags(tagXML("n", "1"))
	if r := f.tag(f.retagging(), false, wire.Skipped); r.Retag != nil {
		t.Errorf("got %+v, though nothing was set", r)
	}
	f.hasTags(map[string]string{"team": "east & west", "年": "=1"})
}
