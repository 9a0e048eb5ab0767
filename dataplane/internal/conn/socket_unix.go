//go:build unix

package conn

import "syscall"

// socketReads: readSocket, writeSocket and hungUp work here.
const socketReads = true

func readSocket(fd uintptr, p []byte) (int, error) { return readWith(fd, p, 0) }

func readWith(fd uintptr, p []byte, flags int) (int, error) {
	for {
		n, err := receive(fd, p, flags)
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
	n, err := readWith(fd, p[:], syscall.MSG_PEEK)
	if err == nil {
		return n == 0
	}
	return err != syscall.EAGAIN //nolint:errorlint // a plain errno
}

// silent says whether nothing has come that was not read, not even the end.
func silent(fd uintptr) bool {
	var p [1]byte
	_, err := readWith(fd, p[:], syscall.MSG_PEEK)
	return err == syscall.EAGAIN //nolint:errorlint // a plain errno
}
