// Package version tells which s3ferry a program is made of, and which of two is
// the newer one.
package version

import (
	"cmp"
	"runtime/debug"

	"golang.org/x/mod/semver"
)

const module = "github.com/s3ferry/s3ferry"

// Unknown is the version where the go command recorded none: in tests, and in
// what `go run` makes without -buildvcs=true.
const Unknown = "(devel)"

// Version is that of this module in the running program, whether it is the
// program's own or one that it requires: a tag, the pseudo-version of a commit,
// or Unknown.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Unknown
	}
	return of(info)
}

func of(info *debug.BuildInfo) string {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != module {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		return cmp.Or(m.Version, Unknown)
	}
	return Unknown
}

// Newer reports whether a comes after b. It is false if either is not known.
func Newer(a, b string) bool {
	return semver.IsValid(a) && semver.IsValid(b) && semver.Compare(a, b) > 0
}
