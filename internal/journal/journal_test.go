package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/s3ferry/s3ferry/internal/fault"
)

// bucket is an S3 with conditional writes; fail, if set, is asked before each call.
type bucket struct {
	mu      sync.Mutex
	entries map[string]string
	etags   map[string]string
	writes  int
	fail    func(op string) error
}

func newBucket() *bucket {
	return &bucket{entries: map[string]string{}, etags: map[string]string{}}
}

func answer(status int, code string) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: "fake"},
	}
}

func (b *bucket) begin(op string) error {
	if b.fail != nil {
		if err := b.fail(op); err != nil {
			return err
		}
	}
	b.mu.Lock()
	return nil
}

func (b *bucket) GetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	if err := b.begin("get"); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	entry, ok := b.entries[*in.Key]
	if !ok {
		return nil, answer(404, "NoSuchKey")
	}
	return &s3.GetObjectOutput{Body: io.NopCloser(strings.NewReader(entry)), ETag: aws.String(b.etags[*in.Key])}, nil
}

func (b *bucket) PutObject(_ context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	if err := b.begin("put"); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	_, there := b.entries[*in.Key]
	switch {
	case (in.IfNoneMatch == nil) == (in.IfMatch == nil):
		return nil, fmt.Errorf("put %s without a condition", *in.Key)
	case in.IfNoneMatch != nil && there, in.IfMatch != nil && there && *in.IfMatch != b.etags[*in.Key]:
		return nil, answer(412, "PreconditionFailed")
	case in.IfMatch != nil && !there:
		return nil, answer(404, "NoSuchKey")
	}
	data, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	b.writes++
	b.entries[*in.Key], b.etags[*in.Key] = string(data), fmt.Sprintf(`"%d"`, b.writes)
	return &s3.PutObjectOutput{ETag: aws.String(b.etags[*in.Key])}, nil
}

func (b *bucket) DeleteObject(_ context.Context, in *s3.DeleteObjectInput, _ ...func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
	if err := b.begin("delete"); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	if _, there := b.entries[*in.Key]; there && in.IfMatch != nil && *in.IfMatch != b.etags[*in.Key] {
		return nil, answer(412, "PreconditionFailed")
	}
	delete(b.entries, *in.Key)
	return &s3.DeleteObjectOutput{}, nil
}

// ListObjectsV2 lists one entry a page.
func (b *bucket) ListObjectsV2(_ context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	if err := b.begin("list"); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	out := &s3.ListObjectsV2Output{IsTruncated: aws.Bool(false)}
	for _, name := range slices.Sorted(maps.Keys(b.entries)) {
		if !strings.HasPrefix(name, *in.Prefix) || name <= aws.ToString(in.ContinuationToken) {
			continue
		}
		if len(out.Contents) == 1 {
			out.IsTruncated, out.NextContinuationToken = aws.Bool(true), out.Contents[0].Key
			break
		}
		out.Contents = append(out.Contents, types.Object{Key: &name})
	}
	return out, nil
}

func (b *bucket) set(name, entry string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	b.entries[name], b.etags[name] = entry, fmt.Sprintf(`"%d"`, b.writes)
}

const key = `dir//年报 "a\b" <&>.bin`

func testUpload(id string) Upload {
	return Upload{Transfer: "t1", Bucket: "dest", Key: key, ID: id, PartSize: 8 << 20, Algorithm: "CRC64NVME"}
}

var ignoreETag = cmpopts.IgnoreUnexported(Upload{}, Order{})

