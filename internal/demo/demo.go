// Package demo carries a workload from one S3 bucket to another through whatever
// lies between them, and then compares both sides byte for byte.
package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	writers = 8                      // objects put at once
	poll    = 200 * time.Millisecond // between two looks at the destination
)

// Side is a bucket and the client that reaches it.
type Side struct {
	S3     *s3.Client
	Bucket string
}

// Options are what Run may be told.
type Options struct {
	// Patience is how long nothing may arrive before Run gives up; 0 is 2 min.
	Patience time.Duration
	// Arrived is called with totals whenever more has arrived; nil: nobody asks.
	Arrived func(objects int, bytes int64)
}

// Report is what Run found.
type Report struct {
	Rows        []Row    `json:"kinds"`
	Objects     int      `json:"objects"`
	Bytes       int64    `json:"bytes"`
	Agree       int      `json:"agree"`
	Differences []string `json:"differences"` // every one, in words

	// Overwritten is how many objects were overwritten while their first edition
	// was at the destination in part or whole.
	Overwritten int `json:"overwrittenInFlight"`
	// Deleted is how many objects were deleted, and are on neither side any more.
	Deleted int `json:"deleted"`

	PutSeconds   float64 `json:"putSeconds"`   // from the first put to the last
	TotalSeconds float64 `json:"totalSeconds"` // from the first put to the last arrival
}

// Row sums up the objects of one kind.
type Row struct {
	Kind    string `json:"kind"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`
	Agree   int    `json:"agree"`
}

// Run puts objects into from, waits until all are in to, and compares the two
// sides. It fails if it cannot put, if nothing arrives for too long, or if it
// cannot compare; that the sides differ is in the report.
func Run(ctx context.Context, from, to Side, objects []Object, o Options) (Report, error) {
	if o.Patience == 0 {
		o.Patience = 2 * time.Minute
	}
	start := time.Now()
	w := &written{etags: map[string]string{}, deleted: map[string]bool{}}
	report := Report{Objects: len(objects)}
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := w.upload(both, from, to, objects)
		report.PutSeconds = time.Since(start).Seconds()
		return err
	})
	group.Go(func() error { return w.await(both, to, objects, o) })
	if err := group.Wait(); err != nil {
		return Report{}, err
	}
	report.TotalSeconds = time.Since(start).Seconds()
	report.Overwritten = w.overwritten
	err := report.compare(ctx, from, to, objects)
	return report, err
}

// written is what has been put into the source so far.
type written struct {
	mu          sync.Mutex
	etags       map[string]string // by key, of the last edition, without quotes
	deleted     map[string]bool   // keys
	last        time.Time         // of the last put
	overwritten int
}

func (w *written) note(key, etag string, inFlight bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.etags[key], w.last = etag, time.Now()
	if inFlight {
		w.overwritten++
	}
}

func (w *written) noteDeletion(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted[key], w.last = true, time.Now()
}

// gone returns the keys that have been deleted so far.
func (w *written) gone() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.deleted)
}

// look returns the ETag of key's last edition, "" before it is put, and when
// anything was put last.
func (w *written) look(key string) (etag string, last time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.etags[key], w.last
}

func (w *written) upload(ctx context.Context, from, to Side, objects []Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, object := range objects {
		group.Go(func() error {
			inFlight := false
			if object.Overwrites != nil {
				if _, err := put(ctx, from, *object.Overwrites); err != nil {
					return err
				}
				var err error
				if inFlight, err = onItsWay(ctx, to, object.Key); err != nil {
					return err
				}
			}
			etag, err := put(ctx, from, object)
			if err != nil {
				return err
			}
			w.note(object.Key, etag, inFlight)
			if object.Deleted {
				return w.remove(ctx, from, to, object.Key)
			}
			return nil
		})
	}
	return group.Wait()
}

// remove deletes an object once it is at the destination.
func (w *written) remove(ctx context.Context, from, to Side, key string) error {
	for there := false; !there; {
		select {
		case <-ctx.Done(): // await loses its patience
			return ctx.Err()
		case <-time.After(poll):
		}
		var err error
		if there, err = exists(ctx, to, key); err != nil {
			return err
		}
	}
	if _, err := from.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &from.Bucket, Key: &key}); err != nil {
		return fmt.Errorf("delete %q from the source: %w", key, err)
	}
	w.noteDeletion(key)
	return nil
}

