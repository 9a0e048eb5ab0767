package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/pgserver"
)

// Backup is a copy of the whole database, taken while it was down.
type Backup struct {
	cluster *Cluster
	dir     string
}

// Backup stops the database in order, copies it, and starts it again.
func (c *Cluster) Backup() *Backup {
	c.T.Helper()
	dir, err := os.MkdirTemp(c.Dir, "backup-")
	if err != nil {
		c.T.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // as in New
		c.T.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.T.Context(), 30*time.Second)
	defer cancel()
	if err := c.PG.Stop(ctx); err != nil {
		c.T.Fatal(err)
	}
	b := &Backup{cluster: c, dir: dir}
	b.copy(c.PG.Dir(), dir)
	c.StartDatabase()
	return b
}

// copy copies the data of one server directory into another, with its owner.
func (b *Backup) copy(from, to string) {
	b.cluster.T.Helper()
	for _, name := range []string{"data", "password"} {
		cmd := exec.CommandContext(b.cluster.T.Context(), "cp", "-a", filepath.Join(from, name), to)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.cluster.T.Fatalf("copy the database: %v: %s", err, out)
		}
	}
}

// Restore takes the database away and brings back what it was at the backup.
func (b *Backup) Restore() {
	c := b.cluster
	c.T.Helper()
	c.StopDatabase()
	if err := os.RemoveAll(filepath.Join(c.PG.Dir(), "data")); err != nil {
		c.T.Fatal(err)
	}
	b.copy(b.dir, c.PG.Dir())
	c.StartDatabase()
}

// Standby is a second server that follows the first.
type Standby struct {
	cluster *Cluster
	server  *pgserver.Server
}

// StartStandby makes a backup the standby of the database. Synchronous: what is committed from now on is on both.
func (b *Backup) StartStandby(synchronous bool) *Standby {
	c := b.cluster
	c.T.Helper()
	info, err := os.Stat(filepath.Join(b.dir, "data"))
	if err != nil {
		c.T.Fatal(err)
	}
	signal := filepath.Join(b.dir, "data", "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		c.T.Fatal(err)
	}
	if err := own(signal, info); err != nil {
		c.T.Fatal(err)
	}
	primary := fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s application_name=standby", c.PG.Port(), pgserver.Superuser, c.PG.Password())
	server, err := pgserver.Start(c.T.Context(), pgserver.Config{
		Dir: b.dir, Durable: true, Parameters: map[string]string{"primary_conninfo": primary},
	})
	if err != nil {
		c.T.Fatal(err)
	}
	s := &Standby{cluster: c, server: server}
	c.T.Cleanup(func() { _ = server.Kill() })
	s.awaitStreaming()
	if synchronous {
		for _, statement := range []string{`alter system set synchronous_standby_names = 'standby'`, `select pg_reload_conf()`} {
			if err := c.PG.Exec(c.T.Context(), "postgres", statement); err != nil {
				c.T.Fatal(err)
			}
		}
		s.awaitState("sync")
	}
	return s
}

func (s *Standby) awaitStreaming() { s.awaitState("async") }

func (s *Standby) awaitState(state string) {
	c := s.cluster
	c.T.Helper()
	testkit.Await(c.T, 30*time.Second, func() error {
		rows, err := c.PG.Query(c.T.Context(), "postgres", `select state, sync_state from pg_stat_replication`)
		if err == nil && (len(rows) != 1 || rows[0][0] != "streaming" || rows[0][1] != state) {
			err = fmt.Errorf("replication is %v, want %s", rows, state)
		}
		return err
	})
}

// Detach makes the standby receive nothing any more; what is committed from now on is lost with the first server.
func (s *Standby) Detach() {
	c := s.cluster
	c.T.Helper()
	for _, statement := range []string{`alter system set primary_conninfo = ''`, `select pg_reload_conf()`} {
		if err := s.server.Exec(c.T.Context(), "postgres", statement); err != nil {
			c.T.Fatal(err)
		}
	}
	testkit.Await(c.T, 20*time.Second, func() error {
		rows, err := c.PG.Query(c.T.Context(), "postgres", `select state from pg_stat_replication`)
		if err == nil && len(rows) > 0 {
			err = fmt.Errorf("the standby is still %v", rows)
		}
		return err
	})
}

// Promote ends the first server as a crash does and makes the standby the database of the installation, which has to be
// reached by its link.
func (s *Standby) Promote() {
	c := s.cluster
	c.T.Helper()
	if c.PG != s.server {
		c.StopDatabase()
	}
	c.PG = s.server
	if err := s.server.Exec(c.T.Context(), "postgres", `select pg_promote()`); err != nil {
		c.T.Fatal(err)
	}
	c.Database.Turn(c.databaseAddr())
}

func (c *Cluster) databaseAddr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.PG.Port()))
}

// AwaitReceived waits until the standby has everything that the database has.
func (s *Standby) AwaitReceived() {
	c := s.cluster
	c.T.Helper()
	rows, err := c.PG.Query(c.T.Context(), "postgres", `select pg_current_wal_flush_lsn()`)
	if err != nil {
		c.T.Fatal(err)
	}
	testkit.Await(c.T, 20*time.Second, func() error {
		got, err := s.server.Query(c.T.Context(), "postgres", fmt.Sprintf(`select pg_last_wal_replay_lsn() >= '%s'`, rows[0][0]))
		if err == nil && got[0][0] != "t" {
			err = fmt.Errorf("the standby has not replayed %s", rows[0][0])
		}
		return err
	})
}
