package syncclient_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/syncclient"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

func route(uid, name, text string) statetest.Record {
	return statetest.Record{Kind: "routes", UID: uid, Name: name, Resource: &configv1.Route{Name: name, Description: text}}
}

// until waits for a set of at least the revision and returns it.
func (w *world) until(t *testing.T, revision int64) *state.Set {
	t.Helper()
	for s := range w.applied {
		if s.Revision >= revision {
			return s
		}
	}
	return nil
}

func TestJoinApplyAcknowledge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		c.src.Change([]statetest.Record{route("u1", "a", "1"), route("u2", "b", "2")}, nil)
		w := start(t, c, nil)
		defer w.end()
		set := w.until(t, 1)
		if set.Len("routes") != 2 {
			t.Errorf("%d routes, want 2", set.Len("routes"))
		}
		a := <-c.acks
		if a.GetEpoch() != 1 || a.GetRevision() != 1 || string(a.GetDigest()) != string(c.src.Digest()) {
			t.Errorf("ack = %v", a)
		}
		st := w.client.Status()
		if !st.Connected || st.Gateway != "g1" || st.Group != "pay" || st.Revision != 1 {
			t.Errorf("status = %+v", st)
		}
	})
}

func TestCertificatesOfThirtySecondsRenewWithoutDroppingTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		c.ttl = 30 * time.Second
		w := start(t, c, nil)
		defer w.end()
		w.until(t, 0)
		for i := range 36 { // three minutes
			<-time.After(5 * time.Second)
			c.change(route("u1", "a", fmt.Sprint(i)))
			w.until(t, int64(i+1))
		}
		if got := c.count(&c.opened); got != 1 {
			t.Errorf("the stream was opened %d times, want once", got)
		}
		if got := c.count(&c.renewals); got < 6 {
			t.Errorf("%d renewals in three minutes of 30 s certificates", got)
		}
		if left := time.Until(w.client.Status().CertificateExpires); left < 5*time.Second {
			t.Errorf("the certificate is good for %s more", left)
		}
		c.cut(status.Error(codes.Unavailable, "go"))
		<-c.hellos
		<-c.hellos // the renewed certificate opens the next connection
		if got := c.count(&c.expired); got != 0 {
			t.Errorf("%d renewals after expiry", got)
		}
	})
}

func TestReconnectGoesOnFromTheLastSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		w := start(t, c, nil)
		defer w.end()
		c.change(route("u1", "a", "1"))
		w.until(t, 1)
		<-c.hellos
		set := w.client.Status()
		synctest.Wait()
		for len(c.acks) > 0 {
			<-c.acks
		}
		c.cut(status.Error(codes.Unavailable, "replica ends"))
		h := <-c.hellos
		if h.GetVersion() != "test" || h.GetContract() != 3 || len(h.GetPolicyTypes()) != 1 {
			t.Errorf("hello = %v, want what the gateway can run", h)
		}
		if h.GetEpoch() != 1 || h.GetRevision() != 1 || string(h.GetDigest()) != string(set.Digest[:]) {
			t.Errorf("hello = %v, want revision 1", h)
		}
		if a := <-c.acks; a.GetRevision() != 1 {
			t.Errorf("after a reconnect revision %d is acknowledged, want 1: the new replica does not know it", a.GetRevision())
		}
		synctest.Wait()
		if st := w.client.Status(); st.Connects != 2 || st.Resets != 1 || st.Refused+st.Unreachable+st.Misfits != 0 {
			t.Errorf("status = %+v, want two connects and one whole set", st)
		}
	})
}

func TestBurstsAreCoalescedAndFaultsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		gate := make(chan struct{})
		var seen []int64
		w := start(t, c, func(cfg *syncclient.Config) {
			cfg.Apply = func(_ context.Context, s *state.Set) []syncclient.Fault {
				<-gate
				seen = append(seen, s.Revision)
				return []syncclient.Fault{{Kind: "routes", UID: "u1", Name: "a", Reason: fmt.Sprintf("of %d", s.Revision)}}
			}
		})
		defer w.end()
		<-c.hellos
		synctest.Wait() // the empty set waits in Apply
		for i := range 50 {
			c.change(route("u1", "a", fmt.Sprint(i)))
		}
		synctest.Wait()
		close(gate)
		for a := range c.acks {
			if a.GetRevision() == 50 {
				if len(a.GetFaults()) != 1 || a.GetFaults()[0].GetReason() != "of 50" {
					t.Errorf("faults = %v", a.GetFaults())
				}
				break
			}
		}
		if len(seen) > 3 {
			t.Errorf("Apply was called for %v, want the first and the last", seen)
		}
	})
}

