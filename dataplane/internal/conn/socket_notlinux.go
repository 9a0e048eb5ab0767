//go:build !linux

package conn

// closedByPeer cannot be known here.
func closedByPeer(uintptr) bool { return false }
