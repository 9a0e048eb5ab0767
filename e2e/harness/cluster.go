// Package harness starts the real thing: PostgreSQL, control-plane replicas, gateways, nginx, each on free ports with
// its own data, and drives them through their public interfaces. Nothing it starts outlives the test.
package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/openapicheck"
	"keyward.dev/shared/testkit/pgserver"
)

// Options say what a cluster has. The zero value has one replica and no gateway.
type Options struct {
	Replicas int
	// ReplicaArgs are further arguments of keyward-controlplane serve.
	ReplicaArgs []string
	// DatabaseLink puts a link between replicas and database, see Cluster.Database.
	DatabaseLink bool
	// DatabaseParameters are settings of the database, such as track_commit_timestamp.
	DatabaseParameters map[string]string
	// Programs are what Cluster.Programs begins with.
	Programs Release
	// KEK are the variables that say where the key-encryption key is; nil: a fresh key in KEYWARD_KEK.
	KEK []string
	// Mixed: the replicas will be of several releases, so that answers cannot be held against one OpenAPI document.
	Mixed bool
}

// Cluster is an installation.
type Cluster struct {
	T   testing.TB
	Dir string
	PG  *pgserver.Server
	// Database is the replicas' way to the database, if it was asked for.
	Database *Link
	Replicas []*Replica
	// Programs are what is started from now on: replicas, gateways, the CLI and commands.
	Programs Release
	// Token is the admin token, CACert the path of the CA of the admin API.
	Token, CACert string

	kek        []string
	parameters map[string]string // of the database
	runtimeURL string
	// runtimePassword is that of the role in runtimeURL.
	runtimePassword string
	client          *http.Client
	preferred       int // see UseReplica
	roots           *x509.CertPool
	openapi         *openapicheck.Checker
}

// Replica is one control-plane process.
type Replica struct {
	*Process
	Admin, Sync, Status string // host:port
}

const (
	database = "keyward"
	startUp  = 60 * time.Second
)

// New starts an installation and waits until it is ready.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyward-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the database runs as another user when tests run as root
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &Cluster{T: t, Dir: dir, Programs: o.Programs, kek: o.KEK, parameters: o.DatabaseParameters}
	if c.kek == nil {
		c.kek = []string{"KEYWARD_KEK=" + secret()}
	}
	c.startDatabase()
	c.bootstrap(o.DatabaseLink)
	for i := range max(o.Replicas, 1) {
		c.addReplica(fmt.Sprintf("replica-%d", i+1), o.ReplicaArgs)
	}
	for _, r := range c.Replicas {
		r.AwaitReady()
	}
	if !o.Mixed {
		c.checkOpenAPI()
	}
	return c
}

func secret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

func (c *Cluster) startDatabase() {
	c.T.Helper()
	c.launchDatabase(0)
	c.T.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.PG.Stop(ctx); err != nil {
			c.T.Log(err)
		}
	})
	if err := c.PG.Exec(c.T.Context(), "postgres", "create database "+database); err != nil {
		c.T.Fatal(err)
	}
}

func (c *Cluster) launchDatabase(port int) {
	c.T.Helper()
	pg, err := pgserver.Start(c.T.Context(), pgserver.Config{
		Dir: filepath.Join(c.Dir, "postgres"), Port: port, Durable: true, Parameters: c.parameters,
	})
	if err != nil {
		c.T.Fatal(err)
	}
	c.PG = pg
}

// StopDatabase takes the database away; StartDatabase brings it back with its data, where it was.
func (c *Cluster) StopDatabase() {
	c.T.Helper()
	if err := c.PG.Kill(); err != nil {
		c.T.Fatal(err)
	}
}

// StartDatabase starts the database again.
func (c *Cluster) StartDatabase() {
	c.T.Helper()
	c.launchDatabase(c.PG.Port())
}

// Restart ends a replica in order and starts it again; env is added to its environment, so that it can replace a setting.
// It does not wait until the replica is ready.
func (c *Cluster) Restart(r *Replica, env ...string) {
	c.T.Helper()
	r.Stop(20 * time.Second)
	r.env = append(c.env(), env...)
	r.Start()
}

// Replace ends a replica in order and starts it again as one of Cluster.Programs. It does not wait until it is ready.
func (c *Cluster) Replace(r *Replica) {
	c.T.Helper()
	r.path = c.Programs.program(c.T, "keyward-controlplane")
	c.Restart(r)
}

// bootstrap migrates the database and makes the installation.
func (c *Cluster) bootstrap(link bool) {
	c.T.Helper()
	password := pgserver.NewPassword()
	c.runtimePassword = password
	c.runtimeURL = c.PG.URLFor(database, "keyward_runtime", password)
	if link {
		c.Database = NewLink(c.T, c.databaseAddr())
		c.runtimeURL = strings.Replace(c.runtimeURL, c.databaseAddr(), c.Database.Addr, 1)
	}
	c.once([]string{"KEYWARD_DATABASE_URL=" + c.PG.URL(database), "KEYWARD_RUNTIME_PASSWORD=" + password}, "migrate")
	out := c.once(c.env(), "bootstrap")
	var made struct {
		Token       string `json:"token"`
		TrustBundle string `json:"trust_bundle"`
	}
	if err := json.Unmarshal(out, &made); err != nil || made.Token == "" {
		c.T.Fatalf("bootstrap printed %q: %v", out, err)
	}
	c.Token, c.CACert = made.Token, filepath.Join(c.Dir, "ca.pem")
	c.trust(made.TrustBundle)
}

// TakeTrustBundle asks for the roots, by which the control plane is verified from now on.
func (c *Cluster) TakeTrustBundle() {
	c.T.Helper()
	c.trust(c.MustCLI("", "ca", "show", "--bundle"))
	c.client.Transport = c.openapi.Transport(c.client.Transport)
}

func (c *Cluster) trust(bundle string) {
	c.T.Helper()
	if err := os.WriteFile(c.CACert, []byte(bundle), 0o600); err != nil {
		c.T.Fatal(err)
	}
	c.roots = x509.NewCertPool()
	c.roots.AppendCertsFromPEM([]byte(bundle))
	c.client = &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12}},
	}
	c.T.Cleanup(c.client.CloseIdleConnections)
}

// checkOpenAPI holds every request of the test and its answer against the document that the control plane serves.
func (c *Cluster) checkOpenAPI() {
	c.T.Helper()
	document := c.REST(http.MethodGet, "/openapi.json", "")
	checker, err := openapicheck.New(document.Body)
	if err != nil {
		c.T.Fatalf("/openapi.json (%d): %v", document.Status, err)
	}
	c.openapi = checker
	c.client.Transport = checker.Transport(c.client.Transport)
	c.T.Cleanup(func() {
		for _, fault := range checker.Faults() {
			c.T.Errorf("OpenAPI: %v", fault)
		}
	})
}

// OpenAPI checks exchanges with the admin API; every one made through the cluster already is.
func (c *Cluster) OpenAPI() *openapicheck.Checker { return c.openapi }

// Roots verify the admin API and the gateways' HTTPS of an installation.
func (c *Cluster) Roots() *x509.CertPool { return c.roots }

func (c *Cluster) env() []string {
	return append([]string{"KEYWARD_DATABASE_URL=" + c.runtimeURL}, c.kek...)
}

// once runs a subcommand of keyward-controlplane to its end and returns its standard output.
func (c *Cluster) once(env []string, args ...string) []byte {
	c.T.Helper()
	cmd := exec.CommandContext(c.T.Context(), c.Programs.program(c.T, "keyward-controlplane"), args...)
	cmd.Env = append(environment(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.T.Fatalf("keyward-controlplane %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// NewKEK makes a key-encryption key, as KEYWARD_KEK takes it.
func NewKEK() string { return secret() }

// SetKEK changes the variables that say where the key-encryption key is, for what is started from now on.
func (c *Cluster) SetKEK(variables ...string) { c.kek = variables }

// Migrate runs keyward-controlplane migrate again.
func (c *Cluster) Migrate() {
	c.T.Helper()
	c.once([]string{"KEYWARD_DATABASE_URL=" + c.PG.URL(database), "KEYWARD_RUNTIME_PASSWORD=" + c.runtimePassword}, "migrate")
}

// Restore runs keyward-controlplane restore and returns what it said.
func (c *Cluster) Restore(args ...string) string {
	c.T.Helper()
	return string(c.once(c.env(), append([]string{"restore"}, args...)...))
}

// CheckDB runs check-db and returns what it said and whether it found everything good.
func (c *Cluster) CheckDB() (string, bool) {
	c.T.Helper()
	return c.CheckDBWith(c.kek...)
}

// CheckDBWith runs check-db with other variables that say where the key-encryption key is.
func (c *Cluster) CheckDBWith(kek ...string) (string, bool) {
	c.T.Helper()
	cmd := exec.CommandContext(c.T.Context(), c.Programs.program(c.T, "keyward-controlplane"), "check-db")
	cmd.Env = append(append(environment(), "KEYWARD_DATABASE_URL="+c.runtimeURL), kek...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// AddReplica starts a replica that has other variables for the key-encryption key, and waits until it is ready. It is not
// one of Replicas.
func (c *Cluster) AddReplica(name string, kek ...string) *Replica {
	c.T.Helper()
	others, was := c.Replicas, c.kek
	c.kek = kek
	c.addReplica(name, nil)
	r := c.Replicas[len(others)]
	c.Replicas, c.kek = others, was
	r.AwaitReady()
	return r
}

func (c *Cluster) addReplica(name string, args []string) {
	c.T.Helper()
	addrs := testkit.Addrs(c.T, 3)
	r := &Replica{Admin: addrs[0], Sync: addrs[1], Status: addrs[2]}
	args = append([]string{
		"serve", "--replica", name, "--admin-listen", r.Admin, "--sync-listen", r.Sync, "--status-listen", r.Status,
		"--log-level", "debug",
	}, args...)
	r.Process = NewProcess(c.T, name, c.Programs.program(c.T, "keyward-controlplane"), c.env(), args...)
	r.Start()
	c.Replicas = append(c.Replicas, r)
}

// AwaitReady waits until the replica is ready.
func (r *Replica) AwaitReady() {
	r.t.Helper()
	r.await(startUp, func() error { return readiness(r.Status) })
}

// NotReady answers why the replica is not ready, and an error if it is.
func (r *Replica) NotReady() (string, error) { return notReady(r.Status) }

// readiness asks a status port.
func readiness(addr string) error {
	resp, err := http.Get("http://" + addr + "/readyz") //nolint:noctx // a test's own server on loopback
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", bytes.TrimSpace(body))
	}
	return nil
}

// UseReplica makes everything that goes to one replica go to the one with this index, as long as it runs.
func (c *Cluster) UseReplica(i int) { c.preferred = i }

// SyncAddrs are the addresses gateways stream from.
func (c *Cluster) SyncAddrs() string {
	addrs := make([]string, 0, len(c.Replicas))
	for _, r := range c.Replicas {
		addrs = append(addrs, r.Sync)
	}
	return strings.Join(addrs, ",")
}
