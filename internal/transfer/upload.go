package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// upload is the multipart upload that the journal names for the transfer.
type upload struct {
	*journal.Upload
	crc   crc
	parts []part
	done  map[int32]donePart // by number
}

// donePart is a part that the destination holds.
type donePart struct {
	etag string
	sum  string // CRC in base64
}

// missing returns what the destination does not hold of parts.
func (u *upload) missing(parts []part) []part {
	var missing []part
	for _, p := range parts {
		if _, ok := u.done[p.number]; !ok {
			missing = append(missing, p)
		}
	}
	return missing
}

// open returns the upload that an earlier delivery began, or begins one.
func (j *job) open(ctx context.Context) (*upload, error) {
	held, err := j.Journal.Upload(ctx, j.t.ID, j.Bucket, j.key)
	if err != nil {
		return nil, err
	}
	switch {
	case held == nil:
		return j.begin(ctx, nil)
	case held.Segments != nil:
		return j.takeOver(ctx, held)
	default:
		return j.adopt(held)
	}
}

// reopen begins another upload in place of u.
func (j *job) reopen(ctx context.Context, u *upload) (*upload, error) {
	fresh, err := j.begin(ctx, u.Upload)
	if err != nil {
		return u, err
	}
	return fresh, nil
}

// begin creates an upload and enters it into the journal in place of old. Where
// another worker came first, ours is aborted and theirs returned.
func (j *job) begin(ctx context.Context, old *journal.Upload) (*upload, error) {
	partSize, err := j.partSize(j.t.Source.Size)
	if err != nil {
		return nil, err
	}
	algorithm := computed.name
	if sum, ok := sourceChecksum(j.t); ok && crcs[sum.algorithm].sum != nil {
		algorithm = sum.algorithm
	}
	out, err := j.S3.CreateMultipartUpload(ctx, j.createInput(algorithm), j.expires)
	if err != nil {
		return nil, judgeError("create multipart upload", err)
	}
	if tries, ok := retry.GetAttemptResults(out.ResultMetadata); ok && len(tries.Results) > 1 {
		j.doubtful = true // the answer to one that took effect may be lost
	}
	ours := journal.Upload{
		Transfer: j.t.ID, Bucket: j.Bucket, Key: j.key, ID: aws.ToString(out.UploadId),
		PartSize: partSize, Algorithm: string(algorithm), Segments: j.divide(partSize, old),
	}
	held, err := j.Journal.Claim(ctx, ours, old)
	if err != nil {
		j.leave(j.abort(ctx, &ours))
		return nil, err
	}
	if held.ID != ours.ID && j.abort(ctx, &ours) != nil {
		j.doubtful = true
	}
	return j.adopt(held)
}

// adopt checks that an upload from the journal can be worked on here.
func (j *job) adopt(held *journal.Upload) (*upload, error) {
	c, ok := crcs[types.ChecksumAlgorithm(held.Algorithm)]
	if !ok || (j.t.Source.Size-1)/held.PartSize >= int64(j.MaxParts) {
		return nil, fault.Permanentf(journal.ClassCorrupt, "read journal entry of %s: got algorithm %q and part size %d, expected a CRC and at most %d parts",
			held.Transfer, held.Algorithm, held.PartSize, j.MaxParts)
	}
	return &upload{Upload: held, crc: c, parts: cut(j.t.Source.Size, held.PartSize), done: map[int32]donePart{}}, nil
}

// maxListed is the most parts of one answer.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
const maxListed = 1000

// list asks the destination which of parts, a run of u's, it holds. A part of
// another size or without a checksum counts as missing.
func (j *job) list(ctx context.Context, u *upload, parts []part) error {
	before, last := parts[0].number-1, parts[len(parts)-1].number
	in := &s3.ListPartsInput{
		Bucket: &j.Bucket, Key: &j.key, UploadId: &u.ID, MaxParts: aws.Int32(min(maxListed, last-before)),
	}
	if before > 0 {
		in.PartNumberMarker = aws.String(strconv.Itoa(int(before)))
	}
	pages := s3.NewListPartsPaginator(j.S3, in)
	for listed := before; listed < last && pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return judgeError("list parts of "+u.ID, err)
		}
		if page.Key != nil && *page.Key != j.key {
			return fault.Permanentf(journal.ClassCorrupt, "list parts of %s: got those of %q, expected %q", u.ID, *page.Key, j.key)
		}
		for _, p := range page.Parts {
			listed = aws.ToInt32(p.PartNumber)
			u.take(p)
		}
	}
	return nil
}

// take notes a part that the destination holds, if it is as it has to be.
func (u *upload) take(p types.Part) {
	i := int(aws.ToInt32(p.PartNumber)) - 1
	sum := aws.ToString(u.crc.listed(p))
	if _, err := u.crc.parse(sum); err != nil || i < 0 || i >= len(u.parts) || aws.ToInt64(p.Size) != u.parts[i].size {
		return
	}
	u.done[u.parts[i].number] = donePart{aws.ToString(p.ETag), sum}
}

// store uploads one part, again and again from buf while the destination is busy.
func (j *job) store(ctx context.Context, u *upload, p part, buf []byte) (donePart, error) {
	sum := u.crc.of(buf)
	d := donePart{sum: sum.value}
	err := j.persist(ctx, func() error {
		out, err := j.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &j.Bucket, Key: &j.key, UploadId: &u.ID, PartNumber: &p.number,
			Body: bytes.NewReader(buf), ContentLength: &p.size, ChecksumAlgorithm: sum.algorithm,
		}, given(sum))
		if err != nil {
			return judgeError(fmt.Sprintf("upload part %d of %s", p.number, u.ID), err)
		}
		d.etag = aws.ToString(out.ETag)
		return nil
	})
	return d, err
}

// complete makes the object of u's parts, under c. The destination compares the
// checksum of the whole with the source's, or with that of the pulled bytes.
func (j *job) complete(ctx context.Context, u *upload, c condition) (wire.Verified, error) {
	sum, verified := checksum{}, wire.ByFullObject
	if source, ok := sourceChecksum(j.t); ok && source.algorithm == u.crc.name {
		sum = source
	} else {
		var err error
		if sum, err = u.crc.whole(u.parts, u.done); err != nil {
			return "", fault.Transientf(classDigest, "complete upload %s: %w", u.ID, err)
		}
		verified = wire.ByLength
	}
	completed := make([]types.CompletedPart, 0, len(u.parts))
	for _, p := range u.parts {
		completed = append(completed, u.crc.completed(p, u.done[p.number]))
	}
	err := j.commit(ctx, c, func(c condition) (string, error) {
		in := &s3.CompleteMultipartUploadInput{
			Bucket: &j.Bucket, Key: &j.key, UploadId: &u.ID,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: completed},
			ChecksumType:    types.ChecksumTypeFullObject, MpuObjectSize: &j.t.Source.Size,
		}
		in.IfMatch, in.IfNoneMatch = c.headers()
		out, err := j.S3.CompleteMultipartUpload(ctx, in, whole(sum))
		if err != nil {
			return "", judgeError("complete multipart upload "+u.ID, err)
		}
		return aws.ToString(out.ETag), nil
	})
	return verified, err
}

// abort ends u. One that is gone already is as good.
func (j *job) abort(ctx context.Context, u *journal.Upload) error {
	err := j.insist(ctx, func() error {
		_, err := j.S3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: &j.Bucket, Key: &j.key, UploadId: &u.ID,
		})
		return judgeError("abort multipart upload "+u.ID, err)
	})
	if errors.Is(err, errUploadLost) {
		return nil
	}
	return err
}
