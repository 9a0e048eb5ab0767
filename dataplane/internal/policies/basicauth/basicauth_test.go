package basicauth_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policies/basicauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/policytest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/password"
)

func TestCases(t *testing.T) { policytest.Run(t, "testdata/*.txtar", policies.All()) }

// TestStateOverPushes: a policy built anew goes on with what was counted and remembered, and a credential that changed or went
// is not remembered.
func TestStateOverPushes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"alice": quick, "bob": quick})
	cfg := &policyv1.BasicAuth{BruteForce: &policyv1.BruteForce{Failures: 2}}
	if status, subject := w.login(w.build(cfg), "alice", known); status != 200 || subject != "alice" {
		t.Fatalf("the right password: %d %s", status, subject)
	}
	release := w.occupy()
	if status, _ := w.login(w.build(cfg), "alice", known); status != 200 {
		t.Errorf("remembered over a push: %d, and no hash could be computed", status)
	}
	w.push(map[string]string{"alice": cheap, "bob": quick})
	if status, reason := w.login(w.build(cfg), "alice", known); status != 503 || reason != "logins_busy" {
		t.Errorf("with another hash of the same password: %d %s, and no hash could be computed", status, reason)
	}
	release()
	w.push(map[string]string{"bob": quick})
	if status, _ := w.login(w.build(cfg), "alice", known); status != 401 {
		t.Errorf("a credential that is gone: %d", status)
	}
	for i, want := range []int{401, 401, 429, 429} {
		if status, _ := w.login(w.build(cfg), "bob", "wrong"); status != want {
			t.Errorf("guess %d after a push: %d, want %d", i, status, want)
		}
	}
	other := &policyv1.BasicAuth{BruteForce: &policyv1.BruteForce{Failures: 3}}
	if status, _ := w.login(w.build(other), "bob", known); status != 200 {
		t.Errorf("with other bounds: %d", status)
	}
}

// occupy keeps all workers busy, and fills the queue, until it is released.
func (w *world) occupy() (release func()) {
	gate, started := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	places := max(1, runtime.GOMAXPROCS(0)/2)
	for range places {
		all.Go(func() {
			w.services.Logins.Workers.Do(0, func() { started <- struct{}{}; <-gate })
		})
		<-started
	}
	return func() { close(gate); all.Wait() }
}

// TestOneLoginOverManyConnections: a client that opens fifty connections at once is one login.
func TestOneLoginOverManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"alice": quick})
	p := w.build(&policyv1.BasicAuth{BruteForce: &policyv1.BruteForce{Failures: 2}})
	release := w.occupy()
	var all sync.WaitGroup
	var passed atomic.Int64
	for range 50 {
		all.Go(func() {
			if status, _ := w.login(p, "alice", known); status == 200 {
				passed.Add(1)
			}
		})
	}
	release()
	all.Wait()
	if passed.Load() != 50 {
		t.Errorf("%d of 50 at once pass", passed.Load())
	}
}

// TestDecoysLetNobodyIn: the hash that is computed for somebody who does not exist is somebody's.
func TestDecoysLetNobodyIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"alice": quick})
	p := w.build(unprotected())
	for _, name := range append(names("nobody", 5), "Alice", "alice ") {
		if status, _ := w.login(p, name, known); status != 401 {
			t.Errorf("%q logs in with the password of alice: %d", name, status)
		}
	}
}

// TestDecoysAreComputed although the hash that is computed, and the password, are those of somebody who has just logged in: what
// is remembered of him is his.
func TestDecoysAreComputed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"alice": quick})
	p := w.build(&policyv1.BasicAuth{})
	if status, _ := w.login(p, "alice", known); status != 200 {
		t.Fatalf("alice: %d", status)
	}
	release := w.occupy()
	defer release()
	if status, reason := w.login(p, "nobody", known); status != 503 || reason != "logins_busy" {
		t.Errorf("nobody is answered %d %s without a hash", status, reason)
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]*policyv1.BasicAuth{
		"realm that breaks the challenge": {Realm: `a", Basic realm="b`},
		"remembers forever":               {CacheTtl: durationpb.New(2 * time.Hour)},
		"remembers the future":            {CacheTtl: durationpb.New(-time.Second)},
		"no window":                       {BruteForce: &policyv1.BruteForce{Window: durationpb.New(0)}},
		"a window of a week":              {BruteForce: &policyv1.BruteForce{Window: durationpb.New(7 * 24 * time.Hour)}},
	} {
		if p, err := basicauth.Build(cfg, policy.Deps{Host: hostsvc.New(hostsvc.Config{})}); err == nil || p != nil {
			t.Errorf("%s: built", name)
		}
	}
}

// FuzzAuthorization: nothing that a client writes into the field is more than a refusal.
func FuzzAuthorization(f *testing.F) {
	f.Add("Basic YWxpY2U6eA==")
	f.Add("basic  ")
	f.Add("Basic \tOg==")
	f.Add("Bearer x")
	w := newWorld(f, map[string]string{"alice": quick})
	p := w.build(&policyv1.BasicAuth{BruteForce: &policyv1.BruteForce{Failures: 1, AddressFailures: 1}})
	f.Fuzz(func(t *testing.T, value string) {
		x := &exchange.Exchange{}
		w.prepare(x, exchange.Field("Authorization", value))
		if p.Request(x) == policy.Next && x.Principal.Subject() != "alice" {
			t.Errorf("%q passes as %+v", value, x.Principal)
		}
		if r := x.Refusal(); r != nil && r.Status() != 401 && r.Status() != 429 {
			t.Errorf("%q is answered %d", value, r.Status())
		}
		hider, _ := p.(policy.Hider)
		hider.Hide(x)
	})
}

func BenchmarkBasicAuth(b *testing.B) {
	made, err := password.New(known)
	if err != nil {
		b.Fatal(err)
	}
	w := newWorld(b, map[string]string{"alice": made.String()})
	for name, p := range map[string]policy.Policy{"warm": w.build(&policyv1.BasicAuth{}), "cold": w.build(unprotected())} {
		b.Run(name, func(b *testing.B) {
			x, field := &exchange.Exchange{}, authorization("alice", known)
			once := func() {
				w.prepare(x, field)
				if p.Request(x) != policy.Next {
					b.Fatal("refused")
				}
			}
			once() // what is remembered is found out first
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}
