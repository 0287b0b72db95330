package listing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	// maxRanges is the most ranges that Split makes.
	maxRanges = 64
	// maxSplitCalls bounds what Split asks for.
	maxSplitCalls = 128
)

// Split cuts the keys that begin with prefix into at most 64 ranges, in order,
// that can be listed at once. Nothing tells how many keys there are, or which: so
// it reads a page here and there and cuts where it finds keys, over and over
// between the pages that it has. Some thousand keys may stay one range.
func (b Bucket) Split(ctx context.Context, prefix string) ([]Range, error) {
	s := splitter{bucket: b, prefix: prefix, seen: map[rune]bool{}}
	// Each gap is cut as often as any other: which one is large nobody knows.
	gaps := []gap{{shared: utf8.RuneCountInString(prefix)}}
	for len(gaps) > 0 && !s.spent() {
		parts, err := s.cut(ctx, gaps[0])
		if err != nil {
			return nil, err
		}
		gaps = append(gaps[1:], parts...)
	}
	slices.Sort(s.cuts)
	ranges := []Range{{Prefix: prefix}}
	for _, cut := range slices.Compact(s.cuts) {
		ranges[len(ranges)-1].Last = cut
		ranges = append(ranges, Range{Prefix: prefix, After: cut})
	}
	return ranges, nil
}

// splitter looks for keys to cut at.
type splitter struct {
	bucket Bucket
	prefix string
	calls  int
	cuts   []string
	seen   map[rune]bool // characters of keys
}

func (s *splitter) spent() bool { return s.calls >= maxSplitCalls || len(s.cuts) >= maxRanges-1 }

// gap is keys that nobody has looked at: those after one, which is the last of a
// page, and before another, if that is not empty.
type gap struct {
	after, before string
	shared        int // characters of after with which each key of the gap begins
	apart         int // so many that some key does not; 0: nobody knows
}

// cut reads the first page of a gap, cuts what is behind it, and returns the parts
// that can be cut again.
//
// It looks for the first character in which the keys differ, in steps that double,
// and then cuts at one in the middle of those that may stand there.
func (s *splitter) cut(ctx context.Context, g gap) (parts []gap, err error) {
	page, err := s.read(ctx, g.after)
	if err != nil {
		return nil, err
	}
	g, more := page.behind(g)
	for step := 1; more && !s.spent(); {
		key := []rune(g.after)
		if g.shared >= len(key) { // only longer keys come: the next page has one
			return append(parts, g), nil
		}
		// The next key that has another character at this place, or at an earlier one.
		at := min(g.shared+step, cmp.Or(g.apart, len(key)), len(key))
		same, other := string(key[:at-1]), rune(0)
		if at == g.apart {
			other = s.middle(key[at-1], same, g.before)
		}
		from := same + string(cmp.Or(other, key[at-1]+1))
		if page, err = s.read(ctx, from); err != nil {
			return nil, err
		}
		if page.first <= g.after || g.before != "" && page.first >= g.before { // there is none
			switch {
			case other != 0:
				g.before = from
			case at == g.apart:
				g.shared, g.apart, step = at, 0, 1
			default:
				g.shared, step = at, 2*step
			}
			continue
		}
		s.cuts = append(s.cuts, page.first)
		left := gap{after: g.after, before: page.first, shared: at}
		if other != 0 {
			left.shared, left.apart = g.shared, at
		}
		parts = append(parts, left)
		halved := at == g.apart
		g.apart, step = at, 1
		if g, more = page.behind(g); more && halved {
			return append(parts, g), nil
		}
	}
	return parts, nil
}

// middle returns a character in the middle of those that were seen in keys, come
// after c and, where before begins with same, before its next one; 0 if none does.
func (s *splitter) middle(c rune, same, before string) rune {
	end := rune(utf8.MaxRune)
	if tail, ok := strings.CutPrefix(before, same); ok {
		end, _ = utf8.DecodeRuneInString(tail)
	}
	var between []rune
	for r := range s.seen {
		if c < r && r < end {
			between = append(between, r)
		}
	}
	if len(between) == 0 {
		return 0
	}
	slices.Sort(between)
	return between[len(between)/2]
}

// ends are the first and the last key of a page; none of an empty one.
type ends struct {
	first, last string
	more        bool // keys come after it
}

// behind returns what of g comes after the page, and whether anything does.
func (e ends) behind(g gap) (gap, bool) {
	g.after = e.last
	return g, e.more && (g.before == "" || e.last < g.before)
}

// read reads the page after a string.
func (s *splitter) read(ctx context.Context, after string) (ends, error) {
	s.calls++
	out, err := s.bucket.S3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &s.bucket.Name, Prefix: text(s.prefix), StartAfter: text(after), EncodingType: types.EncodingTypeUrl,
	})
	if err != nil {
		return ends{}, fmt.Errorf("list %s: %w", s.bucket.Name, err)
	}
	page, err := s.bucket.read(out, after)
	if err != nil || len(page) == 0 {
		return ends{}, err
	}
	for _, object := range page {
		for _, c := range object.Key {
			s.seen[c] = true
		}
	}
	return ends{page[0].Key, page[len(page)-1].Key, aws.ToBool(out.IsTruncated)}, nil
}
