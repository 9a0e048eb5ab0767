//go:build unix && (!linux || race)

package conn

import "syscall"

func receive(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

func send(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }
