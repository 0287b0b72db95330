package transfer

import (
	"testing"

	"pgregory.net/rapid"
)

func TestCRCOfTheWholeFollowsFromItsParts(t *testing.T) {
	for name, c := range crcs {
		rapid.Check(t, func(t *rapid.T) {
			whole := rapid.SliceOfN(rapid.Byte(), 1, 5000).Draw(t, "whole")
			size := rapid.Int64Range(1, 1500).Draw(t, "part size")
			parts := cut(int64(len(whole)), size)
			done := map[int32]donePart{}
			for _, p := range parts {
				done[p.number] = donePart{sum: c.of(whole[p.offset : p.offset+p.size]).value}
			}
			got, err := c.whole(parts, done)
			if err != nil || got != c.of(whole) {
				t.Fatalf("%s of %d bytes in parts of %d: got %v, %v, want %v", name, len(whole), size, got, err, c.of(whole))
			}
		})
	}
}

func TestCRCWithoutAPartIsAnError(t *testing.T) {
	if got, err := computed.whole(cut(10, 5), map[int32]donePart{1: {sum: computed.of(nil).value}}); err == nil {
		t.Errorf("got %v", got)
	}
}

func TestPlanStaysWithinTenThousandParts(t *testing.T) {
	e := New(Options{})
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 10_000*5<<30).Draw(t, "size")
		n, err := e.partSize(size)
		if err != nil {
			t.Fatal(err)
		}
		parts := cut(size, n)
		last := parts[len(parts)-1]
		if len(parts) > DefaultMaxParts || n%(8<<20) != 0 || n > 5<<30 || last.offset+last.size != size {
			t.Fatalf("%d bytes: %d parts of %d, last %+v", size, len(parts), n, last)
		}
	})
}

func BenchmarkChecksumOfAPart(b *testing.B) {
	part := make([]byte, DefaultPartSize)
	for name, c := range crcs {
		b.Run(string(name), func(b *testing.B) {
			b.SetBytes(int64(len(part)))
			for b.Loop() {
				c.of(part)
			}
		})
	}
}

// What remains of the checksum of an object of 10,000 parts when these are done.
func BenchmarkChecksumCombine(b *testing.B) {
	for b.Loop() {
		var sum uint64
		for range DefaultMaxParts {
			sum = computed.combine(sum, 0x0123456789abcdef, DefaultPartSize)
		}
	}
}
