package dev

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// state is the directory in which everything of one `keyward dev` is. It can be entered by everybody, because PostgreSQL
// may run as somebody else; every secret in it is in files or directories that only we can open.
type state struct {
	dir       string
	temporary bool
	lock      *os.File
}

// openState makes or takes over a state directory. Only one `keyward dev` can have it.
func openState(dir string) (*state, error) {
	s := &state{dir: dir}
	if dir == "" {
		tmp, err := os.MkdirTemp("", "keyward-dev-")
		if err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
		s.dir, s.temporary = tmp, true
	}
	var err error
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return nil, fmt.Errorf("find state directory: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if s.temporary {
		if err := os.Chmod(s.dir, 0o711); err != nil {
			return nil, fmt.Errorf("open state directory: %w", err)
		}
	}
	if s.lock, err = lock(s.path("lock")); err != nil {
		return nil, fmt.Errorf("state directory %s: %w", s.dir, err)
	}
	return s, s.mkdirs("secrets", "tls")
}

func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another keyward dev is using it")
	}
	return f, nil
}

func (s *state) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// mkdirs makes directories that only we can enter.
func (s *state) mkdirs(names ...string) error {
	for _, name := range names {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	return nil
}

// close gives the directory back, removing it if it was temporary.
func (s *state) close() error {
	defer s.lock.Close()
	if !s.temporary {
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove state directory: %w", err)
	}
	return nil
}

// secret answers the path of a secret file; where there is none yet, it is made with what fresh answers.
func (s *state) secret(name string, fresh func() ([]byte, error)) (string, error) {
	path := s.path("secrets", name)
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	data, err := fresh()
	if err != nil {
		return "", err
	}
	return path, writeSecret(path, data)
}

// writeSecret writes a file whole or not at all.
func writeSecret(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	return nil
}

func freshKEK() ([]byte, error) {
	key := make([]byte, 32)
	_, err := rand.Read(key)
	return key, err
}

// freshToken makes an admin token: kwa_<id>_<secret>.
func freshToken() ([]byte, error) {
	id, err := base62(12)
	if err != nil {
		return nil, err
	}
	secret, err := base62(32)
	if err != nil {
		return nil, err
	}
	return []byte("kwa_" + id + "_" + secret + "\n"), nil
}

func base62(n int) (string, error) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("draw random characters: %w", err)
		}
		out[i] = alphabet[k.Int64()]
	}
	return string(out), nil
}

// runtimeRole answers the role for a database that somebody gives: one for each state directory, so that two of them on
// one server do not change each other's password.
func (s *state) runtimeRole() (role, password string, err error) {
	path, err := s.secret("runtime-role", func() ([]byte, error) {
		return []byte("keyward_dev_" + strings.ToLower(rand.Text()[:8]) + " " + rand.Text() + "\n"), nil
	})
	if err != nil {
		return "", "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("read secret: %w", err)
	}
	role, password, ok := strings.Cut(strings.TrimSpace(string(data)), " ")
	if !ok {
		return "", "", fmt.Errorf("%s is damaged", path)
	}
	return role, password, nil
}

// isNew says whether this is the first run with the directory; done marks that it was gone through.
func (s *state) isNew() bool {
	_, err := os.Stat(s.path("initialised"))
	return errors.Is(err, fs.ErrNotExist)
}

func (s *state) done() error {
	if err := os.WriteFile(s.path("initialised"), nil, 0o600); err != nil {
		return fmt.Errorf("mark state directory: %w", err)
	}
	return nil
}
