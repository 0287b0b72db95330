package transfer

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"

	"github.com/s3ferry/s3ferry/internal/wire"
)

// checksum is a value that S3 checks, in base64 as S3 writes it.
type checksum struct {
	algorithm types.ChecksumAlgorithm
	value     string
}

// sourceChecksum returns what the source has of the whole object, if that is
// something S3 takes with a PutObject.
func sourceChecksum(t *wire.Transfer) (checksum, bool) {
	c := t.Object.Checksum
	if c == nil || c.Type != wire.FullObject {
		return checksum{}, false
	}
	switch a := types.ChecksumAlgorithm(c.Algorithm); a {
	case types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c,
		types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256:
		return checksum{a, c.Value}, true
	}
	return checksum{}, false
}

// crc is an algorithm whose value for a whole follows from those of its parts,
// which is why only these are used for multipart uploads.
type crc struct {
	name       types.ChecksumAlgorithm
	polynomial uint64 // reflected
	bytes      int
	sum        func([]byte) uint64
	field      func(*types.CompletedPart) **string
	listed     func(types.Part) *string
}

var crcs = map[types.ChecksumAlgorithm]crc{
	types.ChecksumAlgorithmCrc64nvme: {
		types.ChecksumAlgorithmCrc64nvme, 0x9a6c9329ac4bc9b5, 8, crc64nvme.Checksum,
		func(p *types.CompletedPart) **string { return &p.ChecksumCRC64NVME },
		func(p types.Part) *string { return p.ChecksumCRC64NVME },
	},
	types.ChecksumAlgorithmCrc32: {
		types.ChecksumAlgorithmCrc32, crc32.IEEE, 4,
		func(b []byte) uint64 { return uint64(crc32.ChecksumIEEE(b)) },
		func(p *types.CompletedPart) **string { return &p.ChecksumCRC32 },
		func(p types.Part) *string { return p.ChecksumCRC32 },
	},
	types.ChecksumAlgorithmCrc32c: {
		types.ChecksumAlgorithmCrc32c, crc32.Castagnoli, 4,
		func(b []byte) uint64 { return uint64(crc32.Checksum(b, castagnoli)) },
		func(p *types.CompletedPart) **string { return &p.ChecksumCRC32C },
		func(p types.Part) *string { return p.ChecksumCRC32C },
	},
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// computed is what protects bytes for which the source has no checksum.
var computed = crcs[types.ChecksumAlgorithmCrc64nvme]

func (c crc) of(b []byte) checksum { return checksum{c.name, c.format(c.sum(b))} }

func (c crc) format(v uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, v)[8-c.bytes:])
}

func (c crc) parse(s string) (uint64, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != c.bytes {
		return 0, fmt.Errorf("got checksum %q, expected %s in base64", s, c.name)
	}
	return binary.BigEndian.Uint64(append(make([]byte, 8-c.bytes), b...)), nil
}

// combine returns the CRC of two strings of bytes from that of each and the
// length of the second: a is multiplied by x^(8n) modulo the polynomial. The
// inversions at both ends of all three CRCs cancel out.
func (c crc) combine(a, b uint64, n int64) uint64 {
	power := uint64(1) << (8*c.bytes - 1 - 8) // x^8
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			a = c.multiply(a, power)
		}
		power = c.multiply(power, power)
	}
	return a ^ b
}

// multiply returns a*b modulo the polynomial. The highest bit is x^0.
func (c crc) multiply(a, b uint64) uint64 {
	var product uint64
	for bit := uint64(1) << (8*c.bytes - 1); bit > 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry == 1 {
			b ^= c.polynomial
		}
	}
	return product
}

// whole returns the CRC of the object from its parts, which are in order.
func (c crc) whole(parts []part, done map[int32]donePart) (checksum, error) {
	var sum uint64 // of no bytes
	for _, p := range parts {
		v, err := c.parse(done[p.number].sum)
		if err != nil {
			return checksum{}, fmt.Errorf("part %d: %w", p.number, err)
		}
		sum = c.combine(sum, v, p.size)
	}
	return checksum{c.name, c.format(sum)}, nil
}

func (c crc) completed(p part, d donePart) types.CompletedPart {
	out := types.CompletedPart{PartNumber: aws.Int32(p.number), ETag: aws.String(d.etag)}
	*c.field(&out) = aws.String(d.sum)
	return out
}
