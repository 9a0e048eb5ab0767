package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// nobody is the user and group for machines that have no user postgres.
const nobody = 65534

// owner is the user the server runs as: ours, unless we are root, whom PostgreSQL refuses.
type owner struct {
	uid, gid uint32
	switched bool
}

// chooseOwner prefers, as root, the user to whom an existing data directory belongs.
func chooseOwner(data string) (owner, error) {
	if os.Getuid() != 0 {
		return owner{uid: uint32(os.Getuid()), gid: uint32(os.Getgid())}, nil
	}
	o := owner{uid: nobody, gid: nobody, switched: true}
	if u, err := user.Lookup(Superuser); err == nil {
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return owner{}, fmt.Errorf("user %s: %w", Superuser, err)
		}
		o.uid, o.gid = uint32(uid), uint32(gid)
	}
	if info, err := os.Stat(data); err == nil {
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 {
			o.uid, o.gid = st.Uid, st.Gid
		}
	}
	return o, nil
}

func (o owner) attributes() *syscall.SysProcAttr {
	if !o.switched {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.gid}}
}

func (o owner) mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return o.take(path)
}

// writeFile replaces a file by one that belongs to the owner, in whose directory it may stand. O_EXCL, because another
// user's directory may hold a link to anywhere.
func (o owner) writeFile(path string, content []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, writeErr := f.Write(content)
	var ownErr error
	if o.switched {
		ownErr = f.Chown(int(o.uid), int(o.gid))
	}
	return errors.Join(writeErr, ownErr, f.Close())
}

func (o owner) take(path string) error {
	if !o.switched {
		return nil
	}
	return os.Lchown(path, int(o.uid), int(o.gid))
}

// canTraverse checks that every directory from the root down to path is open to the owner, and names the one that is not.
func (o owner) canTraverse(path string) error {
	if !o.switched {
		return nil
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !o.mayEnter(info) {
			return fmt.Errorf("%s is closed (%s) to uid %d, as which the server has to run because PostgreSQL refuses root: chmod o+x it or choose another directory",
				dir, info.Mode(), o.uid)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (o owner) mayEnter(info fs.FileInfo) bool {
	st, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case st.Uid == o.uid:
		return mode&0o100 != 0
	case st.Gid == o.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// reachableBinaries returns bin, or where it lies closed to the owner, as npm's packages do in root's home, a copy of the
// whole installation at the given place.
func (o owner) reachableBinaries(bin, place string) (string, error) {
	closed := o.canTraverse(bin)
	if closed == nil {
		return bin, nil
	}
	installation := filepath.Dir(bin)
	if !strings.HasSuffix(bin, filepath.Join("native", "bin")) {
		return "", closed
	}
	copied := filepath.Join(place, "bin")
	if _, err := os.Stat(copied); err == nil {
		return copied, nil
	}
	unfinished := place + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := os.CopyFS(unfinished, os.DirFS(installation)); err != nil {
		return "", fmt.Errorf("copy %s, which uid %d cannot enter: %w", installation, o.uid, err)
	}
	if err := os.Rename(unfinished, place); err != nil {
		return "", err
	}
	return copied, o.canTraverse(copied)
}
