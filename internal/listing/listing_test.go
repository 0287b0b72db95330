package listing_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/listing/listingtest"
)

var object = listing.Object{ETag: "e", Size: 1, Modified: time.Unix(1_700_000_000, 0)}

func keysOf(t *testing.T, b listing.Bucket, r listing.Range) (keys []string) {
	t.Helper()
	for o, err := range b.Objects(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func TestPages(t *testing.T) {
	all := []string{"a", "a b", "a+b", "a/", "a/1", "a/2", "b\x01", "b\n", "日本", "🚢"}
	slices.Sort(all)
	for name, tc := range map[string]struct {
		listed listing.Range
		want   []string
	}{
		"all":             {listing.Range{}, all},
		"prefix":          {listing.Range{Prefix: "a/"}, []string{"a/", "a/1", "a/2"}},
		"after":           {listing.Range{Prefix: "a", After: "a/"}, []string{"a/1", "a/2"}},
		"up to":           {listing.Range{Last: "a/"}, []string{"a", "a b", "a+b", "a/"}},
		"up to no key":    {listing.Range{Last: "a0"}, []string{"a", "a b", "a+b", "a/", "a/1", "a/2"}},
		"between":         {listing.Range{After: "a+b", Last: "a/1"}, []string{"a/", "a/1"}},
		"nothing between": {listing.Range{After: "a/", Last: "a/"}, nil},
		"no such prefix":  {listing.Range{Prefix: "x"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for page := range 4 {
				fake := listingtest.Of(object, all...)
				fake.Page = page
				got := keysOf(t, listing.Bucket{S3: fake, Name: "b"}, tc.listed)
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("in pages of %d (-want +got):\n%s", page, diff)
				}
			}
		})
	}
}

func TestObjectIsAsListed(t *testing.T) {
	want := object
	want.Key = "k"
	for got, err := range (listing.Bucket{S3: listingtest.Of(object, "k"), Name: "b"}).Objects(t.Context(), listing.Range{}) {
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestAnotherOrderIsAnError(t *testing.T) {
	for _, keys := range [][]string{{"b", "a"}, {"a", "a"}, {"a/b", "a.txt"}} {
		var got error
		for _, err := range (listing.Bucket{S3: listingtest.Of(object, keys...), Name: "b"}).Pages(t.Context(), listing.Range{}) {
			got = err
		}
		if got == nil || !strings.Contains(got.Error(), "expected the order of UTF-8 bytes") {
			t.Errorf("%q: got %v", keys, got)
		}
	}
}

func TestAnErrorEndsTheListing(t *testing.T) {
	broken := errors.New("broken")
	fake := listingtest.Of(object, "a", "b", "c")
	fake.Page = 1
	fake.Err = func(after string) error {
		if after == "b" {
			return broken
		}
		return nil
	}
	var seen int
	var last error
	for _, err := range (listing.Bucket{S3: fake, Name: "b"}).Pages(t.Context(), listing.Range{}) {
		seen, last = seen+1, err
	}
	if seen != 3 || !errors.Is(last, broken) {
		t.Errorf("%d pages, then %v", seen, last)
	}
}
