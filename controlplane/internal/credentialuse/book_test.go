package credentialuse_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"keyward.dev/controlplane/internal/credentialuse"
	"keyward.dev/controlplane/internal/store"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// kept is a store of uses, and how often it was asked.
type kept struct {
	mu         sync.Mutex // guards what follows
	down       error
	statements int
	last       []store.CredentialUse
	all        map[string]time.Time // by group and uid
}

func (k *kept) SaveCredentialUses(ctx context.Context, uses []store.CredentialUse) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.statements++
	if k.down != nil {
		return k.down
	}
	k.last = uses
	for _, u := range uses {
		k.all[u.Group+" "+u.UID] = u.At
	}
	return ctx.Err()
}

// seen is what has come so far.
func (k *kept) seen() (statements int, last []store.CredentialUse, all map[string]time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.statements, k.last, maps.Clone(k.all)
}

// breaks makes the database answer an error; nil: it works.
func (k *kept) breaks(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = err
}

type world struct {
	*kept
	*credentialuse.Book
	log  bytes.Buffer
	stop func()
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{kept: &kept{all: map[string]time.Time{}}}
	w.Book = credentialuse.New(w, time.Now, slog.New(slog.NewTextHandler(&w.log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
	return w
}

// round is the time in which everything has been written once, whatever the jitter.
func round() {
	<-time.After(11*time.Second + time.Millisecond)
	synctest.Wait()
}

// use is that of a numbered credential.
func use(n uint64, ago uint32) *syncv1.CredentialUse {
	return &syncv1.CredentialUse{Uid: binary.BigEndian.AppendUint64(make([]byte, 8), n), SecondsAgo: ago}
}

func uses(n int) []*syncv1.CredentialUse {
	var all []*syncv1.CredentialUse
	for i := range n {
		all = append(all, use(uint64(i), 0))
	}
	return all
}

func TestUsesAreWrittenTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, began := start(t), time.Now()
		w.Take("a", []*syncv1.CredentialUse{use(1, 60), use(0xabcdef, 5)})
		w.Take("b", []*syncv1.CredentialUse{use(1, 0)})
		w.Take("a", []*syncv1.CredentialUse{use(1, 30), use(1, 90), {Uid: []byte("short")}, {}, nil})
		w.Take("a", nil)
		round()
		want := map[string]time.Time{
			"a 00000000-0000-0000-0000-000000000001": began.Add(-30 * time.Second),
			"a 00000000-0000-0000-0000-000000abcdef": began.Add(-5 * time.Second),
			"b 00000000-0000-0000-0000-000000000001": began,
		}
		n, _, all := w.seen()
		if diff := cmp.Diff(want, all); diff != "" || n != 1 {
			t.Errorf("%d statements (-want +got):\n%s", n, diff)
		}
		round()
		if n, _, _ := w.seen(); n != 1 {
			t.Errorf("%d statements although nothing was used", n)
		}
		w.Take("a", []*syncv1.CredentialUse{use(7, 0)})
		w.stop()
		n, _, all = w.seen()
		if _, ok := all["a 00000000-0000-0000-0000-000000000007"]; !ok || n != 2 {
			t.Errorf("at the end: %d statements, %v", n, all)
		}
	})
}

func TestUsesWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, began := start(t), time.Now()
		w.breaks(errors.New("database unavailable"))
		w.Take("a", []*syncv1.CredentialUse{use(1, 60), use(2, 60)})
		round()
		w.Take("a", []*syncv1.CredentialUse{use(1, 0)})
		later := time.Now()
		round()
		w.breaks(nil)
		round()
		want := map[string]time.Time{
			"a 00000000-0000-0000-0000-000000000001": later,
			"a 00000000-0000-0000-0000-000000000002": began.Add(-time.Minute),
		}
		if _, _, all := w.seen(); !cmp.Equal(want, all) {
			t.Errorf("uses (-want +got):\n%s", cmp.Diff(want, all))
		}
		w.stop()
		if n := strings.Count(w.log.String(), "cannot be written"); n != 1 {
			t.Errorf("logged %d times, want once: %s", n, w.log.String())
		}
	})
}

// A group whose gateways say too much loses some of it, and no other group does.
func TestWhatWaitsIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 20_000
		w := start(t)
		w.Take("flood", uses(most+10))
		w.Take("small", uses(1))
		w.Take("flood", uses(1)) // is there
		const metric = "keyward_controlplane_credential_uses_lost_total"
		r := prometheus.NewRegistry()
		r.MustRegister(credentialuse.NewCollector(w.Book))
		if err := testutil.GatherAndCompare(r, strings.NewReader("# HELP "+metric+" Uses of credentials that gateways told of and that were not kept, because too many waited to be written.\n# TYPE "+metric+" counter\n"+metric+" 10\n"), metric); err != nil {
			t.Error(err)
		}
		for range 2 {
			before, _, _ := w.seen()
			round()
			if n, last, _ := w.seen(); n-before != 1 || len(last) > most {
				t.Errorf("%d statements, the last of %d uses", n-before, len(last))
			}
		}
		_, _, all := w.seen()
		if _, ok := all["small 00000000-0000-0000-0000-000000000000"]; !ok || len(all) != most+1 {
			t.Errorf("%d uses, want %d and that of the small group among them", len(all), most+1)
		}
		w.stop()
	})
}

func TestGroupsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		for range 4 {
			for _, group := range []string{"a", "b", "c"} {
				w.Take(group, uses(20_000)) // a is full again each time
			}
			round()
		}
		_, _, all := w.seen()
		for _, group := range []string{"a", "b", "c"} {
			if _, ok := all[group+" 00000000-0000-0000-0000-000000000000"]; !ok {
				t.Errorf("group %s never had its turn", group)
			}
		}
		w.stop()
	})
}
