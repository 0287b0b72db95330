package transfer

import (
	"context"
	"net/url"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
)

// sweep aborts uploads of the key that no entry names, where there may be some:
// the answer with the ID of one was lost, or its worker was killed before it had
// entered it. One that another worker is about to enter right now is taken for such
// an upload; then that worker finds it lost, and begins another.
func (j *job) sweep(ctx context.Context) error {
	if !j.doubtful {
		return nil
	}
	open, err := j.uploads(ctx)
	if err == nil && len(open) > 0 {
		err = j.abortUnnamed(ctx, open)
	}
	if fault.IsPermanent(err) {
		j.leave(err)
		err = nil
	}
	j.doubtful = err != nil
	return err
}

// uploads returns the IDs of the uploads of the key, of which S3 lists the first
// thousand; keys that are longer come after it.
func (j *job) uploads(ctx context.Context) (ids []string, err error) {
	out, err := j.S3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{
		Bucket: &j.Bucket, Prefix: &j.key, EncodingType: types.EncodingTypeUrl, // XML cannot hold every key
	})
	if err != nil {
		return nil, judgeError("list multipart uploads", err)
	}
	for _, u := range out.Uploads {
		key := aws.ToString(u.Key)
		if out.EncodingType == types.EncodingTypeUrl {
			if key, err = url.QueryUnescape(key); err != nil {
				return nil, fault.Permanentf(classRefused, "list multipart uploads: %w", err)
			}
		}
		if key == j.key { // others begin with it
			ids = append(ids, aws.ToString(u.UploadId))
		}
	}
	return ids, nil
}

// abortUnnamed aborts those of open, which was listed before, that no entry names.
func (j *job) abortUnnamed(ctx context.Context, open []string) error {
	entries, err := j.Journal.Uploads(ctx, j.Bucket, j.key)
	if err != nil {
		return err
	}
	for _, id := range open {
		if slices.ContainsFunc(entries, func(u *journal.Upload) bool { return u.ID == id }) {
			continue
		}
		if err := j.abort(ctx, &journal.Upload{ID: id}); err != nil {
			return err
		}
	}
	return nil
}
