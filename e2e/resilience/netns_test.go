package resilience_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// apart is a gateway in a network of its own. Clients and upstreams reach it over one wire, the control plane over the other.
type apart struct {
	c    *harness.Cluster
	g    *harness.Gateway
	wire *harness.Wire
}

func newApart(t *testing.T) *apart {
	t.Helper()
	n := harness.NewNamespace(t)
	data, control := n.Wire(), n.Wire()
	_, port, err := net.SplitHostPort(testkit.Addr(t))
	if err != nil {
		t.Fatal(err)
	}
	at := net.JoinHostPort(control.Outside, port)
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--sync-listen", at, "--sync-names", control.Outside}})
	upstream := harness.NewLinkAt(t, data.Outside, harness.Nginx(t))
	c.Apply(fmt.Sprintf(rolloutDocument, upstream.Addr, loadKey))
	a := &apart{c: c, wire: control, g: c.NewGatewayInside(n, data, at, "default")}
	a.g.Start()
	a.g.AwaitReady()
	awaitState(t, c, "online")
	serves(t, "at the beginning", a.g)
	return a
}

// TestPacketsThatAreLostAreNoticedByBothSides loses what goes one way, the other way and both. Nothing is refused or reset, no
// acknowledgement comes: what a broken switch, a wrong route or a firewall does that drops.
func TestPacketsThatAreLostAreNoticedByBothSides(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*harness.Wire){
		"to the gateway":   (*harness.Wire).LoseInward,
		"from the gateway": (*harness.Wire).LoseOutward,
		"both ways":        (*harness.Wire).Lose,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApart(t)
			lose(a.wire)
			begun := time.Now()
			revision := a.c.Apply(twoParts(1))
			serves(t, "while packets are lost", a.g)
			awaitState(t, a.c, "offline")
			a.g.AwaitMetric(t, "keyward_gateway_control_plane_connected", 0)
			s, err := a.g.State()
			if err != nil || s.ControlPlane.Connected || s.ControlPlane.LostSeconds == nil {
				t.Errorf("status = %+v, %v; want the control plane lost", s, err)
			}
			t.Logf("both sides had noticed after %v; the gateway is at revision %d of %d", time.Since(begun), s.Revision, revision)
			serves(t, "when the stream is lost", a.g)
			a.wire.Heal()
			begun = time.Now()
			converges(t, a.c, a.g, 30*time.Second)
			awaitState(t, a.c, "online")
			t.Logf("converged %v after packets came through again", time.Since(begun))
			serves(t, "at the end", a.g)
		})
	}
}

// TestAGatewayThatVanishesIsForgotten pulls the plug of a gateway: no FIN, no RST, and nobody who would answer a probe.
func TestAGatewayThatVanishesIsForgotten(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	a.c.Replicas[0].AwaitMetric(t, "keyward_controlplane_connected_gateways", 1)
	a.wire.Lose()
	a.g.Kill()
	begun := time.Now()
	a.c.Replicas[0].AwaitMetric(t, "keyward_controlplane_connected_gateways", 0)
	awaitState(t, a.c, "offline")
	t.Logf("its stream was given up after %v", time.Since(begun))
	a.c.Apply(twoParts(1)) // with nobody to hear it
}
