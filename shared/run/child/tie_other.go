//go:build !linux

package child

import (
	"os/exec"
	"syscall"
)

// tieToParent does nothing: only Linux can tie a process to its parent. Elsewhere a killed parent leaves its children.
func tieToParent(*exec.Cmd, syscall.Signal) {}
