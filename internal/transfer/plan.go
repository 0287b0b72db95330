package transfer

import "github.com/s3ferry/s3ferry/internal/fault"

// maxParts is S3's limit.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const maxParts = 10_000

// part is a run of bytes of an object.
type part struct {
	number int32 // from 1
	offset int64
	size   int64
}

// partSize returns the bytes of all but the last part of an object: the wanted
// size, or the smallest multiple of it that makes no more than 10,000 parts.
func (e *Engine) partSize(size int64) (int64, error) {
	least := (size + maxParts - 1) / maxParts
	n := (least + e.PartSize - 1) / e.PartSize * e.PartSize
	n = max(n, e.PartSize)
	if n > e.Memory {
		return 0, fault.Permanentf("memory-budget", "object of %d bytes: its parts of %d bytes don't fit into the memory budget, expected at least that, got %d",
			size, n, e.Memory)
	}
	return n, nil
}

// cut returns the parts of an object of size bytes.
func cut(size, partSize int64) []part {
	parts := make([]part, 0, (size+partSize-1)/partSize)
	for offset := int64(0); offset < size; offset += partSize {
		parts = append(parts, part{int32(len(parts) + 1), offset, min(partSize, size-offset)}) //nolint:gosec // at most 10,000
	}
	return parts
}
