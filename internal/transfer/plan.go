package transfer

import "github.com/s3ferry/s3ferry/internal/fault"

// S3's limits on a multipart upload.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const (
	DefaultMaxParts = 10_000
	maxPartSize     = 5 << 30 // bytes
)

// classTooLarge is the fault class of an object that no 10,000 parts make up, and
// that S3 therefore cannot hold: permanent.
const classTooLarge = "object-too-large"

// part is a run of bytes of an object.
type part struct {
	number int32 // from 1
	offset int64
	size   int64
}

// partSize returns the bytes of all but the last part of an object: the wanted
// size, or the smallest multiple of it that makes no more than MaxParts parts.
func (e *Engine) partSize(size int64) (int64, error) {
	most := int64(e.MaxParts)
	least := (size + most - 1) / most
	if least > maxPartSize {
		return 0, fault.Permanentf(classTooLarge, "object: got %d bytes, expected at most %d", size, most*maxPartSize)
	}
	n := (least + e.PartSize - 1) / e.PartSize * e.PartSize
	return min(max(n, e.PartSize), maxPartSize), nil
}

// cut returns the parts of an object of size bytes.
func cut(size, partSize int64) []part {
	parts := make([]part, 0, (size+partSize-1)/partSize)
	for offset := int64(0); offset < size; offset += partSize {
		parts = append(parts, part{int32(len(parts) + 1), offset, min(partSize, size-offset)}) //nolint:gosec // at most MaxParts
	}
	return parts
}

// leastRange is the fewest bytes worth a request: on a slow link their answer
// takes several round trips.
const leastRange = 256 << 10

// rangeTime is how long a range may take. A short one wastes the round trip in
// which its connection waits for the answer; a long one is late in the end.
const rangeTime = 4 // seconds

// rangeSize returns the bytes of the next range of a part that misses so many,
// out of left that are not yet asked for. At the end ranges get smaller, so
// that all connections end together.
func (e *Engine) rangeSize(part, left int64) int64 {
	each, connections := e.connections.rate()
	n := max(2*leastRange, int64(each*rangeTime))
	n = min(n, e.RangeSize, left/int64(2*connections), e.Memory/int64(2*e.Connections))
	n = max(n, min(e.RangeSize, leastRange))
	if part < n+n/2 {
		return part // rather than leave a crumb
	}
	return n
}
