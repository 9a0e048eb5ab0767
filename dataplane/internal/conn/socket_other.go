//go:build !unix

package conn

import "errors"

const socketReads = false

func readSocket(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func writeSocket(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func hungUp(uintptr) bool { return false }

func silent(uintptr) bool { return false }
