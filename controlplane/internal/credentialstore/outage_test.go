package credentialstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretsource"
)

// TestAnOutage goes through one, over restarts of the control plane, to the bound and back.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	s.put("one", entry(1, "alice"))
	s.put("two", entry(2, "alice"))
	s.fail(secretsource.ErrDown)
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	r.run(t, w)
	r.check(t, w, "never read", false, "1=")
	s.fail(nil)
	r.run(t, w)
	r.check(t, w, "read", true, "1=alice", "2=alice")
	s.fail(fmt.Errorf("connect: %w", secretsource.ErrDown))
	r.run(t, w)
	failing := r.view(t).Revision
	r = w.replica(t, s)
	for range 5 {
		w.pass(10 * time.Minute)
		r.run(t, w)
	}
	r.check(t, w, "an outage below the bound", true, "1=alice", "2=alice")
	if now := r.view(t).Revision; now != failing {
		t.Errorf("the outage made revisions %d to %d", failing, now)
	}
	w.pass(10 * time.Minute)
	r.run(t, w)
	r.check(t, w, "an outage above the bound", false, "1=", "2=")
	if n := r.entries(t); n > 0 {
		t.Errorf("%d entries are left", n)
	}
	s.fail(nil)
	r.run(t, w)
	r.check(t, w, "back", true, "1=alice", "2=alice")
	if log := w.logged(); strings.Count(log, "credential store cannot be read") == 0 || !strings.Contains(log, "is read again") {
		t.Errorf("logged was\n%s", log)
	}
}

// TestAnEntryThatMayNotBeReadStaysToTheBound has one that Vault forbids from some time on; the others do not suffer.
func TestAnEntryThatMayNotBeReadStaysToTheBound(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	s.put("one", entry(1, "alice"))
	s.put("two", entry(2, "alice"))
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	r.run(t, w)
	s.denied["one"] = true
	r.run(t, w)
	r.check(t, w, "denied", true, "1=alice", "2=alice")
	w.pass(time.Hour)
	r.run(t, w)
	r.check(t, w, "denied for long", true, "1=", "2=alice")
	s.denied["two"] = true
	r.run(t, w)
	w.pass(time.Hour)
	r.run(t, w)
	r.check(t, w, "all are denied, which is an outage", false, "2=")
}

// TestAnotherPlaceBeginsAnew changes where a store is: what was read before counts no more, read or not.
func TestAnotherPlaceBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*configv1.CredentialStore){
		"the path": func(s *configv1.CredentialStore) { s.Path = "absent" },
		"who is meant": func(s *configv1.CredentialStore) {
			s.Path, s.ConsumerBy = "absent", configv1.StoredConsumer_STORED_CONSUMER_CUSTOM_ID
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(t), newShelf()
			r := w.replica(t, s)
			s.put("one", entry(1, "alice"))
			r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
			r.run(t, w)
			r.check(t, w, "read", true, "1=alice")
			r.apply(t, store("corp", change))
			if err := r.Run(t.Context()); err != nil { // without waiting for the refresh
				t.Fatal(err)
			}
			r.check(t, w, "moved to where nothing can be read", false, "1=")
			r.apply(t, store("corp"))
			if err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.check(t, w, "moved back", true, "1=alice")
		})
	}
}
