package transfer

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3's ETag is one
	"encoding/hex"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// digestTries is how often bytes are pulled that the destination then refuses.
const digestTries = 3

// small carries an object of at most one part: one GET (more where one alone
// would be slow), one conditional PUT; with deletions, a look at the journal beside
// the one and after the other.
func (j *job) small(ctx, work context.Context, redelivered bool) (wire.Verified, error) {
	var c condition
	if redelivered {
		var err error
		if c, err = j.judge(ctx); err != nil {
			return "", err
		}
	}
	var held *journal.Newest
	var peek errgroup.Group
	peeking, stop := context.WithCancel(ctx)
	peek.Go(func() (err error) {
		held, err = j.peek(peeking)
		return err
	})
	defer func() {
		stop()
		_ = peek.Wait()
	}()
	buf, err := j.memory.take(work, j.t.Source.Size)
	if err != nil {
		return "", err
	}
	defer j.memory.give(buf)
	for try := range digestTries {
		if err := j.pull(work, 0, buf); err != nil {
			return "", err
		}
		if try == 0 {
			if err := peek.Wait(); err != nil {
				return "", err
			}
			if err := j.makeWay(ctx, held); err != nil {
				return "", err
			}
		}
		sum, verified := j.prove(buf)
		err = j.commit(ctx, c, func(c condition) (string, error) { return j.put(ctx, c, sum, buf) })
		if !errors.Is(err, errDigest) {
			return verified, err
		}
	}
	return "", settled(err)
}

// prove returns the checksum that goes with buf to the destination, and what
// that proves: the source's own if there is one, else one of the bytes as they
// are here. An ETag that does not match proves nothing against them, since only
// some ETags are MD5s and nothing says which.
func (j *job) prove(buf []byte) (checksum, wire.Verified) {
	if sum, ok := sourceChecksum(j.t); ok {
		return sum, wire.ByFullObject
	}
	sum := md5.Sum(buf) //nolint:gosec // S3's ETag is one
	if hex.EncodeToString(sum[:]) == j.t.Source.ETag {
		return computed.of(buf), wire.ByETag
	}
	return computed.of(buf), wire.ByLength
}

func (j *job) put(ctx context.Context, c condition, sum checksum, buf []byte) (etag string, err error) {
	err = j.persist(ctx, func() error {
		in := j.putInput(sum)
		in.Body = bytes.NewReader(buf)
		in.IfMatch, in.IfNoneMatch = c.headers()
		out, err := j.S3.PutObject(ctx, in, j.expires, given(sum))
		if err != nil {
			return judgeError("put the destination's object", err)
		}
		etag = aws.ToString(out.ETag)
		return nil
	})
	return etag, err
}
