package version

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	other := debug.Module{Path: "example.com/app", Version: "v9.0.0"}
	ours := func(version string, replace *debug.Module) debug.Module {
		return debug.Module{Path: module, Version: version, Replace: replace}
	}
	for name, tc := range map[string]struct {
		main debug.Module
		deps []debug.Module
		want string
	}{
		"the program":        {ours("v1.2.3", nil), []debug.Module{other}, "v1.2.3"},
		"of go run":          {ours(Unknown, nil), nil, Unknown},
		"without a version":  {ours("", nil), nil, Unknown},
		"required":           {other, []debug.Module{{Path: "example.com/a", Version: "v5.0.0"}, ours("v1.2.3", nil)}, "v1.2.3"},
		"replaced by a copy": {other, []debug.Module{ours("v1.2.3", &debug.Module{Path: "../s3ferry"})}, Unknown},
		"replaced by a fork": {other, []debug.Module{ours("v1.2.3", &debug.Module{Path: "example.com/fork", Version: "v1.3.0"})}, "v1.3.0"},
		"not there":          {other, nil, Unknown},
	} {
		info := &debug.BuildInfo{Main: tc.main}
		for i := range tc.deps {
			info.Deps = append(info.Deps, &tc.deps[i])
		}
		if got := of(info); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

func TestNewer(t *testing.T) {
	inOrder := []string{
		"v0.0.0-20261101000000-aaaaaaaaaaaa", "v0.0.0-20261129023000-000000000000", "v0.1.0-rc.1", "v0.1.0",
		"v0.1.1-0.20261130000000-bbbbbbbbbbbb", "v0.2.0", "v0.10.0", "v1.0.0",
	}
	for i, a := range inOrder {
		for k, b := range inOrder {
			if got := Newer(a, b); got != (i > k) {
				t.Errorf("%s newer than %s: got %t", a, b, got)
			}
		}
	}
	for _, pair := range [][2]string{{Unknown, "v1.0.0"}, {"v1.0.0", Unknown}, {"v1.0.0", ""}, {"v1.0.0+dirty", "v1.0.0"}} {
		if Newer(pair[0], pair[1]) {
			t.Errorf("%s is newer than %s", pair[0], pair[1])
		}
	}
}
