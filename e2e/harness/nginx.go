package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
)

// Nginx starts a real nginx that answers every request with 200 and "hello", and returns its address.
func Nginx(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	dir, addr := t.TempDir(), testkit.Addr(t)
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s; ", kind, dir, kind)
	}
	conf := fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error;
events { worker_connections 1024; }
http { %[2]s access_log off; keepalive_requests 1000000; server { listen %[3]s; location / { default_type text/plain; return 200 "hello"; } } }
`, dir, temp.String(), addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p := NewProcess(t, "nginx", path, nil, "-p", dir, "-c", file)
	p.Start()
	p.await(10*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return addr
}
