package backfill_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/backfill"
)

const schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"

// row is a line of an inventory with versions.
func row(key, latest, marker, size string) string {
	fields := []string{"b", url.QueryEscape(key), "v1", latest, marker, size, "2023-09-12T04:27:28.000Z", "etag", "STANDARD"}
	return `"` + strings.Join(fields, `","`) + `"`
}

// files is an inventory: its manifest, and data files of the rows given.
func files(change func(map[string]any), data ...[]string) map[string][]byte {
	all := map[string][]byte{}
	var listed []any
	for i, rows := range data {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, strings.Join(rows, "\n")+"\n")
		_ = w.Close()
		key := fmt.Sprintf("inv/data/%d.csv.gz", i)
		sum := md5.Sum(b.Bytes())
		all[key] = b.Bytes()
		listed = append(listed, map[string]any{"key": key, "size": b.Len(), "MD5checksum": hex.EncodeToString(sum[:])})
	}
	manifest := map[string]any{
		"sourceBucket": "b", "destinationBucket": "arn:aws:s3:::inventories", "version": "2016-11-30",
		"fileFormat": "CSV", "fileSchema": schema, "files": listed,
	}
	if change != nil {
		change(manifest)
	}
	all["manifest.json"], _ = json.Marshal(manifest)
	return all
}

func opening(all map[string][]byte) backfill.Open {
	return func(_ context.Context, key string, from int64) (io.ReadCloser, error) {
		data, ok := all[key]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return io.NopCloser(bytes.NewReader(data[from:])), nil
	}
}

// An answer that breaks off goes on where it stopped, and what it is of is known to
// be whole before any of it is queued.
func TestAnInventoryFileThatBreaksOffGoesOn(t *testing.T) {
	reset := errors.New("connection reset")
	for name, tc := range map[string]struct {
		breaks int
		spoil  bool
		want   string
	}{
		"nine times": {breaks: 9}, "ten times": {breaks: 10, want: "connection reset"}, "and goes on with others": {1, true, "as its manifest says"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(24 * 365 * 24 * time.Hour) // the bubble's clock begins before the objects
				all := files(nil, []string{row("a", "true", "false", "1"), row("b", "true", "false", "1")})
				whole, asked := opening(all), []int64(nil)
				inventory, err := backfill.OpenInventory(t.Context(), func(ctx context.Context, key string, from int64) (io.ReadCloser, error) {
					body, err := whole(ctx, key, from)
					if key == "manifest.json" || err != nil {
						return body, err
					}
					asked = append(asked, from)
					if len(asked) <= tc.breaks {
						return io.NopCloser(io.MultiReader(io.LimitReader(body, 3), iotest.ErrReader(reset))), nil
					}
					if tc.spoil {
						return io.NopCloser(strings.NewReader("others")), nil
					}
					return body, nil
				}, "manifest.json", "b")
				if err != nil {
					t.Fatal(err)
				}
				to := &sink{}
				totals, err := backfill.Run(t.Context(), inventory, backfill.Options{Region: "r", Bucket: "b", Outbox: to, State: openState(t, "")})
				if tc.want == "" && (err != nil || totals.Queued != 2) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || len(to.sources) > 0) {
					t.Errorf("got %+v, %v and %d events, want %q", totals, err, len(to.sources), tc.want)
				}
				for i, from := range asked {
					if from != int64(3*i) {
						t.Errorf("opened at %d, want each where the last one ended", asked)
					}
				}
			})
		})
	}
}