func TestClaimIsALock(t *testing.T) {
	j := New(newBucket(), "journal")
	if u, err := j.Upload(t.Context(), "t1", "dest", key); u != nil || err != nil {
		t.Fatalf("an empty journal: got %v, %v", u, err)
	}
	var mu sync.Mutex
	held := map[string]int{}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			u, err := j.Claim(t.Context(), testUpload(fmt.Sprint("u", i)), nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			held[u.ID]++
		})
	}
	wg.Wait()
	if len(held) != 1 {
		t.Errorf("20 writers hold %v, want one and the same", held)
	}
	for id := range held {
		u, err := j.Upload(t.Context(), "t1", "dest", key)
		want := testUpload(id)
		if diff := cmp.Diff(&want, u, ignoreETag); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

func TestClaimInsteadOfALostUpload(t *testing.T) {
	j := New(newBucket(), "journal")
	lost, err := j.Claim(t.Context(), testUpload("lost"), nil)
	if err != nil {
		t.Fatal(err)
	}
	first, err := j.Claim(t.Context(), testUpload("first"), lost)
	if err != nil || first.ID != "first" {
		t.Fatalf("got %+v, %v", first, err)
	}
	second, err := j.Claim(t.Context(), testUpload("second"), lost)
	if err != nil || second.ID != "first" {
		t.Errorf("another who lost the same: got %+v, %v, want first", second, err)
	}
	if err := j.Forget(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	if held, err := j.Upload(t.Context(), "t1", "dest", key); err != nil || held == nil {
		t.Errorf("an entry that another has written since was removed: %v", err)
	}
	if err := j.Forget(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	third, err := j.Claim(t.Context(), testUpload("third"), first)
	if err != nil || third.ID != "third" {
		t.Errorf("after the entry was removed: got %+v, %v, want third", third, err)
	}
	if err := j.Forget(t.Context(), first); err != nil {
		t.Errorf("no entry: %v", err)
	}
}

func TestClaimFindsItsOwnWriteWhoseAnswerWasLost(t *testing.T) {
	b := newBucket()
	j := New(b, "journal")
	if _, err := j.Claim(t.Context(), testUpload("mine"), nil); err != nil {
		t.Fatal(err)
	}
	again, err := j.Claim(t.Context(), testUpload("mine"), nil)
	if err != nil || again.ID != "mine" || b.writes != 1 {
		t.Errorf("got %+v, %v after %d writes", again, err, b.writes)
	}
}

func TestClaimGivesUpAfterManyConflicts(t *testing.T) {
	b := newBucket()
	puts := 0
	b.fail = func(op string) error {
		if op == "put" {
			puts++
			return answer(409, "ConditionalRequestConflict")
		}
		return nil
	}
	_, err := New(b, "journal").Claim(t.Context(), testUpload("u"), nil)
	if fault.Class(err) != ClassBusy || fault.IsPermanent(err) || puts != rounds {
		t.Errorf("got %v after %d writes", err, puts)
	}
}

func TestUploadRefusesEntriesOfOthers(t *testing.T) {
	b := newBucket()
	j := New(b, "journal")
	if _, err := j.Claim(t.Context(), testUpload("u"), nil); err != nil {
		t.Fatal(err)
	}
	good := b.entries[uploadName("t1", "dest", key)]
	for name, entry := range map[string]string{
		"empty":            "",
		"text":             "hello",
		"null":             "null",
		"array":            "[]",
		"cut":              good[:len(good)-1],
		"text behind":      good + "\n",
		"unknown member":   strings.Replace(good, "{", `{"x":1,`, 1),
		"member twice":     strings.Replace(good, `"v":1`, `"v":1,"v":1`, 1),
		"member missing":   strings.Replace(good, `,"algorithm":"CRC64NVME"`, "", 1),
		"version":          strings.Replace(good, `"v":1`, `"v":2`, 1),
		"other transfer":   strings.Replace(good, `"t1"`, `"t2"`, 1),
		"other bucket":     strings.Replace(good, `"dest"`, `"dest2"`, 1),
		"key with more":    strings.Replace(good, `.bin"`, `.bin2"`, 1),
		"key with less":    strings.Replace(good, `.bin"`, `"`, 1),
		"no upload":        strings.Replace(good, `"uploadId":"u"`, `"uploadId":""`, 1),
		"no part size":     strings.Replace(good, `"partSize":8388608`, `"partSize":0`, 1),
		"part size string": strings.Replace(good, `8388608`, `"8388608"`, 1),
		"no algorithm":     strings.Replace(good, `CRC64NVME`, ``, 1),
		"too long":         good + strings.Repeat(" ", maxEntry),
	} {
		b.set(uploadName("t1", "dest", key), entry)
		if u, err := j.Upload(t.Context(), "t1", "dest", key); fault.Class(err) != ClassCorrupt || !fault.IsPermanent(err) {
			t.Errorf("%s: got %+v, %v", name, u, err)
		}
	}
}

func TestUploadsAreThoseOfTheKey(t *testing.T) {
	b := newBucket()
	j := New(b, "journal")
	for i, to := range []string{key, key, key + "2", key} {
		u := testUpload(fmt.Sprint("u", i))
		u.Transfer, u.Key = fmt.Sprint("t", i), to
		if _, err := j.Claim(t.Context(), u, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := j.Uploads(t.Context(), "dest", key)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, u := range got {
		ids = append(ids, u.ID)
	}
	if want := []string{"u0", "u1", "u3"}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}

	b.set(uploadName("t1", "dest", key), "{}")
	if _, err := j.Uploads(t.Context(), "dest", key); fault.Class(err) != ClassCorrupt {
		t.Errorf("got %v for a corrupt entry", err)
	}
	b.fail = func(op string) error {
		if op == "list" {
			return answer(503, "SlowDown")
		}
		return nil
	}
	if _, err := j.Uploads(t.Context(), "dest", key); fault.Class(err) != ClassBusy || fault.IsPermanent(err) {
		t.Errorf("got %v from a busy bucket", err)
	}
}

func testOrder(sequencer string) Order {
	return Order{Bucket: "dest", Key: key, Sequencer: sequencer, SourceBucket: "src", ETag: "e" + sequencer, VersionID: "v" + sequencer}
}

func TestOrderOnlyAdvances(t *testing.T) {
	b := newBucket()
	j := New(b, "journal")
	for _, step := range []struct {
		sequencer, want string
		writes          int
	}{{"10", "10", 1}, {"0F", "10", 1}, {"10", "10", 1}, {"1000", "10", 1}, {"11", "11", 2}, {"10", "11", 2}} {
		held, err := j.Advance(t.Context(), testOrder(step.sequencer))
		if err != nil || held.Sequencer != step.want || b.writes != step.writes {
			t.Errorf("advance to %s: got %+v, %v after %d writes, want %s after %d", step.sequencer, held, err, b.writes, step.want, step.writes)
		}
		record, err := j.Order(t.Context(), "dest", key)
		if diff := cmp.Diff(held, record, ignoreETag); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	if record, err := j.Order(t.Context(), "dest2", key); record != nil || err != nil {
		t.Errorf("another bucket: got %+v, %v", record, err)
	}
}

func TestOrderAdvancesToTheNewestOfARace(t *testing.T) {
	j := New(newBucket(), "journal")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := j.Advance(t.Context(), testOrder(fmt.Sprint(10+i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if record, err := j.Order(t.Context(), "dest", key); err != nil || record.Sequencer != "13" {
		t.Errorf("got %+v, %v", record, err)
	}
}

func TestConfirmLeavesANewerRecordAlone(t *testing.T) {
	j := New(newBucket(), "journal")
	old, err := j.Advance(t.Context(), testOrder("10"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Confirm(t.Context(), old, `"first"`); err != nil {
		t.Fatal(err)
	}
	if record, err := j.Order(t.Context(), "dest", key); err != nil || record.Written != `"first"` || record.Sequencer != "10" {
		t.Errorf("got %+v, %v", record, err)
	}
	if _, err := j.Advance(t.Context(), testOrder("11")); err != nil {
		t.Fatal(err)
	}
	if err := j.Confirm(t.Context(), old, `"late"`); err != nil {
		t.Fatal(err)
	}
	if record, err := j.Order(t.Context(), "dest", key); err != nil || record.Written != "" || record.Sequencer != "11" {
		t.Errorf("got %+v, %v", record, err)
	}
}

func TestOrderOfAnotherKeyIsNoOrder(t *testing.T) {
	b := newBucket()
	j := New(b, "journal")
	if _, err := j.Advance(t.Context(), testOrder("10")); err != nil {
		t.Fatal(err)
	}
	b.set(orderName("dest", "other"), b.entries[orderName("dest", key)])
	if record, err := j.Order(t.Context(), "dest", "other"); fault.Class(err) != ClassCorrupt {
		t.Errorf("got %+v, %v", record, err)
	}
}

func TestFaultsAreClassified(t *testing.T) {
	for _, tc := range []struct {
		err       error
		class     string
		permanent bool
	}{
		{answer(403, "AccessDenied"), ClassDenied, true},
		{answer(404, "NoSuchBucket"), ClassDenied, true},
		{answer(403, "RequestTimeTooSkewed"), ClassBusy, false},
		{answer(403, "ExpiredToken"), ClassBusy, false},
		{answer(503, "SlowDown"), ClassBusy, false},
		{errors.New("connection reset"), ClassBusy, false},
	} {
		b := newBucket()
		b.fail = func(string) error { return tc.err }
		j := New(b, "journal")
		_, readErr := j.Upload(t.Context(), "t1", "dest", key)
		_, claimErr := j.Claim(t.Context(), testUpload("u"), nil)
		_, orderErr := j.Advance(t.Context(), testOrder("10"))
		for _, err := range []error{readErr, claimErr, orderErr, j.Forget(t.Context(), new(testUpload("u")))} {
			if fault.Class(err) != tc.class || fault.IsPermanent(err) != tc.permanent {
				t.Errorf("%v: got class %s, permanent %v, want %s, %v", tc.err, fault.Class(err), fault.IsPermanent(err), tc.class, tc.permanent)
			}
		}
	}
}

// FuzzUploadEntry looks for an entry that is taken for a resume though no
// journal wrote it.
func FuzzUploadEntry(f *testing.F) {
	f.Add([]byte(`{"v":1,"transfer":"t1","bucket":"dest","key":"k","uploadId":"u","partSize":1,"algorithm":"CRC32"}`))
	f.Add([]byte(`{"v":1,"V":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBucket()
		b.set(uploadName("t1", "dest", "k"), string(data))
		j := New(b, "journal")
		u, err := j.Upload(t.Context(), "t1", "dest", "k")
		if err != nil {
			if fault.Class(err) != ClassCorrupt {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if u.Transfer != "t1" || u.Bucket != "dest" || u.Key != "k" || u.ID == "" {
			t.Fatalf("%q was taken for %+v", data, u)
		}
		again := newBucket()
		if _, err := New(again, "journal").Claim(t.Context(), *u, nil); err != nil {
			t.Fatal(err)
		}
		if got := again.entries[uploadName("t1", "dest", "k")]; !bytes.Equal([]byte(got), data) {
			t.Fatalf("%q was accepted, but is written as %q", data, got)
		}
	})
}

func TestAmendWritesOnlyOverWhatItsCallerHasRead(t *testing.T) {
	b := newBucket()
	j := New(b, "journal")
	u := testUpload("u")
	u.Segments = &Segments{Parts: 3, Signing: "first", Begun: 1}
	read, err := j.Claim(t.Context(), u, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := *read, *read
	ours.Segments = &Segments{Parts: 3, Signing: "first", Begun: 1, Stop: &Stop{By: 7, Why: "failed", Class: "c", Reason: "r"}}
	theirs.Segments = &Segments{Parts: 3, Signing: "second"}
	for _, change := range []Upload{ours, theirs} {
		held, err := j.Amend(t.Context(), change)
		if diff := cmp.Diff(&ours, held, ignoreETag); err != nil || diff != "" {
			t.Errorf("%v, (-want +got):\n%s", err, diff)
		}
	}
	if held, err := j.Upload(t.Context(), "t1", "dest", key); err != nil || cmp.Diff(&ours, held, ignoreETag) != "" {
		t.Errorf("read again: got %+v, %v", held, err)
	}
	b.mu.Lock()
	clear(b.entries)
	b.mu.Unlock()
	if held, err := j.Amend(t.Context(), ours); held != nil || err != nil {
		t.Errorf("without an entry: got %+v, %v, want none", held, err)
	}
}
