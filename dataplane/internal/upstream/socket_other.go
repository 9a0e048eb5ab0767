//go:build !unix

package upstream

import "errors"

const canLook = false

func lookAt(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
