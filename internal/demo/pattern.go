package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// patternBlock is how many bytes share one seed, so that a seek costs at most
// the generation of one block.
const patternBlock = 1 << 20

// pattern is size bytes that do not compress and follow from seed alone: a body
// of any size that takes no memory and can be read again from any place.
type pattern struct {
	seed, size, offset int64
	block              int64 // that buf holds; -1: none
	buf                []byte
}

// Pattern returns size bytes that follow from seed: see pattern.
func Pattern(seed, size int64) io.ReadSeeker { return &pattern{seed: seed, size: size, block: -1} }

// Read implements io.Reader.
func (p *pattern) Read(b []byte) (int, error) {
	if p.offset >= p.size {
		return 0, io.EOF
	}
	if block := p.offset / patternBlock; block != p.block {
		p.fill(block)
	}
	n := copy(b, p.buf[p.offset%patternBlock:])
	n = int(min(int64(n), p.size-p.offset))
	p.offset += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (p *pattern) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.offset
	case io.SeekEnd:
		offset += p.size
	case io.SeekStart:
	default:
		return 0, fmt.Errorf("seek: got whence %d", whence)
	}
	if offset < 0 {
		return 0, errors.New("seek: got a place before the start")
	}
	p.offset = offset
	return offset, nil
}

func (p *pattern) fill(block int64) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[0:], uint64(p.seed)) //nolint:gosec // bits, not a quantity
	binary.LittleEndian.PutUint64(seed[8:], uint64(block))  //nolint:gosec // bits, not a quantity
	if p.buf == nil {
		p.buf = make([]byte, min(patternBlock, p.size))
	}
	_, _ = rand.NewChaCha8(seed).Read(p.buf) // never fails
	p.block = block
}
