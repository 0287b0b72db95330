// Package settings reads the settings of an app from its context, as the CDK CLI
// merges it from cdk.json and the command line, and says of each one that is
// wrong what would be right.
package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is one setting.
type Setting struct {
	Name string // its side and its own, with a dot between: global.region
	Kind
}

// Kind is what a setting may be.
type Kind struct {
	Expected string               // in words
	Set      func(value any) bool // stores value, or reports that it is not as expected
}

// Read sets those of all that are in context: in an object under root, by side
// and name, or under root.side.name, which wins. It returns every problem. A
// setting that has one keeps the value it has.
func Read(context any, root string, all []Setting) []error {
	given, problems := flatten(context, root, all)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at := slices.IndexFunc(all, func(s Setting) bool { return s.Name == name })
		if at < 0 {
			problems = append(problems, unknown(name, root, all))
		} else if !all[at].Set(given[name]) {
			problems = append(problems, unexpected(root+"."+name, given[name], all[at].Expected))
		}
	}
	return problems
}

func unexpected(name string, got any, expected string) error {
	raw, err := json.Marshal(got)
	if err != nil {
		raw = fmt.Append(nil, got)
	}
	return fmt.Errorf("%s: got %s, expected %s", name, raw, expected)
}

// sides returns what is before the dot of the names, in their order.
func sides(all []Setting) []string {
	var found []string
	for _, s := range all {
		side, _, _ := strings.Cut(s.Name, ".")
		if !slices.Contains(found, side) {
			found = append(found, side)
		}
	}
	return found
}

// flatten returns the settings in context by name: those of the nested object,
// then those given by dotted name. A key of the context that misses root
// narrowly is a problem, since nobody else would report it.
func flatten(context any, root string, settings []Setting) (given map[string]any, problems []error) {
	given = map[string]any{}
	all, _ := context.(map[string]any)
	switch nested := all[root].(type) {
	case nil:
	case map[string]any:
		for side, values := range nested {
			object, ok := values.(map[string]any)
			switch {
			case ok:
				for name, value := range object {
					given[side+"."+name] = value
				}
			case slices.Contains(sides(settings), side):
				problems = append(problems, unexpected(root+"."+side, values, `an object such as {"region": "us-east-1"}`))
			default:
				given[side] = values // reported as unknown
			}
		}
	default:
		problems = append(problems, unexpected(root, nested, `an object such as {"global": {"region": "us-east-1"}}`))
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		first, name, _ := strings.Cut(key, ".")
		switch {
		case first == root:
			if name != "" {
				given[name] = all[key]
			}
		case distance(first, root) <= 2:
			problems = append(problems, fmt.Errorf("%s: there is no such setting, did you mean %s?", key, root+strings.TrimPrefix(key, first)))
		case slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == key }):
			problems = append(problems, fmt.Errorf("%[1]s: there is no such setting, did you mean %[2]s.%[1]s?", key, root))
		}
	}
	return given, problems
}

// unknown says that there is no setting of that name, and which the nearest is.
func unknown(name, root string, all []Setting) error {
	side, leaf, _ := strings.Cut(name, ".")
	var nearest string
	var known []string
	closest := 1 + max(2, len(leaf)/3) // further away is another word
	for _, s := range all {
		if strings.HasPrefix(s.Name, side+".") {
			known = append(known, s.Name)
		}
		if d := distance(strings.ToLower(name), strings.ToLower(s.Name)); d < closest {
			closest, nearest = d, s.Name
		}
	}
	if at := slices.IndexFunc(all, func(s Setting) bool { return strings.HasSuffix(s.Name, "."+leaf) }); nearest == "" && known != nil && at >= 0 {
		nearest = all[at].Name // the right name on the wrong side
	}
	if nearest != "" {
		return fmt.Errorf("%[1]s.%[2]s: there is no such setting, did you mean %[1]s.%[3]s?", root, name, nearest)
	}
	if known == nil {
		return fmt.Errorf("%[1]s.%[2]s: there is no such setting, expected them under %[1]s.%[3]s", root, name, strings.Join(sides(all), " or "+root+"."))
	}
	return fmt.Errorf("%s.%s: there is no such setting, expected one of %s", root, name, strings.Join(known, ", "))
}

// distance is how many characters have to be put in, taken out or changed to
// make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // the distances from what of a is done to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Text is a string that matches pattern.
func Text(to *string, pattern *regexp.Regexp, expected string) Kind {
	return Kind{expected, func(value any) bool {
		s, ok := value.(string)
		if !ok || !pattern.MatchString(s) {
			return false
		}
		*to = s
		return true
	}}
}

// Number is a whole number from low to high. From the command line it comes as
// text.
func Number(to *int, low, high int) Kind {
	return Kind{fmt.Sprintf("a whole number from %d to %d", low, high), func(value any) bool {
		n := math.NaN()
		switch v := value.(type) {
		case float64:
			n = v
		case string:
			if i, err := strconv.Atoi(v); err == nil {
				n = float64(i)
			}
		}
		if n != math.Trunc(n) || n < float64(low) || n > float64(high) {
			return false
		}
		*to = int(n)
		return true
	}}
}

// Flag is true or false. The command line gives text.
func Flag(to *bool) Kind {
	return Kind{Expected: "true or false", Set: func(value any) bool {
		switch value {
		case true, "true":
			*to = true
		case false, "false":
			*to = false
		default:
			return false
		}
		return true
	}}
}

// Span is a duration from low to high.
func Span(to *time.Duration, low, high time.Duration) Kind {
	return Kind{fmt.Sprintf("a duration from %s to %s, such as 45m", low, high), func(value any) bool {
		d, err := time.ParseDuration(fmt.Sprint(value))
		if err != nil || d < low || d > high {
			return false
		}
		*to = d
		return true
	}}
}
