package page_test

import (
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/page"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// A chart paints an outcome without a colour in that of the next.
func TestEveryOutcomeHasAColour(t *testing.T) {
	t.Parallel()
	for _, outcome := range wire.Outcomes() {
		if n := strings.Count(string(page.Style()), "--"+string(outcome)+": #"); n != 2 {
			t.Errorf("%d colours of %s, want one by day and one by night", n, outcome)
		}
	}
}
