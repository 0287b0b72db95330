package lambda

import (
	"os"
	"syscall"
)

// terminate asks the process to end. It is an error where that cannot be asked,
// as on Windows, and where the process is gone.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
