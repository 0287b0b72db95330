//go:build !unix

package lambda

import "os/exec"

// dieWithParent has nothing to set. Orphans end by themselves: the runtime
// client of a function exits as soon as it cannot reach the Runtime API.
func dieWithParent(*exec.Cmd) {}
