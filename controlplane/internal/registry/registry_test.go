package registry_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/registry/registrytest"
	"keyward.dev/controlplane/internal/store"
)

// replica starts a registry over the database.
func replica(t *testing.T, m *registrytest.Memory, name string) (*registry.Registry, func()) {
	t.Helper()
	r := registry.New(registry.Config{
		Store: m, Notes: m, Changes: m, Rollouts: m, Skills: m, Revocations: pki.NewRevocations(m.RevokedGateways), Replica: name,
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	return r, func() { cancel(); <-done }
}

func states(t *testing.T, r *registry.Registry) map[string]registry.State {
	t.Helper()
	all, err := r.List(t.Context(), "pay")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]registry.State{}
	for _, g := range all {
		out[g.ID] = g.State
	}
	return out
}

func TestStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		m.SetHead("pay", 1, 5)
		for _, id := range []string{"online", "lagging", "rejecting", "offline", "revoked", "rewound", "ahead"} {
			m.Put(store.Gateway{ID: id, Group: "pay"})
		}
		m.Put(store.Gateway{ID: "foreign", Group: "shop"})
		a, stopA := replica(t, m, "a")
		b, stopB := replica(t, m, "b")
		defer stopB()
		say := func(r *registry.Registry, id string, s registry.Applied) *registry.Session {
			c := r.Connect(registry.Connection{Group: "pay", ID: id, Version: "1"})
			c.Applied(s)
			return c
		}
		say(a, "online", registry.Applied{Epoch: 1, Revision: 5})
		say(b, "lagging", registry.Applied{Epoch: 1, Revision: 4})
		say(a, "rejecting", registry.Applied{Epoch: 1, Revision: 5, Faults: []store.Fault{{Kind: "routes", Name: "r", Reason: "x"}}})
		say(b, "rewound", registry.Applied{Epoch: 9, Revision: 7})
		say(b, "ahead", registry.Applied{Epoch: 1, Revision: 6})
		say(a, "offline", registry.Applied{Epoch: 1, Revision: 3}).Close()
		if _, err := a.Revoke(t.Context(), "pay", "revoked", "admin", "stolen"); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		want := map[string]registry.State{
			"online": registry.Online, "lagging": registry.Lagging, "rejecting": registry.Rejecting,
			"offline": registry.Offline, "revoked": registry.Revoked, "rewound": registry.Lagging,
			"ahead": registry.Lagging,
		}
		for name, r := range map[string]*registry.Registry{"a": a, "b": b} {
			if diff := cmp.Diff(want, states(t, r)); diff != "" {
				t.Errorf("replica %s (-want +got):\n%s", name, diff)
			}
			if n, err := r.ConnectedIn(t.Context(), "pay"); n != 5 || err != nil {
				t.Errorf("replica %s: ConnectedIn = %d, %v, want 5", name, n, err)
			}
		}
		lags := map[string]int64{"online": 0, "lagging": 1, "rejecting": 0, "offline": 2, "revoked": 5, "rewound": 5}
		for id, want := range lags {
			if g, err := a.Get(t.Context(), "pay", id); err != nil || g.Lag != want {
				t.Errorf("%s is %d revisions behind, %v; want %d", id, g.Lag, err, want)
			}
		}
		if lag, ok := b.Lag("pay", 1, 5); lag != 5 || !ok {
			t.Errorf("the furthest behind on replica b: %d, %t; want 5", lag, ok)
		}
		if _, ok := b.Lag("shop", 1, 5); ok {
			t.Error("a group without connected gateways has a lag")
		}
		g, err := b.Get(t.Context(), "pay", "offline")
		if err != nil || g.AppliedRevision != 3 || g.Connected() {
			t.Errorf("an offline gateway = %+v, %v; what it applied last is remembered", g, err)
		}
		if g, _ := b.Get(t.Context(), "pay", "online"); g.Replica != "a" || g.Version != "1" {
			t.Errorf("replica = %q, version %q", g.Replica, g.Version)
		}
		stopA()
		want["online"], want["rejecting"] = registry.Offline, registry.Offline
		if diff := cmp.Diff(want, states(t, b)); diff != "" {
			t.Errorf("after replica a ended (-want +got):\n%s", diff)
		}
	})
}

func TestWhoCannotRunWhat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		for _, id := range []string{"able", "here", "there", "offline", "new"} {
			m.Put(store.Gateway{ID: id, Group: "pay"})
		}
		a, stopA := replica(t, m, "a")
		defer stopA()
		b, stopB := replica(t, m, "b")
		defer stopB()
		say := func(r *registry.Registry, id string, types ...string) *registry.Session {
			return r.Connect(registry.Connection{Group: "pay", ID: id, PolicyTypes: types})
		}
		say(a, "able", "acl", "cors", "key-auth")
		say(a, "here", "acl")
		say(b, "there", "acl", "key-auth")
		say(a, "offline", "acl").Close()
		say(b, "new") // what it knows is not written down yet
		<-time.After(time.Second)
		for _, tt := range []struct {
			types []string
			want  map[string][]string
		}{
			{[]string{"acl"}, nil},
			{[]string{"acl", "key-auth"}, map[string][]string{"key-auth": {"here"}}},
			{[]string{"cors", "key-auth"}, map[string][]string{"cors": {"here", "there"}, "key-auth": {"here"}}},
		} {
			for name, r := range map[string]*registry.Registry{"a": a, "b": b} {
				got, err := r.Unable(t.Context(), "pay", tt.types)
				if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
					t.Errorf("replica %s: Unable(%v): %v (-want +got):\n%s", name, tt.types, err, diff)
				}
			}
		}
		contracts := map[string]uint32{"first": 0, "second": 2, "third": 3}
		for id, n := range contracts {
			r := map[bool]*registry.Registry{true: a, false: b}[n > 2]
			r.Connect(registry.Connection{Group: "shop", ID: id, Contract: n}).Applied(registry.Applied{Epoch: 1, Revision: 1})
		}
		<-time.After(time.Second)
		for n, want := range map[uint32][]string{0: nil, 1: {"first"}, 3: {"first", "second"}, 4: {"first", "second", "third"}} {
			for name, r := range map[string]*registry.Registry{"a": a, "b": b} {
				got, err := r.Older(t.Context(), "shop", n)
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
					t.Errorf("replica %s: Older(%d): %v (-want +got):\n%s", name, n, err, diff)
				}
			}
		}
		m.SetDown(true)
		if _, err := a.Older(t.Context(), "shop", 1); err == nil {
			t.Error("without a database it is known who is older")
		}
		if _, err := a.Unable(t.Context(), "pay", []string{"cors"}); err == nil {
			t.Error("without a database it is known who can run what")
		}
	})
}

