package ferry

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
)

// problems collects all that is wrong with the props of one construct.
type problems []string

// check notes a problem unless ok.
func (p *problems) check(ok bool, prop string, got any, expected, change string) {
	if !ok {
		*p = append(*p, fmt.Sprintf("%s: got %v, expected %s: %s", prop, got, expected, change))
	}
}

// checkRegion notes a given resource that is known to be in another region than
// the stack.
func (p *problems) checkRegion(scope constructs.Construct, prop string, resource awscdk.IResource) {
	stack, in := awscdk.Stack_Of(scope).Region(), resource.Env().Region
	if *awscdk.Token_IsUnresolved(stack) || *awscdk.Token_IsUnresolved(in) {
		return
	}
	p.check(*in == *stack, prop, "one in "+*in, "one in "+*stack+", where the stack is", "give another, or move the stack")
}

// checkQueue notes a given queue that cannot serve.
func (p *problems) checkQueue(scope constructs.Construct, prop string, queue awssqs.IQueue) {
	if queue == nil {
		return
	}
	p.check(!*queue.Fifo(), prop, "a FIFO queue", "a standard queue", "leave it out for a new one")
	p.checkRegion(scope, prop, queue)
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

func (p *problems) checkAge(prop string, age time.Duration) {
	p.check(age == 0 || age >= time.Minute && age <= retention,
		prop, age, fmt.Sprintf("1m to %s", retention), "leave it out for 1h")
}
