package proxybench_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load/proxybench"
	"keyward.dev/shared/testkit"
)

// server is a process that serves, and its family.
type server struct {
	*harness.Process
	pids []int
}

// contender is a proxy that is compared.
type contender struct {
	server
	name, logs string
	plain, tls string // host:port; no tls: it speaks none
	status     string // host:port of a gateway's status port
	refuses    bool   // without a key
}

// gateways is an installation of the product.
type gateways struct {
	cluster *harness.Cluster
	groups  map[string]bool // that exist
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// pinned says whether contenders have a processor of their own.
func (b *bench) pinned() bool { return b.workers == 1 && runtime.NumCPU() > 1 }

// contenderCPUs and otherCPUs are lists as taskset takes them.
func (b *bench) contenderCPUs() string {
	if b.pinned() {
		return strconv.Itoa(runtime.NumCPU() - 1)
	}
	return b.allCPUs()
}

func (b *bench) otherCPUs() string {
	if b.pinned() {
		return fmt.Sprintf("0-%d", runtime.NumCPU()-2)
	}
	return b.allCPUs()
}

func (b *bench) allCPUs() string { return fmt.Sprintf("0-%d", runtime.NumCPU()-1) }

// program finds a program, also where Debian puts servers, which an ordinary user's PATH leaves out.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed: run .tools/setup --bench", name)
	return ""
}

// manyFiles runs a program with as many open files as it may have.
const manyFiles = `ulimit -n "$(ulimit -Hn)" && exec "$@"`

// serve starts a program on the given processors.
func (b *bench) serve(name, cpus string, args ...string) server {
	b.t.Helper()
	args = append([]string{"-c", cpus, "/bin/sh", "-c", manyFiles, name, program(b.t, name)}, args...)
	s := server{Process: harness.NewProcess(b.t, name, program(b.t, "taskset"), nil, args...)}
	b.t.Cleanup(func() { s.Stop(10 * time.Second) }) // killed, nginx would leave workers behind
	s.Start()
	return s
}

// settle notes the family of a server that answers.
func (b *bench) settle(s *server) {
	b.t.Helper()
	pids, err := b.proc.Family(s.PID())
	if err != nil {
		b.t.Fatal(err)
	}
	s.pids = pids
}

// dir is a new directory that workers under another user may enter.
func (b *bench) dir() string {
	b.t.Helper()
	dir, err := os.MkdirTemp("", "keyward-bench-")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

func (b *bench) write(path, content string) string {
	b.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) startUpstream() {
	b.t.Helper()
	dir, addr := b.dir(), testkit.Addr(b.t)
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		b.t.Fatal(err)
	}
	for _, s := range proxybench.Sizes() {
		b.write(filepath.Join(dir, "files", s.Path), strings.Repeat("x", s.Bytes))
	}
	b.proc = proxybench.Proc{Root: "/proc"}
	up := b.serve("nginx", b.otherCPUs(), "-p", dir, "-c", b.write(filepath.Join(dir, "nginx.conf"), proxybench.UpstreamConfig(dir, addr)))
	b.await(&up, func() error { return answers(addr, "/1k", "", http.StatusOK) })
	b.upstream = &up
	b.upstreamAddr = addr
}

// await waits until a server does what check says.
func (b *bench) await(s *server, check func() error) {
	b.t.Helper()
	testkit.Await(b.t, time.Minute, func() error {
		if !s.Running() {
			b.t.Fatalf("a server ended:\n%s", s.Output())
		}
		return check()
	})
	b.settle(s)
}

// answers checks the status of one request.
func answers(addr, path, key string, want int) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil) //nolint:noctx // a server of this test
	if err != nil {
		return err
	}
	req.Host, req.Close = proxybench.HostName(0), true
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s%s answered %d, want %d", addr, path, resp.StatusCode, want)
	}
	return nil
}

// row returns the contenders of a row, which run.
func (b *bench) row(large bool) []*contender {
	b.t.Helper()
	if b.rows[large] == nil {
		start := time.Now()
		names := []string{proxybench.Nginx, proxybench.HAProxy, proxybench.NginxLua, proxybench.Bare, proxybench.Chain}
		if b.beside != "" {
			names = append(names, proxybench.Bare+proxybench.Beside, proxybench.Chain+proxybench.Beside)
		}
		b.rows[large] = b.startRow(large, names...)
		b.say("contenders started in %s", time.Since(start).Round(time.Second))
	}
	return b.rows[large]
}

