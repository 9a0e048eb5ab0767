package harness

import (
	"os"
	"path/filepath"
	"strings"
)

// RecoveryKey makes a recovery key and returns the files with its two halves.
func (c *Cluster) RecoveryKey() (identity, recipient string) {
	c.T.Helper()
	dir := c.T.TempDir()
	identity, recipient = filepath.Join(dir, "recovery.key"), filepath.Join(dir, "recovery.pub")
	public := c.once(nil, "keyring", "recovery-key", "--identity", identity)
	if err := os.WriteFile(recipient, public, 0o600); err != nil {
		c.T.Fatal(err)
	}
	return identity, recipient
}

// BackupKeyrings backs the keyrings up and returns the file.
func (c *Cluster) BackupKeyrings(recipient string) string {
	c.T.Helper()
	file := filepath.Join(c.T.TempDir(), "keyrings")
	c.once(c.env(), "keyring", "backup", "--recipient", recipient, "--out", file)
	return file
}

// RestoreKeyrings puts keyrings back under the key-encryption key there is now, and returns what was said.
func (c *Cluster) RestoreKeyrings(identity, backup string) string {
	c.T.Helper()
	return strings.TrimSpace(string(c.once(c.env(), "keyring", "restore", "--identity", identity, "--backup", backup)))
}

// LoseKEK forgets the key-encryption key and makes another one, which replicas get when they are restarted. It answers
// the variables of the one that was.
func (c *Cluster) LoseKEK() (was []string) {
	was = c.kek
	c.kek = []string{"KEYWARD_KEK=" + secret()}
	return was
}
