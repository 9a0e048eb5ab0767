package child

import (
	"os/exec"
	"syscall"
)

// tieToParent sets the death signal. The runtime applies it after it has changed the child's credentials, which would
// clear it.
func tieToParent(cmd *exec.Cmd, sig syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = sig
}
