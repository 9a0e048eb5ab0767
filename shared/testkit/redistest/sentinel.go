package redistest

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/daemon"
)

// Master is what the sentinel of StartSentinel calls the master.
const Master = "nonces"

// StartSentinel starts a Redis, another one that repeats it, and a sentinel, which makes the second the master soon after the first
// is gone. The sentinel has the same password.
func StartSentinel(t testing.TB) (sentinel string, master, replica *Server) {
	t.Helper()
	master = Start(t, "repl-diskless-sync-delay 0")
	host, port, _ := net.SplitHostPort(master.Address)
	replica = Start(t, "replicaof "+host+" "+port, "masterauth "+Password)
	testkit.Await(t, testkit.Deadline, func() error {
		said, err := replica.Do("INFO", "replication")
		if err == nil && !strings.Contains(said, "master_link_status:up") {
			err = errors.New("it does not repeat the master yet")
		}
		return err
	})
	watch := &Server{Address: testkit.Addr(t), t: t, program: master.program, dir: t.TempDir()}
	_, own, _ := net.SplitHostPort(watch.Address)
	config := watch.write("sentinel.conf", fmt.Sprintf(`bind 127.0.0.1
port %s
dir %s
requirepass %s
sentinel monitor %[4]s %s %s 1
sentinel auth-pass %[4]s %[3]s
sentinel down-after-milliseconds %[4]s 300
sentinel failover-timeout %[4]s 2000
`, own, watch.dir, Password, Master, host, port))
	watch.Daemon = daemon.Start(t, exec.Command(watch.program, config, "--sentinel"), filepath.Join(watch.dir, "log"), func() error {
		said, err := watch.Do("SENTINEL", "REPLICAS", Master)
		if err == nil && !strings.Contains(said, replica.Address) {
			err = errors.New("it does not know the replica yet")
		}
		return err
	})
	return watch.Address, master, replica
}
