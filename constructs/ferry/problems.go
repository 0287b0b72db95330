package ferry

import (
	"fmt"
	"strings"
	"time"
)

// problems collects all that is wrong with the props of one construct.
type problems []string

// check notes a problem unless ok.
func (p *problems) check(ok bool, prop string, got any, expected, change string) {
	if !ok {
		*p = append(*p, fmt.Sprintf("%s: got %v, expected %s: %s", prop, got, expected, change))
	}
}

// report panics with every problem noted, if there is one.
func (p problems) report(construct, id string) {
	if len(p) > 0 {
		panic(fmt.Sprintf("ferry: the props of %s %q have %d problem(s):\n  %s",
			construct, id, len(p), strings.Join(p, "\n  ")))
	}
}

// or returns value, or fallback if value is the zero value.
func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func (p *problems) checkConcurrency(n int) {
	p.check(n == 0 || n >= minConcurrency && n <= maxConcurrency,
		"Concurrency", n, fmt.Sprintf("%d to %d invocations", minConcurrency, maxConcurrency), "leave it out for 10")
}

func (p *problems) checkAge(age time.Duration) {
	p.check(age == 0 || age >= time.Minute && age <= retention,
		"OldestMessageAge", age, fmt.Sprintf("1m to %s", retention), "leave it out for 1h")
}
