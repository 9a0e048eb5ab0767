package harness

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/shared/testkit"
)

// Nginx starts a real nginx that answers every request with 200 and "hello", and returns its address. It takes as many connections
// as may come at once where requests have waited for a gateway: those beyond it closes without a word.
func Nginx(t testing.TB) string {
	t.Helper()
	path, err := program("nginx")
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), testkit.Addr(t)
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 8192; }
http { %[2]s access_log off; keepalive_requests 1000000; server { listen %[3]s; location / { default_type text/plain; return 200 "hello"; } } }
`, dir, nginxTemp(dir), addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p := NewProcess(t, "nginx", path, nil, "-p", dir, "-c", file)
	p.Start()
	p.awaitListening(addr)
	return addr
}

// SlowNginx starts an nginx of one process at the address, which sends 20 KiB a second: /length with a length, and /chunks, to
// who takes gzip, without.
func SlowNginx(t testing.TB, addr string) *Process {
	t.Helper()
	path, err := program("nginx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	content := make([]byte, 1<<20)
	if _, err := rand.Read(content); err != nil { // which gzip does not make smaller
		t.Fatal(err)
	}
	for _, name := range []string{"length", "chunks"} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error; user root;
events { worker_connections 1024; }
http {
	%[2]s
	access_log off; default_type text/plain; limit_rate 20k; gzip_types text/plain;
	server { listen %[3]s; root %[1]s; location = /chunks { gzip on; gzip_proxied any; gzip_min_length 1; } }
}
`, dir, nginxTemp(dir), addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p := NewProcess(t, "slow nginx", path, nil, "-p", dir, "-c", file)
	p.Start()
	p.awaitListening(addr)
	return p
}

// nginxTemp keeps what nginx writes in a directory.
func nginxTemp(dir string) string {
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s; ", kind, dir, kind)
	}
	return temp.String()
}

// TLSNginx starts an nginx of one process that demands client certificates over TLS and answers with the subject of the one
// that it is shown, and returns its address. It is given its certificate, the key of that and the authorities of clients in PEM.
func TLSNginx(t testing.TB, certificate, key, clients string) string {
	t.Helper()
	path, err := program("nginx")
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), testkit.Addr(t)
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error;
events { worker_connections 1024; }
http {
	%[2]s
	access_log off; keepalive_requests 1000000; default_type text/plain;
	server {
		listen %[3]s ssl; ssl_certificate %[1]s/tls.crt; ssl_certificate_key %[1]s/tls.key; ssl_protocols TLSv1.2 TLSv1.3;
		ssl_client_certificate %[1]s/clients.crt; ssl_verify_client on; ssl_session_cache shared:tls:1m;
		location / { return 200 "$ssl_client_s_dn"; }
	}
}
`, dir, nginxTemp(dir), addr)
	for name, content := range map[string]string{"tls.crt": certificate, "tls.key": key, "clients.crt": clients, "nginx.conf": conf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := NewProcess(t, "TLS nginx", path, nil, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	p.Start()
	p.awaitListening(addr)
	return addr
}
