package harness

import (
	"io/fs"
	"os"
	"syscall"
)

// own gives a file to whom another belongs.
func own(path string, like fs.FileInfo) error {
	if os.Getuid() != 0 {
		return nil
	}
	st := like.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // what os.Stat answers here
	return os.Lchown(path, int(st.Uid), int(st.Gid))
}
