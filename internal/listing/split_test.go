package listing_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/listing/listingtest"
)

// Whatever the keys are, the ranges hold each once, in order.
func TestSplitCoversEveryKeyOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		// Few characters make many common beginnings; the others are at the edges of
		// what UTF-8 has.
		character := rapid.RuneFrom([]rune("ab/.0é日\x00\x7f\u07ff\ud7ff\ue000\ufffd\uffff\U0010ffff"))
		n := rapid.SampledFrom([]int{0, 1, 20, 300}).Draw(rt, "number")
		keys := rapid.SliceOfN(rapid.StringOfN(character, 1, 8, -1), n, n).Draw(rt, "keys")
		if folder := rapid.StringOfN(character, 0, 20, -1).Draw(rt, "folder"); folder != "" {
			for i := range keys {
				if i%3 > 0 {
					keys[i] = folder + keys[i]
				}
			}
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		fake := listingtest.Of(object, keys...)
		fake.Page = rapid.IntRange(1, 20).Draw(rt, "page")
		bucket := listing.Bucket{S3: fake, Name: "b"}
		prefix := rapid.SampledFrom([]string{"", "a", "a/", "/", "日"}).Draw(rt, "prefix")
		ranges, err := bucket.Split(t.Context(), prefix)
		if err != nil {
			rt.Fatal(err)
		}
		if n := fake.Lists.Load(); n > 128 || len(ranges) > 64 {
			rt.Fatalf("got %d ranges by %d requests, want at most 64 by 128", len(ranges), n)
		}
		var got []string
		for _, r := range ranges {
			for o, err := range bucket.Objects(t.Context(), r) {
				if err != nil {
					rt.Fatal(err)
				}
				got = append(got, o.Key)
			}
		}
		want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !strings.HasPrefix(key, prefix) })
		if !slices.Equal(want, got) {
			rt.Fatalf("got %q, want %q in %+v", got, want, ranges)
		}
	})
}

// A hundred pages are cut so that no range is much of them.
func TestSplitCutsWhatBucketsLookLike(t *testing.T) {
	t.Parallel()
	const n, page = 10_000, 100
	for name, key := range map[string]func(i int, hash string) string{
		"folders by number":   func(i int, _ string) string { return fmt.Sprintf("dir%05d/file", i) },
		"folders by hash":     func(_ int, hash string) string { return hash + "/file" },
		"flat, by hash":       func(_ int, hash string) string { return hash },
		"flat, by number":     func(i int, _ string) string { return fmt.Sprintf("image-2024-%06d.jpg", i) },
		"flat, without zeros": func(i int, _ string) string { return fmt.Sprint(i) },
		"one deep folder":     func(_ int, hash string) string { return "data/objects/" + hash + ".parquet" },
		"by date": func(i int, hash string) string {
			return fmt.Sprintf("logs/2024/%02d/%02d/%s.gz", i%12+1, i/12%28+1, hash)
		},
		"Chinese": func(i int, hash string) string {
			return string([]rune{'\u4e00' + rune(i*7919%20_000), '\u4e00' + rune(i)}) + hash
		},
		"several scripts": func(i int, hash string) string {
			return []string{"A", "b", "项目", "logs/x", "été"}[i%5] + "/" + hash
		},
		"files before folders": func(i int, hash string) string {
			if i < page {
				return fmt.Sprintf("a%03d", i)
			}
			return fmt.Sprintf("folder%02d/%s", i%50, hash)
		},
		"a folder beside folders": func(i int, hash string) string {
			if i%10 > 0 {
				return fmt.Sprintf("z/large/data/%06d", i)
			}
			return fmt.Sprintf("small%05d/x", i)
		},
		"by partition": func(i int, hash string) string {
			return fmt.Sprintf("data/region=us-east-%d/year=20%d/month=%02d/day=%02d/%s.parquet", i%3, 20+i%5, i/5%12+1, i/60%28+1, hash)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := make([]string, n)
			for i := range keys {
				keys[i] = key(i, fmt.Sprintf("%.8x", sha256.Sum256(fmt.Append(nil, i))))
			}
			slices.Sort(keys)
			fake := listingtest.Of(object, keys...)
			fake.Page = page
			ranges, err := listing.Bucket{S3: fake, Name: "b"}.Split(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			most, from := 0, 0
			for _, r := range ranges {
				to := n
				if r.Last != "" {
					to = sort.SearchStrings(keys, r.Last+"\x00")
				}
				most, from = max(most, to-from), to
			}
			if most > n/5 || fake.Lists.Load() > 128 {
				t.Errorf("got a range with %d of %d keys, among %d that took %d requests", most, n, len(ranges), fake.Lists.Load())
			}
		})
	}
}

// What one page holds is not worth a second request.
func TestSplitLeavesASmallBucketWhole(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{0, 1, 5} {
		var all []string
		for i := range keys {
			all = append(all, fmt.Sprint("k", i))
		}
		fake := listingtest.Of(object, all...)
		fake.Page = 5
		ranges, err := listing.Bucket{S3: fake, Name: "b"}.Split(t.Context(), "")
		if err != nil || len(ranges) != 1 || ranges[0] != (listing.Range{}) || fake.Lists.Load() > 1 {
			t.Errorf("%d keys: got %+v by %d requests, %v", keys, ranges, fake.Lists.Load(), err)
		}
	}
}

func TestSplitFailsWithTheListing(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for n := range 5 {
		fake := listingtest.Of(object, "a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2")
		fake.Page = 1
		fake.Err = func(string) error {
			if fake.Lists.Load() > int64(n) {
				return broken
			}
			return nil
		}
		if ranges, err := (listing.Bucket{S3: fake, Name: "b"}).Split(t.Context(), ""); !errors.Is(err, broken) {
			t.Errorf("after %d requests: got %+v, %v", n, ranges, err)
		}
	}
}
