//go:build unix && (!linux || race)

package conn

import "syscall"

func receive(fd uintptr, p []byte, flags int) (int, error) {
	if flags == 0 {
		return syscall.Read(int(fd), p)
	}
	n, _, err := syscall.Recvfrom(int(fd), p, flags|syscall.MSG_DONTWAIT)
	return n, err
}

func send(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }
