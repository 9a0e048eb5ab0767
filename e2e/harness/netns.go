package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Namespace is a network of its own, in which a process reaches the rest by wires only.
type Namespace struct {
	t    testing.TB
	name string
}

// NewNamespace makes one. The test is skipped where that is not allowed.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("NOT RUN: network namespaces need root, and ip of iproute2")
	}
	n := &Namespace{t: t, name: fmt.Sprintf("keyward-%d-%06x", os.Getpid(), rand.N(1<<24))}
	if out, err := exec.Command("ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: no network namespace can be made here: %s", out)
	}
	t.Cleanup(func() { n.ip("netns", "delete", n.name) })
	n.ip("-n", n.name, "link", "set", "lo", "up")
	return n
}

// ip runs ip(8).
func (n *Namespace) ip(args ...string) string {
	n.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Move makes the process one of the namespace, from its next start.
func (n *Namespace) Move(p *Process) {
	p.path, p.args = "ip", append([]string{"netns", "exec", n.name, p.path}, p.args...)
	if path, err := exec.LookPath("ip"); err == nil {
		p.path = path
	}
}

// Wire joins the namespace with the outside. What goes over it can be lost, without a word to either end.
type Wire struct {
	// Outside and Inside are the addresses of its ends.
	Outside, Inside string

	n             *Namespace
	outer, inner  string // devices
	toIn, toOuter string // their link-layer addresses
}

// Wire lays a wire. Its addresses are of the network for measuring devices (RFC 2544), which nobody routes.
func (n *Namespace) Wire() *Wire {
	n.t.Helper()
	id := rand.N(1 << 24)
	net4 := rand.N(1<<15) << 2
	address := func(i int) string { return fmt.Sprintf("198.%d.%d.%d", 18+net4>>16, net4>>8&255, net4&255+i) }
	w := &Wire{n: n, Outside: address(1), Inside: address(2), outer: fmt.Sprintf("kwo%06x", id), inner: fmt.Sprintf("kwi%06x", id)}
	n.ip("link", "add", w.outer, "type", "veth", "peer", "name", w.inner, "netns", n.name)
	n.ip("addr", "add", w.Outside+"/30", "dev", w.outer)
	n.ip("-n", n.name, "addr", "add", w.Inside+"/30", "dev", w.inner)
	n.ip("link", "set", w.outer, "up")
	n.ip("-n", n.name, "link", "set", w.inner, "up")
	w.toIn, w.toOuter = w.hardware("-n", n.name, "-o", "link", "show", w.inner), w.hardware("-o", "link", "show", w.outer)
	w.Heal()
	return w
}

// hardware is the link-layer address of a device.
func (w *Wire) hardware(show ...string) string {
	w.n.t.Helper()
	fields := strings.Fields(w.n.ip(show...))
	for i, f := range fields[:len(fields)-1] {
		if f == "link/ether" {
			return fields[i+1]
		}
	}
	w.n.t.Fatalf("no link-layer address of %s", w.outer)
	return ""
}

// nobody is a link-layer address that nobody has.
const nobody = "02:00:00:00:00:01"

// LoseInward loses what goes into the namespace.
func (w *Wire) LoseInward() { w.neighbours(nobody, w.toOuter) }

// LoseOutward loses what comes out of it.
func (w *Wire) LoseOutward() { w.neighbours(w.toIn, nobody) }

// Lose loses both.
func (w *Wire) Lose() { w.neighbours(nobody, nobody) }

// Heal loses nothing any more.
func (w *Wire) Heal() { w.neighbours(w.toIn, w.toOuter) }

// neighbours says to whom packets of either end are sent.
func (w *Wire) neighbours(inner, outer string) {
	w.n.t.Helper()
	w.n.ip("neigh", "replace", w.Inside, "lladdr", inner, "dev", w.outer, "nud", "permanent")
	w.n.ip("-n", w.n.name, "neigh", "replace", w.Outside, "lladdr", outer, "dev", w.inner, "nud", "permanent")
}

// NewGatewayInside describes a gateway in a namespace, which clients reach over the wire data and the control plane over
// another one.
func (c *Cluster) NewGatewayInside(n *Namespace, data *Wire, controlPlane, group string, args ...string) *Gateway {
	c.T.Helper()
	g := &Gateway{HTTP: net.JoinHostPort(data.Inside, "8080"), Status: net.JoinHostPort(data.Inside, "8081")}
	c.gatewayAt(g, controlPlane, []string{"KEYWARD_JOIN_TOKEN=" + c.JoinToken(group, 1)}, args)
	n.Move(g.Process)
	return g
}
