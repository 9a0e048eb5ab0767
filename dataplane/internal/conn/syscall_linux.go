//go:build linux && !race

package conn

import (
	"syscall"
	"unsafe"
)

// The sockets never block, so the scheduler need not be told of the calls: that, and what it does about calls that take
// as long as the network's own work in the kernel, costs as much as they do. The race detector has to be told of them.

func receive(fd uintptr, p []byte, flags int) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), //nolint:gosec // the address is that of p for the time of the call
		uintptr(flags|syscall.MSG_DONTWAIT), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func send(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), //nolint:gosec // the address is that of p for the time of the call
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
