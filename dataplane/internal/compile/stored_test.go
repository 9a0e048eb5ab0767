package compile_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/tokenpair"
)

// stored is what the control plane makes of an entry of the store corp.
func stored(term *directory.Term, n int, consumer string) statetest.Record {
	hash := term.Hash(tokenpair.Append(nil, "corp", fmt.Appendf(nil, "access-%d", n), fmt.Appendf(nil, "secret-%d", n)))
	return record(tokenpair.KindEntry, fmt.Sprintf("entry-%d", n), fmt.Sprintf("corp.%024d", n), &systemv1.StoredCredential{
		Store: "corp", Consumer: consumer, Pair: &configv1.KeyedHash{Term: term.Number(), Hash: hash[:]},
	})
}

func storeState(known bool) statetest.Record {
	return record(tokenpair.KindState, "state", "corp", &systemv1.CredentialStoreState{Known: known})
}

// behindVault is a route behind the store corp.
func behindVault() []statetest.Record {
	return []statetest.Record{
		record(tokenpair.KindStore, "store", "corp", &configv1.CredentialStore{Name: "corp"}),
		record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:9"}),
		record("routes", "r", "r", &configv1.Route{Name: "r", Service: "s", Policies: []*configv1.Binding{
			binding("vault-auth", &policyv1.VaultAuth{Store: "corp"}),
		}}),
		record("consumers", "alice", "alice", &configv1.Consumer{Name: "alice", Kind: configv1.ConsumerKind_CONSUMER_KIND_MACHINE}),
	}
}

// present shows pair n to a runtime, and answers the status of the refusal, or 0.
func present(t testing.TB, x *exchange.Exchange, rt *runtime.Runtime, n int, at time.Time) int {
	t.Helper()
	route, _ := rt.Routes.Get("r")
	x.Reset()
	x.Directory, x.Timings.Received = rt.Directory, at
	x.Request.Header.Add(exchange.Field("access_token", fmt.Sprintf("access-%d", n)))
	x.Request.Header.Add(exchange.Field("secret_token", fmt.Sprintf("secret-%d", n)))
	if route.Chain.Request(x) != policy.Next {
		return x.Response.Status
	}
	return 0
}