// startRow starts contenders and checks that they do what is measured.
func (b *bench) startRow(large bool, names ...string) []*contender {
	b.t.Helper()
	hosts, consumers := 1, 1
	if large {
		hosts, consumers = proxybench.LargeRoutes, proxybench.LargeConsumers
	}
	var out []*contender
	for _, name := range names {
		var c *contender
		switch kind, beside := strings.CutSuffix(name, proxybench.Beside); kind {
		case proxybench.Bare, proxybench.Chain:
			c = b.startGateway(kind, beside, hosts, consumers)
		default:
			c = b.startPeer(name, b.site(hosts, consumers))
		}
		c.name = name
		b.await(&c.server, func() error { return answers(c.plain, "/1k", proxybench.Key(0), http.StatusOK) })
		without := http.StatusOK
		if c.refuses {
			without = http.StatusUnauthorized
		}
		if err := answers(c.plain, "/1k", "", without); err != nil {
			b.t.Fatalf("%s without a key: %v", name, err)
		}
		out = append(out, c)
	}
	return out
}

// site is what a peer is to serve. In the large row it serves plain HTTP only.
func (b *bench) site(hosts, consumers int) proxybench.Site {
	b.t.Helper()
	dir, addrs := b.dir(), testkit.Addrs(b.t, 2)
	s := proxybench.Site{Dir: dir, Plain: addrs[0], Upstream: b.upstreamAddr, Hosts: hosts, Workers: b.workers, Consumers: filepath.Join(dir, "consumers")}
	if hosts == 1 {
		s.TLS = addrs[1]
		s.CertFile, s.KeyFile, s.Combined = writeCertificate(b.t, dir)
	}
	b.write(s.Consumers, proxybench.ConsumerFile(consumers))
	b.write(filepath.Join(dir, "hosts.map"), proxybench.HostMap(hosts))
	return s
}

func (b *bench) startPeer(name string, s proxybench.Site) *contender {
	b.t.Helper()
	c := &contender{logs: "no", plain: s.Plain, tls: s.TLS}
	file := filepath.Join(s.Dir, "conf")
	switch name {
	case proxybench.HAProxy:
		c.server = b.serve("haproxy", b.contenderCPUs(), "-db", "-f", b.write(file, proxybench.HAProxyConfig(s)))
		return c
	case proxybench.NginxLua:
		c.refuses = true
		b.write(file, proxybench.NginxLuaConfig(s, b.write(filepath.Join(s.Dir, "policies.lua"), proxybench.Policies)))
	default:
		b.write(file, proxybench.NginxConfig(s))
	}
	c.server = b.serve("nginx", b.contenderCPUs(), "-p", s.Dir, "-c", file)
	return c
}

// startGateway starts a gateway of a group that has the row's routes and, with the chain, its policies and consumers; beside is for one of the
// other build.
func (b *bench) startGateway(name string, beside bool, hosts, consumers int) *contender {
	b.t.Helper()
	if b.gateways == nil {
		b.gateways = &gateways{cluster: harness.New(b.t, harness.Options{}), groups: map[string]bool{}}
	}
	cluster, group := b.gateways.cluster, fmt.Sprintf("%s-%d", name, hosts)
	if !b.gateways.groups[group] {
		b.gateways.groups[group] = true
		cluster.CreateGroup(group)
		for _, document := range proxybench.Documents(group, b.upstreamAddr, hosts, consumers, name == proxybench.Chain) {
			cluster.MustCLI(document, "apply", "-f", "-")
		}
	}
	dir, tls := b.dir(), testkit.Addr(b.t)
	cert, key, _ := writeCertificate(b.t, dir)
	args := []string{"--listen", "https=" + tls, "--tls-cert", cert, "--tls-key", key, "--log-level", "info"}
	c := &contender{logs: "no", tls: tls}
	if name == proxybench.Chain {
		c.logs, c.refuses = "file", true
		args = append(args, "--access-log", filepath.Join(dir, "access.log"))
	}
	env := []string{"KEYWARD_JOIN_TOKEN=" + cluster.JoinToken(group, 1), fmt.Sprintf("GOMAXPROCS=%d", b.workers)}
	if beside {
		own := cluster.Programs
		defer func() { cluster.Programs = own }()
		cluster.Programs = harness.BuiltIn(b.beside)
	}
	g := cluster.NewGatewayEnv(env, args...)
	g.Start()
	g.AwaitReady()
	b.pin(g.PID())
	c.server, c.plain, c.status = server{Process: g.Process}, g.HTTP, g.Status
	return c
}

// pin puts a process that runs already where contenders belong.
func (b *bench) pin(pid int) {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), program(b.t, "taskset"), "-a", "-c", "-p", b.contenderCPUs(), strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		b.t.Fatalf("taskset: %v: %s", err, out)
	}
}