func TestMisfitResyncsTwiceThenKeepsServing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		w := start(t, c, nil)
		defer w.end()
		c.change(route("u1", "a", "good"))
		w.until(t, 1)
		c.set(func() {
			c.edit = func(ms []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
				ms[len(ms)-1].GetCommit().Digest[0] ^= 1
				return ms
			}
		})
		began := time.Now()
		c.change(route("u1", "a", "damaged on the way"))
		<-c.resyncs
		<-c.resyncs
		synctest.Wait()
		if len(c.resyncs) > 0 || time.Since(began) > time.Second {
			t.Errorf("%d more resyncs at once", len(c.resyncs))
		}
		if st := w.client.Status(); !st.Distrusted || st.Revision != 1 || !st.Connected {
			t.Errorf("status = %+v, want distrusted, connected and at revision 1", st)
		}
		if st := w.client.Status(); st.Misfits != 3 || st.Resyncs != 2 {
			t.Errorf("%d misfits and %d resyncs are counted, want 3 and 2", st.Misfits, st.Resyncs)
		}
		c.set(func() { c.edit = nil })
		<-time.After(2 * time.Minute)
		c.change(route("u1", "a", "good again"))
		w.until(t, 3)
		synctest.Wait()
		if st := w.client.Status(); st.Distrusted {
			t.Error("still distrusted after a good set")
		}
	})
}

func TestOlderRevisionIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		w := start(t, c, nil)
		defer w.end()
		for i := range 3 {
			c.change(route("u1", "a", fmt.Sprint(i)))
		}
		w.until(t, 3)
		old := statetest.NewSource(1)
		old.Change([]statetest.Record{route("u1", "a", "0")}, nil)
		c.set(func() { c.src = old })
		c.send(old.Reset()...)
		<-time.After(time.Minute)
		st := w.client.Status()
		if st.Revision != 3 || st.Rewound == 0 {
			t.Errorf("status = %+v, want revision 3 and refusals", st)
		}
		if n := c.count(&c.opened); n > 100 {
			t.Errorf("%d connections in a minute: no back-off", n)
		}
		restored := statetest.NewSource(2)
		restored.Change([]statetest.Record{route("u1", "a", "restored")}, nil)
		c.set(func() { c.src = restored })
		for s := range w.applied {
			if s.Epoch == 2 {
				break
			}
		}
		synctest.Wait()
		if st := w.client.Status(); st.Epochs != 1 || st.Revision != 1 {
			t.Errorf("after a restore: revision %d, %d epochs noted, want revision 1 and one", st.Revision, st.Epochs)
		}
	})
}

func TestExpiredCertificateIsRenewedOnReturn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		refuse   error
		enrolled int
	}{
		"within grace": {enrolled: 1},
		"beyond grace": {refuse: status.Error(codes.FailedPrecondition, "too late"), enrolled: 2},
		"revoked":      {refuse: status.Error(codes.PermissionDenied, "revoked"), enrolled: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newControl(t)
				dir := t.TempDir()
				keep := func(cfg *syncclient.Config) { cfg.IdentityDir = dir }
				w := start(t, c, keep)
				w.until(t, 0)
				w.end()
				<-time.After(2 * time.Hour)
				c.set(func() { c.refuse = tt.refuse })
				w = start(t, c, keep)
				defer w.end()
				<-time.After(time.Minute)
				if c.count(&c.expired) == 0 {
					t.Error("no renewal was tried")
				}
				c.mu.Lock()
				got, distinct := len(c.keys), map[string]bool{}
				for _, k := range c.keys {
					distinct[k] = true
				}
				c.mu.Unlock()
				if len(distinct) != tt.enrolled {
					t.Errorf("%d enrolments with %d keys, want %d keys", got, len(distinct), tt.enrolled)
				}
			})
		})
	}
}

// TestAnOldIdentityIsKeptUntilThereIsAnother lets neither renewal nor a new join succeed, as with a join token that is used
// up, and then the renewal: the operator has granted more time.
func TestAnOldIdentityIsKeptUntilThereIsAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		dir := t.TempDir()
		keep := func(cfg *syncclient.Config) { cfg.IdentityDir = dir }
		w := start(t, c, keep)
		w.until(t, 0)
		w.end()
		<-time.After(2 * time.Hour)
		c.set(func() { c.refuse = status.Error(codes.FailedPrecondition, "too late") }) // to joining, too
		w = start(t, c, keep)
		<-time.After(time.Minute)
		w.end()
		joins := len(c.keys)
		c.set(func() { c.refuse = nil })
		w = start(t, c, keep)
		defer w.end()
		w.until(t, 0)
		if joins < 2 || len(c.keys) != joins {
			t.Errorf("%d attempts to join while that was refused, %d after it could renew", joins, len(c.keys)-joins)
		}
	})
}

func TestEnrolmentIsRepeatedWithTheSameKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		c.refuse = status.Error(codes.Unavailable, "the answer got lost")
		dir := t.TempDir()
		keep := func(cfg *syncclient.Config) { cfg.IdentityDir = dir }
		w := start(t, c, keep)
		<-time.After(time.Minute)
		w.end()
		c.set(func() { c.refuse = nil })
		w = start(t, c, keep)
		defer w.end()
		w.until(t, 0)
		if len(c.keys) < 3 {
			t.Fatalf("%d enrolments", len(c.keys))
		}
		for _, k := range c.keys {
			if k != c.keys[0] {
				t.Fatal("an enrolment was repeated with another key: it would cost a second use")
			}
		}
	})
}

func TestIdentityFileIsPrivateAndWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		dir := filepath.Join(t.TempDir(), "identity")
		w := start(t, c, func(cfg *syncclient.Config) { cfg.IdentityDir = dir })
		w.until(t, 0)
		w.end()
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d files, %v", len(entries), err)
		}
		info, err := entries[0].Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode = %v, %v, want 0600", info.Mode(), err)
		}
		cfg := config(c, nil)
		cfg.IdentityDir, cfg.JoinToken, cfg.Group = dir, "", "pay"
		if _, err := syncclient.New(cfg); err != nil {
			t.Errorf("New with a kept identity and no token = %v", err)
		}
		cfg.Group = "shop"
		if _, err := syncclient.New(cfg); err == nil {
			t.Error("New for another group than the identity's = nil")
		}
		path := filepath.Join(dir, entries[0].Name())
		raw, _ := os.ReadFile(path)
		if err := os.WriteFile(path, raw[len(raw)/2:], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := syncclient.New(cfg); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("New with a damaged identity = %v, want an error that names the file", err)
		}
	})
}

func TestServiceAccountToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte("jwt\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		pin := mtls.SPKIOf(c.authority.Root)
		w := start(t, c, func(cfg *syncclient.Config) {
			cfg.JoinToken, cfg.ServiceAccountTokenFile, cfg.RootPin = "", file, &pin
		})
		defer w.end()
		w.until(t, 0)
		if c.tokens[0] != "jwt" {
			t.Errorf("token = %q", c.tokens[0])
		}
	})
}

func TestWrongControlPlaneGetsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		real, impostor := newControl(t), newControl(t)
		w := start(t, impostor, func(cfg *syncclient.Config) { cfg.JoinToken = real.token() })
		defer w.end()
		<-time.After(time.Minute)
		if len(impostor.tokens) > 0 {
			t.Error("a control plane without the pinned root was shown the join token")
		}
		if st := w.client.Status(); st.Refused == 0 || st.Unreachable+st.Connects != 0 {
			t.Errorf("status = %+v, want refused connections only", st)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		dial, stop := c.listen(c.authority.Gateway(t, gatewayID)) // a gateway plays the control plane
		w := start(t, c, func(cfg *syncclient.Config) { cfg.Dial = dial })
		defer stop()
		defer w.end()
		<-time.After(time.Minute)
		if len(c.tokens) > 0 {
			t.Error("a gateway was taken for a control plane")
		}
	})
}

func TestAttemptsWithoutAConnectionAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newControl(t), func(cfg *syncclient.Config) {
			cfg.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("no route to host") }
		})
		defer w.end()
		<-time.After(10 * time.Second)
		if st := w.client.Status(); st.Unreachable == 0 || st.Refused+st.Connects != 0 {
			t.Errorf("status = %+v, want attempts without a connection only", st)
		}
	})
}

func TestDrainMovesToTheNextAddressAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		dialed := make(chan string, 100)
		w := start(t, c, func(cfg *syncclient.Config) {
			cfg.Addresses = []string{"a:1", "b:1"}
			dial := cfg.Dial
			cfg.Dial = func(ctx context.Context, a string) (net.Conn, error) {
				dialed <- a
				return dial(ctx, a)
			}
		})
		defer w.end()
		w.until(t, 0)
		<-c.hellos
		synctest.Wait()
		var last string
		for len(dialed) > 0 {
			last = <-dialed
		}
		began := time.Now()
		d := &syncv1.Drain{After: durationpb.New(time.Second)}
		c.send(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Drain{Drain: d}})
		<-c.hellos
		if next := <-dialed; next == last {
			t.Errorf("reconnected to %s, which asked to leave", next)
		}
		if took := time.Since(began); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("reconnected after %s, want 1s", took)
		}
	})
}

func TestCountersAreReportedAsDifferences(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		total := uint64(0)
		w := start(t, c, func(cfg *syncclient.Config) {
			cfg.Responses = func() map[string]uint64 { total += 7; return map[string]uint64{"2xx": total} }
		})
		defer w.end()
		for range 3 {
			if r := <-c.reports; r.GetResponses()["2xx"] != 7 {
				t.Errorf("report = %v, want 7", r)
			}
		}
	})
}

func TestNewRefusesBadSettings(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*syncclient.Config){
		"no address":       func(c *syncclient.Config) { c.Addresses = nil },
		"no evidence":      func(c *syncclient.Config) { c.JoinToken = "" },
		"junk token":       func(c *syncclient.Config) { c.JoinToken = "kwj_x" },
		"account, no root": func(c *syncclient.Config) { c.JoinToken, c.ServiceAccountTokenFile = "", "/token" },
	}
	c := newControl(t)
	for name, edit := range tests {
		cfg := config(c, nil)
		edit(&cfg)
		if _, err := syncclient.New(cfg); err == nil {
			t.Errorf("New with %s = nil", name)
		}
	}
}