// TestStoredPairsComeAndGo follows a store of which nothing is known, then something, then less.
func TestStoredPairsComeAndGo(t *testing.T) {
	t.Parallel()
	c, source, folder := newCompiler(), statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{})
	one, term := pepper(1)
	x, now := &exchange.Exchange{}, time.Unix(1_000_000, 0)
	source.Change(append(behindVault(), one), nil)
	rt, faults := c.Build(statetest.Fold(t, folder, source.Reset()), nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	ending := stored(term, 2, "alice")
	ending.Resource.(*systemv1.StoredCredential).Expires = timestamppb.New(now.Add(time.Second))
	broken := record(tokenpair.KindEntry, "entry-3", "corp.3", &systemv1.StoredCredential{
		Store: "corp", Consumer: "alice", Pair: &configv1.KeyedHash{Term: 1, Hash: []byte("short")},
	})
	for _, step := range []struct {
		name   string
		put    []statetest.Record
		drop   []statetest.Record
		want   map[int]int // status of each pair
		faults int
	}{
		{"nothing is known", nil, nil, map[int]int{1: 503, 2: 503}, 0},
		{"pairs, of a store that was not read to its end", []statetest.Record{stored(term, 1, "alice")}, nil, map[int]int{1: 503}, 0},
		{"the store is known", []statetest.Record{storeState(true), ending}, nil, map[int]int{1: 0, 2: 0, 3: 401}, 0},
		{"a pair cannot be read", []statetest.Record{broken}, nil, map[int]int{1: 0, 3: 503, 9: 503}, 1},
		{"it is removed", nil, []statetest.Record{broken}, map[int]int{1: 0, 3: 401}, 0},
		{"of a consumer that is not there", []statetest.Record{stored(term, 4, "carol")}, nil, map[int]int{1: 0, 4: 401}, 0},
		{"an unrelated change", []statetest.Record{record("services", "t", "t", &configv1.Service{Name: "t", Url: "http://127.0.0.1:8"})}, nil, map[int]int{1: 0, 2: 0}, 0},
		{"a pair is removed", nil, []statetest.Record{stored(term, 1, "alice")}, map[int]int{1: 401, 2: 0}, 0},
		{"a twin counts no more", []statetest.Record{record(tokenpair.KindEntry, "entry-2", "corp.2", &systemv1.StoredCredential{Store: "corp", Consumer: "alice"})}, nil, map[int]int{2: 401}, 0},
		{"too old", []statetest.Record{storeState(false), ending}, nil, map[int]int{1: 503, 2: 503}, 0},
	} {
		rt, faults = c.Build(statetest.Fold(t, folder, source.Change(step.put, step.drop)), rt)
		got := map[int]int{}
		for n := range step.want {
			got[n] = present(t, x, rt, n, now)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if len(faults) != step.faults {
			t.Errorf("%s: faults %v, want %d", step.name, faults, step.faults)
		}
		fresh, _ := c.Build(rt.Set, nil) // a gateway that starts now enforces the same
		for n, want := range got {
			if status := present(t, x, fresh, n, now); status != want {
				t.Errorf("%s: pair %d is answered %d by a gateway that starts, %d by one that runs", step.name, n, status, want)
			}
		}
	}
	if status := present(t, x, rt, 2, now.Add(time.Second)); status != 503 {
		t.Errorf("an ended pair of a store of which nothing is known is answered %d", status)
	}
}

// vaulted is a runtime with many pairs, known to the end.
func vaulted(t testing.TB, n int) *runtime.Runtime {
	t.Helper()
	one, term := pepper(1)
	records := append(behindVault(), one, storeState(true))
	for i := range n {
		records = append(records, stored(term, i, "alice"))
	}
	source := statetest.NewSource(1)
	source.Change(records, nil)
	rt, faults := newCompiler().Build(statetest.Fold(t, state.NewFolder(state.Empty(), state.Limits{}), source.Reset()), nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return rt
}

func TestWhoAStoredPairIsOf(t *testing.T) {
	t.Parallel()
	rt, x := vaulted(t, 3), &exchange.Exchange{}
	if status := present(t, x, rt, 1, time.Unix(1000, 0)); status != 0 {
		t.Fatalf("refused: %d", status)
	}
	p := *x.Principal
	p.Standing = nil
	want := exchange.Principal{
		Kind: exchange.KindMachine, Consumer: "alice", ConsumerUID: "alice", Credential: "corp.000000000000000000000001", CredentialUID: "entry-1", How: "vault-auth",
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}
}

// BenchmarkVaultAuth has one of many pairs checked: there is no cold path, nothing is cached.
func BenchmarkVaultAuth(b *testing.B) {
	rt, x, now := vaulted(b, 10_000), &exchange.Exchange{}, time.Unix(1000, 0)
	route, _ := rt.Routes.Get("r")
	for name, fields := range map[string][2]exchange.Header{
		"valid": {exchange.Field("access_token", "access-77"), exchange.Field("secret_token", "secret-77")},
		"wrong": {exchange.Field("access_token", "access-77"), exchange.Field("secret_token", "secret-78")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Reset()
				x.Directory, x.Timings.Received = rt.Directory, now
				x.Request.Header.Add(fields[0])
				x.Request.Header.Add(fields[1])
				route.Chain.Request(x)
			}
		})
	}
}

// BenchmarkStoredPairChange changes one pair of many.
func BenchmarkStoredPairChange(b *testing.B) {
	one, term := pepper(1)
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			records := append(behindVault(), one, storeState(true))
			for i := range n {
				records = append(records, stored(term, i, "alice"))
			}
			source, folder, c := statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{}), newCompiler()
			source.Change(records, nil)
			rt, _ := c.Build(statetest.Fold(b, folder, source.Reset()), nil)
			next := statetest.Fold(b, folder, source.Change(nil, []statetest.Record{records[len(records)-1]}))
			b.ReportAllocs()
			for b.Loop() {
				c.Build(next, rt)
			}
		})
	}
}
