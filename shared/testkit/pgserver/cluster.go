package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// cluster is a server's directory: <dir>/data belongs to the server's user, the rest to ours.
type cluster struct {
	dir      string
	config   Config
	owner    owner
	bin      string
	password string
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }
func (c *cluster) data() string            { return c.path("data") }

// prepare leaves an initialised data directory with the settings of this start.
func (c *cluster) prepare(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o711); err != nil {
		return err
	}
	if err := c.owner.canTraverse(c.dir); err != nil {
		return err
	}
	bin := c.config.BinDir
	if bin == "" {
		var err error
		if bin, err = FindBinaries(); err != nil {
			return err
		}
	}
	var err error
	if c.bin, err = c.owner.reachableBinaries(bin, c.path("native")); err != nil {
		return err
	}
	if err := c.initialise(ctx); err != nil {
		return err
	}
	return c.configure()
}

// initialise runs initdb once. It works on a directory of another name, so that an interrupted run leaves nothing that
// looks finished.
func (c *cluster) initialise(ctx context.Context) error {
	passwordFile := c.path("password")
	if _, err := os.Stat(c.data()); err == nil {
		password, err := os.ReadFile(passwordFile)
		c.password = string(password)
		return err
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.password = NewPassword()
	if err := os.WriteFile(passwordFile, []byte(c.password), 0o600); err != nil {
		return err
	}
	unfinished := c.path("data.unfinished")
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := c.owner.mkdir(unfinished); err != nil {
		return err
	}
	if err := c.initdb(ctx, unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, c.data())
}

func (c *cluster) initdb(ctx context.Context, data string) error {
	// initdb wants a directory that is empty, and a password file that its user can read.
	handover := c.path("initdb-password")
	if err := c.owner.writeFile(handover, []byte(c.password)); err != nil {
		return err
	}
	defer os.Remove(handover)
	args := []string{
		"-D", data, "-U", Superuser, "--pwfile", handover, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--data-checksums",
	}
	if !c.config.Durable {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), args...)
	cmd.Dir = c.dir
	cmd.Env = environment()
	cmd.SysProcAttr = c.owner.attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// configure writes what belongs to this start beside the settings initdb chose.
func (c *cluster) configure() error {
	parameters := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"password_encryption":     "scram-sha-256",
		"logging_collector":       "off",
		"timezone":                "UTC",
	}
	if !c.config.Durable {
		parameters["fsync"] = "off"
		parameters["synchronous_commit"] = "off"
		parameters["full_page_writes"] = "off"
	}
	if len(c.config.Certificate) > 0 {
		if err := c.owner.writeFile(filepath.Join(c.data(), "server.crt"), c.config.Certificate); err != nil {
			return err
		}
		if err := c.owner.writeFile(filepath.Join(c.data(), "server.key"), c.config.Key); err != nil {
			return err
		}
		parameters["ssl"] = "on"
	}
	maps.Copy(parameters, c.config.Parameters)

	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(parameters[name], "'", "''"))
	}
	// postgresql.auto.conf is read last; nothing here uses "alter system", which would write to it as well.
	if err := c.owner.writeFile(filepath.Join(c.data(), "postgresql.auto.conf"), []byte(text.String())); err != nil {
		return err
	}
	const access = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"
	return c.owner.writeFile(filepath.Join(c.data(), "pg_hba.conf"), []byte(access))
}