func TestInventory(t *testing.T) {
	inventory, err := backfill.OpenInventory(t.Context(), opening(files(nil,
		[]string{row("a b+c/1", "true", "false", "3"), row("a b+c/2", "false", "false", "3"), row("a b+c/3", "true", "true", "")},
		[]string{row("报告", "true", "false", "4"), row("a b+c/4", "true", "false", "0")},
	)), "manifest.json", "b")
	if err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{"": {"a b+c/1", "a b+c/4", "报告"}, "a b+c/": {"a b+c/1", "a b+c/4"}, "x": nil} {
		inventory.Prefix = prefix
		to := &sink{}
		totals, err := backfill.Run(t.Context(), inventory, backfill.Options{Region: "us-east-1", Bucket: "b", Outbox: to, State: openState(t, "")})
		if err != nil || int(totals.Queued) != len(want) {
			t.Errorf("%q: %+v and %v", prefix, totals, err)
		}
		if diff := cmp.Diff(want, to.keys()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", prefix, diff)
		}
		for _, source := range to.sources {
			if source.Sequencer != "0000000064FFE8B0" || source.ETag != "etag" || source.VersionID != "" {
				t.Errorf("got %+v", source)
			}
		}
	}
}

func TestInventoryGoesOnFromItsState(t *testing.T) {
	var rows, want []string
	for i := range 2500 {
		key := fmt.Sprintf("%04d", i)
		rows, want = append(rows, row(key, "true", "false", "1")), append(want, key)
	}
	all := files(nil, rows)
	path := filepath.Join(t.TempDir(), "state")
	open := func() *backfill.Inventory {
		inventory, err := backfill.OpenInventory(t.Context(), opening(all), "manifest.json", "b")
		if err != nil {
			t.Fatal(err)
		}
		return inventory
	}
	first, second := &sink{fails: 1500}, &sink{}
	o := backfill.Options{Region: "r", Bucket: "b", Outbox: first, State: openState(t, path)}
	if _, err := backfill.Run(t.Context(), open(), o); err == nil {
		t.Fatal("the first run did not fail, so this shows nothing")
	}
	o.Outbox, o.State = second, openState(t, path)
	if _, err := backfill.Run(t.Context(), open(), o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[1000:], second.keys()); diff != "" {
		t.Errorf("the second run (-want +got):\n%s", diff)
	}
}

func TestBrokenInventories(t *testing.T) {
	good := []string{row("a", "true", "false", "1")}
	for name, tc := range map[string]struct {
		all  map[string][]byte
		want string
	}{
		"of another bucket": {files(func(m map[string]any) { m["sourceBucket"] = "c" }, good), `sourceBucket: got "c", expected the source bucket "b"`},
		"ORC":               {files(func(m map[string]any) { m["fileFormat"] = "ORC" }, good), `fileFormat: got "ORC", expected CSV`},
		"too few fields":    {files(func(m map[string]any) { m["fileSchema"] = "Bucket, Key" }, good), "expected ETag in it"},
		"no versions' state": {files(func(m map[string]any) { m["fileSchema"] = strings.Replace(schema, " IsLatest,", "", 1) }, good),
			"expected IsLatest in it"},
		"no files":       {files(nil), "has no files"},
		"no manifest":    {map[string][]byte{}, "open inventory manifest manifest.json"},
		"no JSON":        {map[string][]byte{"manifest.json": []byte("{")}, "read inventory manifest manifest.json"},
		"a file missing": {files(func(m map[string]any) { m["files"] = []any{map[string]any{"key": "gone"}} }), "open inventory file gone"},
		"a bent file":    {files(func(m map[string]any) { m["files"].([]any)[0].(map[string]any)["MD5checksum"] = "00" }, good), "expected 00 as its manifest says"},
		"a short row":    {files(nil, []string{`"b","a"`}), "row 1: got 2 fields, expected 9"},
		"no size":        {files(nil, []string{row("a", "true", "false", "big")}), "row 1: Size"},
		"no key":         {files(nil, []string{strings.Replace(row("a", "true", "false", "1"), `"a"`, `"%zz"`, 1)}), "row 1: Key"},
		"not compressed": {func() map[string][]byte { f := files(nil, good); f["inv/data/0.csv.gz"] = []byte("b,a"); return f }(), "read inventory file"},
	} {
		t.Run(name, func(t *testing.T) {
			inventory, err := backfill.OpenInventory(t.Context(), opening(tc.all), "manifest.json", "b")
			if err == nil {
				_, err = backfill.Run(t.Context(), inventory, backfill.Options{Region: "r", Bucket: "b", Outbox: &sink{}, State: openState(t, "")})
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}