// exists reports whether the bucket has an object under key.
func exists(ctx context.Context, side Side, key string) (bool, error) {
	_, err := side.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &side.Bucket, Key: &key})
	if _, ok := errors.AsType[*types.NotFound](err); ok {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("head %q of %s: %w", key, side.Bucket, err)
	}
	return true, nil
}

// put writes o and returns its ETag.
func put(ctx context.Context, side Side, o Object) (string, error) {
	body, err := o.open()
	if err != nil {
		return "", fmt.Errorf("open %q: %w", o.Key, err)
	}
	defer func() { _ = body.Close() }() // it was only read
	out, err := side.S3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &side.Bucket, Key: &o.Key, Body: body, ContentLength: &o.Size,
		ContentType: text(o.ContentType), CacheControl: text(o.CacheControl),
		ContentDisposition: text(o.ContentDisposition), ContentEncoding: text(o.ContentEncoding),
		ContentLanguage: text(o.ContentLanguage),
		Metadata:        o.Metadata, Tagging: tagging(o.Tags),
	})
	if err != nil {
		return "", fmt.Errorf("put %q into the source: %w", o.Key, err)
	}
	return strings.Trim(aws.ToString(out.ETag), `"`), nil
}

// onItsWay waits until the destination has begun to receive key, and reports
// whether it saw that within a minute.
func onItsWay(ctx context.Context, to Side, key string) (bool, error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		uploads, err := to.S3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &to.Bucket, Prefix: &key})
		if err != nil {
			return false, fmt.Errorf("list uploads of %q at the destination: %w", key, err)
		}
		if len(uploads.Uploads) > 0 {
			return true, nil
		}
		objects, err := to.S3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &to.Bucket, Prefix: &key})
		if err != nil {
			return false, fmt.Errorf("list %q at the destination: %w", key, err)
		}
		if len(objects.Contents) > 0 {
			return true, nil
		}
		time.Sleep(poll / 20)
	}
	return false, nil
}

// await returns when the last edition of every object is at the destination, and
// what was deleted is not.
func (w *written) await(ctx context.Context, to Side, objects []Object, o Options) error {
	missing := map[string]Object{}
	for _, object := range objects {
		missing[object.Key] = object
	}
	var bytes int64
	for arrived := time.Now(); len(missing) > 0; {
		before, gone := len(missing), w.gone()
		pages := s3.NewListObjectsV2Paginator(to.S3, &s3.ListObjectsV2Input{Bucket: &to.Bucket})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return fmt.Errorf("list the destination: %w", err)
			}
			for _, listed := range page.Contents {
				object, waiting := missing[aws.ToString(listed.Key)]
				delete(gone, aws.ToString(listed.Key))
				if !waiting || object.Deleted {
					continue
				}
				current, err := w.isCurrent(ctx, to, object)
				if err != nil {
					return err
				}
				if current {
					delete(missing, object.Key)
					bytes += object.Size
				}
			}
		}
		for key := range gone {
			bytes += missing[key].Size
			delete(missing, key)
		}
		if len(missing) < before {
			arrived = time.Now()
			if o.Arrived != nil {
				o.Arrived(len(objects)-len(missing), bytes)
			}
			continue
		}
		_, put := w.look("")
		if time.Since(arrived) > o.Patience && time.Since(put) > o.Patience {
			keys := slices.Sorted(maps.Keys(missing))
			return fmt.Errorf("wait for arrivals: nothing came for %v, and %d of %d objects are missing, such as %q",
				o.Patience, len(keys), len(objects), keys[:min(3, len(keys))])
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
	return nil
}

// isCurrent tells the last edition of o at the destination from an earlier one.
func (w *written) isCurrent(ctx context.Context, to Side, o Object) (bool, error) {
	etag, _ := w.look(o.Key)
	if o.Overwrites == nil || etag == "" {
		return etag != "", nil
	}
	head, err := to.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &to.Bucket, Key: &o.Key})
	if err != nil {
		return false, fmt.Errorf("head %q at the destination: %w", o.Key, err)
	}
	return head.Metadata["s3ferry-source-etag"] == etag, nil
}

// OK is nil if both sides agree in everything.
func (r *Report) OK() error {
	if len(r.Differences) > 0 || r.Agree != r.Objects {
		return errors.New("the two sides differ")
	}
	return nil
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
