// Package ldaptest gives tests an OpenLDAP directory each: the real server, on free ports with its own data, reached in the
// clear, over TLS and over StartTLS. A test that needs one is skipped, and says so, where slapd is not installed. Tests of the
// gateway and the end-to-end tests call it.
package ldaptest

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
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/daemon"
)

// What is in every directory; see entries. Reader is an account that may read everything but passwords, which nobody may.
const (
	BaseDN         = "dc=example,dc=test"
	PeopleDN       = "ou=people," + BaseDN
	GroupsDN       = "ou=groups," + BaseDN
	ReaderDN       = "cn=reader,ou=system," + BaseDN
	ReaderPassword = "reads, and no more"
)

// Server is a directory. Its certificate is for localhost and 127.0.0.1. What is stopped Restart starts again.
type Server struct {
	*daemon.Daemon
	// Address is where it speaks LDAP, also with StartTLS; TLSAddress where it speaks LDAPS.
	Address, TLSAddress string
	// CA is the authority of its certificate.
	CA *certtest.Cert

	t       testing.TB
	program string
	dir     string
}

// Start starts a directory with the entries of this package, and more, written as LDIF.
func Start(t testing.TB, more ...string) *Server {
	t.Helper()
	program := find(t)
	s := &Server{t: t, program: program, dir: t.TempDir()}
	addresses := testkit.Addrs(t, 2)
	s.Address, s.TLSAddress = addresses[0], addresses[1]
	s.CA = daemon.Certify(t, s.dir, "directory")
	s.write("slapd.conf", s.config())
	if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	ldif := s.write("entries.ldif", strings.Join(append([]string{entries}, more...), "\n\n"))
	// The same program, which adds entries by that name.
	load := exec.Command(program, "-T", "add", "-f", filepath.Join(s.dir, "slapd.conf"), "-l", ldif)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("slapd: load entries: %v: %s", err, out)
	}
	s.Restart()
	return s
}

// find answers the path of the program, or skips the test. Debian puts it where an ordinary user's PATH does not look.
func find(t testing.TB) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin", "/usr/local/libexec") {
		path := filepath.Join(dir, "slapd")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	if os.Getenv("KEYWARD_FULL") != "" {
		t.Fatal("slapd is not installed; make setup installs it")
	}
	t.Skip("NOT RUN: slapd is not installed; make setup installs it")
	return ""
}

// Restart starts a stopped directory at its addresses with its data.
func (s *Server) Restart() {
	s.t.Helper()
	// A debug level, even that of nothing, keeps it in the foreground.
	cmd := exec.Command(s.program, "-f", filepath.Join(s.dir, "slapd.conf"), "-d", "0",
		"-h", "ldap://"+s.Address+"/ ldaps://"+s.TLSAddress+"/")
	s.Daemon = daemon.Start(s.t, cmd, filepath.Join(s.dir, "log"), func() error {
		for _, address := range []string{s.Address, s.TLSAddress} {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				return err
			}
			c.Close()
		}
		return nil
	})
}

func (s *Server) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// modules are where Debian and others keep what slapd loads.
func modules() string {
	for _, dir := range []string{"/usr/lib/ldap", "/usr/lib/openldap", "/usr/lib64/openldap", "/usr/libexec/openldap"} {
		if _, err := os.Stat(filepath.Join(dir, "back_mdb.so")); err == nil {
			return fmt.Sprintf("modulepath %s\nmoduleload back_mdb.so\nmoduleload memberof.so\n", dir)
		}
	}
	return "" // built in
}

func schemas() string {
	dir := "/etc/ldap/schema"
	if _, err := os.Stat(dir); err != nil {
		dir = "/etc/openldap/schema"
	}
	var b strings.Builder
	for _, name := range []string{"core", "cosine", "inetorgperson", "nis"} {
		fmt.Fprintf(&b, "include %s/%s.schema\n", dir, name)
	}
	return b.String()
}

func (s *Server) config() string {
	return fmt.Sprintf(`%[1]s
%[2]s
pidfile %[3]s/slapd.pid
TLSCertificateFile %[3]s/cert.pem
TLSCertificateKeyFile %[3]s/key.pem
TLSCACertificateFile %[3]s/ca.pem
database mdb
suffix "%[4]s"
rootdn "%[5]s"
rootpw "%[6]s"
directory %[3]s/data
maxsize 67108864
dbnosync
index objectClass,uid,mail,cn,member,memberUid eq
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="%[7]s" read by self read by anonymous auth by * none
`, schemas(), modules(), s.dir, BaseDN, adminDN, adminPassword, ReaderDN)
}
