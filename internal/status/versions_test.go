package status

import (
	"strings"
	"testing"
)

func TestVersionsAreCompared(t *testing.T) {
	for name, tc := range map[string]struct {
		own, sender, receiver string
		why, note             string // in what is said; "": nothing is
	}{
		"all the same":           {"v1.0.0", "v1.0.0", "v1.0.0", "", ""},
		"a sender ahead":         {"v1.1.0", "v1.1.0", "v1.0.0", "deploy the receiver", ""},
		"a receiver ahead":       {"v1.1.0", "v1.0.0", "v1.1.0", "", "deploy the sender at your leisure"},
		"an older command":       {"v1.0.0", "v1.0.0", "v1.1.0", "", "the receiving side is of v1.1.0, and this s3ferry of v1.0.0"},
		"a newer command":        {"v2.0.0", "v1.0.0", "v1.0.0", "", ""},
		"commits":                {"(devel)", "v0.0.0-20261129120000-aaaaaaaaaaaa", "v0.0.0-20261128120000-bbbbbbbbbbbb+dirty", "deploy the receiver", ""},
		"a receiver unknown":     {"v1.0.0", "v1.0.0", "(devel)", "", ""},
		"a receiver not telling": {"v1.0.0", "v1.0.0", "", "", ""},
	} {
		why, notes := versions(tc.own, []Side{{Name: sending, Version: tc.sender}, {Name: receiving, Version: tc.receiver}})
		for _, of := range []struct {
			said []string
			want string
		}{{why, tc.why}, {notes, tc.note}} {
			if said := strings.Join(of.said, "; "); !strings.Contains(said, of.want) || of.want == "" && said != "" {
				t.Errorf("%s: got %q, want %q in it", name, said, of.want)
			}
		}
	}
}
