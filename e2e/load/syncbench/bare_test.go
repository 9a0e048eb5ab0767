package syncbench_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/run/child"
	"keyward.dev/shared/testkit"

	"keyward.dev/e2e/load/syncbench"
)

// bareFanOut is a bare server and its clients, each in a process of its own.
type bareFanOut struct {
	t                testing.TB
	server           int // pid
	trigger          io.Writer
	began, completed *json.Decoder
}

func (b *bench) startBare(streams int, messages []*syncv1.ConfigResponse) *bareFanOut {
	b.t.Helper()
	return startBare(b.t, streams, messages)
}

func startBare(t testing.TB, streams int, messages []*syncv1.ConfigResponse) *bareFanOut {
	t.Helper()
	dir, addr := t.TempDir(), testkit.Addr(t)
	writeBareCertificate(t, dir)
	if err := syncbench.WriteMessages(filepath.Join(dir, syncbench.BareMessages), messages); err != nil {
		t.Fatal(err)
	}
	f := &bareFanOut{t: t}
	var out io.Reader
	f.server, f.trigger, out = startSide(t, "server", dir, addr)
	f.began = json.NewDecoder(out)
	_, _, out = startSide(t, strconv.Itoa(streams), dir, addr)
	f.completed = json.NewDecoder(out)
	if _, err := line(f.completed); err != nil { // all are there
		t.Fatalf("the bare fan-out did not start: %v", err)
	}
	return f
}

// startSide starts this program as one side and returns its pid, its standard input and output.
func startSide(t testing.TB, side, dir, addr string) (int, io.Writer, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), bareEnv+"="+side, bareEnv+"_DIR="+dir, bareEnv+"_ADDR="+addr)
	cmd.Stderr = os.Stderr
	theirIn, in := pipe(t)
	out, theirOut := pipe(t)
	cmd.Stdin, cmd.Stdout = theirIn, theirOut
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Signal(syscall.SIGKILL); <-c.Done() })
	theirIn.Close()
	theirOut.Close()
	return c.PID(), in, out
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// round has the server send and returns how long it took until the last client had it.
func (f *bareFanOut) round() time.Duration {
	f.t.Helper()
	if _, err := io.WriteString(f.trigger, "\n"); err != nil {
		f.t.Fatal(err)
	}
	began, err := line(f.began)
	if err != nil {
		f.t.Fatal(err)
	}
	completed, err := line(f.completed)
	if err != nil {
		f.t.Fatal(err)
	}
	if began.Round != completed.Round {
		f.t.Fatalf("round %d began, round %d ended", began.Round, completed.Round)
	}
	return completed.At.Sub(began.At)
}

// writeBareCertificate writes a certificate that is its own authority, and its key.
func writeBareCertificate(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bare"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		syncbench.BareCert: {Type: "CERTIFICATE", Bytes: der}, syncbench.BareKey: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBareFanOut makes sure that the baseline does what it is measured for.
func TestBareFanOut(t *testing.T) {
	t.Parallel()
	f := startBare(t, 5, []*syncv1.ConfigResponse{
		{Message: &syncv1.ConfigResponse_Begin{Begin: &syncv1.Begin{Epoch: 1, FromRevision: 5}}},
		{Message: &syncv1.ConfigResponse_Frame{Frame: &syncv1.Frame{Kind: "routes", Uid: "u", Last: true, Bytes: make([]byte, 300)}}},
		{Message: &syncv1.ConfigResponse_Commit{Commit: &syncv1.Commit{Epoch: 1, Revision: 6, Digest: make([]byte, 32)}}},
	})
	for range 3 {
		if took := f.round(); took <= 0 || took > time.Minute {
			t.Errorf("a round took %v", took)
		}
	}
}
