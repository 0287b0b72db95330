package backfill

import (
	"compress/gzip"
	"context"
	"crypto/md5" //nolint:gosec // what an inventory has
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/s3ferry/s3ferry/internal/listing"
)

const (
	// maxManifest is far above the files of an inventory of 10,000,000,000 objects.
	maxManifest = 64 << 20
	pageRows    = 1000
	// fetchTries is how often the reading of a data file may break off.
	fetchTries = 10
)

// The columns that are read; the last three only of an inventory with versions.
const (
	columnKey      = "Key"
	columnSize     = "Size"
	columnModified = "LastModifiedDate"
	columnETag     = "ETag"
	columnVersion  = "VersionId"
	columnLatest   = "IsLatest"
	columnMarker   = "IsDeleteMarker"
)

// File is a data file of an inventory.
type File struct {
	Key string `json:"key"`
	MD5 string `json:"MD5checksum"`
}

// Inventory knows the objects from an S3 Inventory in CSV: the current versions
// as they were when it was made. What has changed since is not carried, since
// its ETag is another: an event has told of that, or a later backfill will.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
type Inventory struct {
	Prefix string // only keys that begin with it

	open    Open
	files   []File
	columns map[string]int
}

// Open opens a file of an inventory by its key, at a byte of it.
type Open func(ctx context.Context, key string, from int64) (io.ReadCloser, error)

var _ From = (*Inventory)(nil)

// OpenInventory reads the manifest under the key given, of an inventory of
// bucket.
func OpenInventory(ctx context.Context, open Open, manifest, bucket string) (*Inventory, error) {
	body, err := open(ctx, manifest, 0)
	if err != nil {
		return nil, fmt.Errorf("open inventory manifest %s: %w", manifest, err)
	}
	defer func() { _ = body.Close() }() // it was only read
	var m struct {
		SourceBucket string `json:"sourceBucket"`
		FileFormat   string `json:"fileFormat"`
		FileSchema   string `json:"fileSchema"`
		Files        []File `json:"files"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxManifest)).Decode(&m); err != nil {
		return nil, fmt.Errorf("read inventory manifest %s: %w", manifest, err)
	}
	inventory := &Inventory{open: open, files: m.Files, columns: map[string]int{}}
	for i, name := range strings.Split(m.FileSchema, ",") {
		inventory.columns[strings.TrimSpace(name)] = i
	}
	var problems []error
	if m.SourceBucket != bucket {
		problems = append(problems, fmt.Errorf("sourceBucket: got %q, expected the source bucket %q", m.SourceBucket, bucket))
	}
	if m.FileFormat != "CSV" {
		problems = append(problems, fmt.Errorf("fileFormat: got %q, expected CSV", m.FileFormat))
	}
	required := []string{columnKey, columnSize, columnModified, columnETag}
	if _, versions := inventory.columns[columnVersion]; versions {
		required = append(required, columnLatest, columnMarker)
	}
	for _, name := range required {
		if _, ok := inventory.columns[name]; !ok {
			problems = append(problems, fmt.Errorf("fileSchema: got %q, expected %s in it: add the field to the inventory", m.FileSchema, name))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("read inventory manifest %s: %w", manifest, err)
	}
	return inventory, nil
}

// Divide implements From.
func (v *Inventory) Divide(context.Context) ([]Shard, error) {
	if len(v.files) == 0 {
		return nil, errors.New("the inventory has no files")
	}
	shards := make([]Shard, len(v.files))
	for i := range v.files {
		shards[i].File = &v.files[i]
	}
	return shards, nil
}

// Pages implements From. A file that is not what the manifest says is an error, and
// none of its objects is yielded.
func (v *Inventory) Pages(ctx context.Context, shard Shard) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		if err := v.pages(ctx, shard, func(p Page) bool { return yield(p, nil) }); err != nil {
			yield(Page{}, err)
		}
	}
}

func (v *Inventory) pages(ctx context.Context, shard Shard, yield func(Page) bool) error {
	if shard.File == nil {
		return errors.New("continue a backfill: its state is of a listing, not of an inventory")
	}
	name := shard.File.Key
	done, err := strconv.Atoi("0" + shard.Cursor)
	if err != nil {
		return fmt.Errorf("continue with inventory file %s: cursor: got %q, expected a number of rows", name, shard.Cursor)
	}
	file, err := os.CreateTemp("", "s3ferry-inventory-")
	if err != nil {
		return fmt.Errorf("keep inventory file %s: %w", name, err)
	}
	defer func() { _, _ = file.Close(), os.Remove(file.Name()) }() // it was only a copy
	if err := v.fetch(ctx, *shard.File, file); err != nil {
		return err
	}
	plain, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("read inventory file %s: %w", name, err)
	}
	rows := csv.NewReader(plain)
	rows.FieldsPerRecord, rows.ReuseRecord = -1, true
	var page Page
	for n := 1; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read inventory file %s: %w", name, err)
		}
		if n <= done {
			continue
		}
		object, current, err := v.object(row)
		if err != nil {
			return fmt.Errorf("read inventory file %s: row %d: %w", name, n, err)
		}
		if current && strings.HasPrefix(object.Key, v.Prefix) {
			page.Objects = append(page.Objects, object)
		}
		if page.Cursor = strconv.Itoa(n); len(page.Objects) == pageRows {
			if !yield(page) {
				return nil
			}
			page.Objects = nil
		}
	}
	if len(page.Objects) > 0 {
		yield(page)
	}
	return nil
}

// fetch copies a data file, checks it and rewinds the copy. The SDK tries requests
// again but does not go on with an answer that broke off, and at a low rate one would
// have to last as long as the backfill.
func (v *Inventory) fetch(ctx context.Context, file File, to *os.File) error {
	sum := md5.New() //nolint:gosec // what an inventory has
	var size int64
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		body, err := v.open(ctx, file.Key, size)
		if err != nil {
			return struct{}{}, backoff.Permanent(fmt.Errorf("open inventory file %s: %w", file.Key, err))
		}
		defer func() { _ = body.Close() }() // it was only read
		n, err := io.Copy(io.MultiWriter(to, sum), body)
		size += n
		if err != nil {
			err = fmt.Errorf("read inventory file %s: %w", file.Key, err)
		}
		return struct{}{}, err
	}, backoff.WithMaxTries(fetchTries), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); file.MD5 != "" && got != file.MD5 {
		return fmt.Errorf("read inventory file %s: got MD5 %s, expected %s as its manifest says", file.Key, got, file.MD5)
	}
	if _, err := to.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read inventory file %s: %w", file.Key, err)
	}
	return nil
}

// object reads a row, and reports whether it is of a current version.
func (v *Inventory) object(row []string) (o listing.Object, current bool, err error) {
	if len(row) != len(v.columns) {
		return o, false, fmt.Errorf("got %d fields, expected %d", len(row), len(v.columns))
	}
	field := func(name string) string { return row[v.columns[name]] }
	if _, versions := v.columns[columnVersion]; versions && (field(columnLatest) != "true" || field(columnMarker) == "true") {
		return o, false, nil
	}
	var problems []error
	problem := func(name string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	o.Key, err = url.QueryUnescape(field(columnKey))
	problem(columnKey, err)
	o.Size, err = strconv.ParseInt(field(columnSize), 10, 64)
	problem(columnSize, err)
	o.Modified, err = time.Parse(time.RFC3339, field(columnModified))
	problem(columnModified, err)
	o.ETag = strings.Trim(field(columnETag), `"`)
	return o, true, errors.Join(problems...)
}
