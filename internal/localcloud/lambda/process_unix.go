//go:build unix && !linux

package lambda

import (
	"os/exec"
	"syscall"
)

// dieWithParent keeps a terminal's Ctrl-C for the parent, which ends its
// children in order. Orphans end by themselves: the runtime client of a function
// exits as soon as it cannot reach the Runtime API.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
