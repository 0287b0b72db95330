package demo

import (
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path"
	"path/filepath"
)

// Object is one object to carry.
type Object struct {
	Kind string // of the table's row
	Key  string
	Size int64

	ContentType, CacheControl, ContentDisposition, ContentEncoding, ContentLanguage string

	Metadata, Tags map[string]string

	// Overwrites is the object that is put first under the same key and is on
	// its way when this one is put.
	Overwrites *Object
	// Deleted has the object deleted as soon as it has arrived.
	Deleted bool

	open func() (io.ReadSeekCloser, error)
}

// names are what keys are made of: what breaks tools that build URLs, JSON or
// paths by hand.
var names = []string{
	"plain", "报告-年度", "with space", "a+b", "100%", "50%25", `quote"d`, "it's", "🚢 ferry", "Ünïcödé",
	"semi;colon", "a&b=c", "hash#tag", "what?", "back\\slash", "{json}", "$dollar", "comma,", "ends.", "日本語/フォルダ",
}

// deletions are how many objects of a Workload are deleted again.
const deletions = 5

// Workload is objects small objects of size bytes with every kind of key, header,
// metadata and tag; an empty one; one of large bytes; one that is overwritten
// while it is on its way; and some that are deleted once they have arrived.
func Workload(objects int, size, large int64) []Object {
	// Larger than a part, so that it can be seen on its way; first, since it takes
	// the longest.
	before := made("overwritten", "demo/overwritten in flight.bin", 1, 24<<20)
	after := made("overwritten", before.Key, 2, 20<<20)
	after.Metadata = map[string]string{"edition": "second"}
	after.Overwrites = &before

	all := []Object{after}
	for i := range deletions {
		o := made("deleted", fmt.Sprintf("demo/%s to delete %d", names[i%len(names)], i), int64(i), size)
		o.Deleted = true
		all = append(all, o)
	}
	for i := range objects {
		o := made("small", fmt.Sprintf("demo/%03d/%s %d.txt", i%7, names[i%len(names)], i), int64(i), size)
		o.ContentType = "text/plain; charset=utf-8"
		if i%2 == 0 {
			o.Metadata = map[string]string{"number": fmt.Sprint(i), "author": mime.BEncoding.Encode("utf-8", "李雷")}
			o.CacheControl, o.ContentLanguage = "max-age=60", "zh-CN"
		}
		if i%3 == 0 {
			o.Tags = map[string]string{"team": "east asia", "cost+center": fmt.Sprint(i)}
			o.ContentDisposition = `attachment; filename="report.txt"`
		}
		if i%5 == 0 {
			o.ContentEncoding = "identity"
		}
		all = append(all, o)
	}
	all = append(all, made("empty", "demo/empty.bin", 0, 0))

	if large > 0 {
		o := made("large", "demo/large.bin", 3, large)
		o.Metadata = map[string]string{"size": fmt.Sprint(large)}
		all = append(all, o)
	}
	return all
}

func made(kind, key string, seed, size int64) Object {
	return Object{
		Kind: kind, Key: key, Size: size, ContentType: "application/octet-stream",
		open: func() (io.ReadSeekCloser, error) { return nopCloser{Pattern(seed, size)}, nil },
	}
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// Directory is the regular files under dir, by their paths in it.
func Directory(dir string) ([]Object, error) {
	var all []Object
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(relative)
		all = append(all, Object{
			Kind: "file", Key: key, Size: info.Size(), ContentType: mime.TypeByExtension(path.Ext(key)),
			open: func() (io.ReadSeekCloser, error) { return os.Open(name) }, //nolint:gosec // the user named the directory
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list files of %s: %w", dir, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("list files of %s: got none, expected at least one regular file", dir)
	}
	return all, nil
}
