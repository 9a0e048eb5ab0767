//go:build unix

package upstream

import "syscall"

// canLook: lookAt works here.
const canLook = true

// lookAt reads what is there into p without waiting. Without p it takes nothing and finds out only whether there is
// something, or the end.
func lookAt(fd uintptr, p []byte) (int, error) {
	var one [1]byte
	flags := 0
	if p == nil {
		p, flags = one[:], syscall.MSG_PEEK
	}
	for {
		n, _, err := syscall.Recvfrom(int(fd), p, flags|syscall.MSG_DONTWAIT)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errNothing{}
		default:
			return 0, err
		}
	}
}
