package lambda

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the process killed when the thread that starts it ends,
// however that happens, and keeps a terminal's Ctrl-C for the parent, which
// ends its children in order.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
