package conn

import "syscall"

// closedByPeer says whether the peer has closed or reset the connection, whether or not all it sent was read. Over TLS
// something always waits to be read: the alert that says so. The first byte of tcp_info is the state.
func closedByPeer(fd uintptr) bool {
	const closed, closeWait = 7, 8 // TCP_CLOSE, TCP_CLOSE_WAIT
	info, err := syscall.GetsockoptInet4Addr(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
	return err == nil && (info[0] == closed || info[0] == closeWait)
}