func TestAcknowledgementsAreOneRowPerTenthOfASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		r, stop := replica(t, m, "a")
		defer stop()
		var sessions []*registry.Session
		for i := range 200 {
			id := string(rune('a'+i/26)) + string(rune('a'+i%26))
			m.Put(store.Gateway{ID: id, Group: "pay"})
			sessions = append(sessions, r.Connect(registry.Connection{Group: "pay", ID: id}))
		}
		<-time.After(150 * time.Millisecond)
		before := m.Saved()
		for rev := range int64(50) { // 50 changes in a second
			for _, s := range sessions {
				s.Applied(registry.Applied{Epoch: 1, Revision: rev})
			}
			<-time.After(20 * time.Millisecond)
		}
		if n := m.Saved() - before; n > 11 {
			t.Errorf("%d rows written in a second for 10,000 acknowledgements, want at most 11", n)
		}
	})
}

func TestDatabaseOutageLosesNoNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		m.SetHead("pay", 1, 5)
		m.Put(store.Gateway{ID: "g", Group: "pay"})
		m.Put(store.Gateway{ID: "h", Group: "pay"})
		r, stop := replica(t, m, "a")
		defer stop()
		other, stopOther := replica(t, m, "b")
		defer stopOther()
		m.SetDown(true)
		r.Connect(registry.Connection{Group: "pay", ID: "g", Version: "7"}).Applied(registry.Applied{Epoch: 1, Revision: 5})
		h := r.Connect(registry.Connection{Group: "pay", ID: "h"})
		h.Applied(registry.Applied{Epoch: 1, Revision: 2})
		h.Close()
		<-time.After(time.Minute)
		m.SetDown(false)
		<-time.After(time.Second)
		g, err := other.Get(t.Context(), "pay", "g")
		if err != nil || g.State != registry.Online || g.Version != "7" {
			t.Errorf("after the outage: %+v, %v", g, err)
		}
		if h, _ := other.Get(t.Context(), "pay", "h"); h.AppliedRevision != 2 {
			t.Errorf("a gateway that left during the outage is at %d, want 2", h.AppliedRevision)
		}
	})
}

func TestWaitForRevision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		m.SetHead("pay", 1, 5)
		a, stopA := replica(t, m, "a")
		defer stopA()
		b, stopB := replica(t, m, "b")
		here := a.Connect(registry.Connection{Group: "pay", ID: "here"})
		there := b.Connect(registry.Connection{Group: "pay", ID: "there"})
		<-time.After(200 * time.Millisecond)
		wait := func(rev int64, least int, d time.Duration) (registry.Progress, time.Duration) {
			began := time.Now()
			p, err := a.WaitForRevision(t.Context(), "pay", rev, least, d)
			if err != nil {
				t.Fatal(err)
			}
			return p, time.Since(began)
		}
		here.Applied(registry.Applied{Epoch: 1, Revision: 5})
		p, took := wait(5, 0, time.Second)
		if p.Done || took != time.Second || cmp.Diff([]string{"there"}, p.Pending) != "" || p.Connected != 2 {
			t.Errorf("with one pending: %+v after %s", p, took)
		}
		time.AfterFunc(300*time.Millisecond, func() { there.Applied(registry.Applied{Epoch: 1, Revision: 6}) })
		p, took = wait(5, 0, time.Minute)
		if !p.Done || took > 600*time.Millisecond {
			t.Errorf("when the other replica's gateway has applied it: %+v after %s", p, took)
		}
		if p, _ := wait(5, 3, time.Second); p.Done || len(p.Pending) > 0 {
			t.Errorf("with too few gateways: %+v", p)
		}
		there.Applied(registry.Applied{Epoch: 1, Revision: 7, Faults: []store.Fault{{Name: "r"}}})
		<-time.After(200 * time.Millisecond)
		if p, took = wait(7, 0, time.Minute); len(p.Rejecting) != 1 || p.Rejecting[0].ID != "there" || took > time.Second {
			t.Errorf("when one rejects: %+v after %s", p, took)
		}
		here.Applied(registry.Applied{Epoch: 1, Revision: 7})
		stopB() // killed: says nothing more
		there.Close()
		if p, took = wait(7, 1, time.Minute); !p.Done || took > 10*time.Second {
			t.Errorf("after a replica ended: %+v after %s", p, took)
		}
		if p, _ := a.WaitForRevision(t.Context(), "empty", 1, 0, time.Second); !p.Done || p.Connected != 0 {
			t.Errorf("without gateways: %+v", p)
		}
	})
}
