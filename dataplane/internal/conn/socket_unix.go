//go:build unix

package conn

import "syscall"

// socketReads: readSocket, writeSocket and hungUp work here.
const socketReads = true

func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := receive(fd, p)
		if err != syscall.EINTR { //nolint:errorlint // a plain errno
			return n, err
		}
	}
}

func writeSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := send(fd, p)
		if err != syscall.EINTR { //nolint:errorlint // a plain errno
			return n, err
		}
	}
}

// hungUp says whether the peer has closed or reset the connection and all it sent was read.
func hungUp(fd uintptr) bool {
	var p [1]byte
	n, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	if err == nil {
		return n == 0
	}
	return err != syscall.EAGAIN && err != syscall.EINTR
}
