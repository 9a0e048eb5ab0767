package policies_test

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func deps(name string) policy.Deps {
	return policy.Deps{
		Binding: policy.Identity{Type: name, Name: name, OwnerKind: "routes", OwnerUID: "r", OwnerName: "r"},
		Host:    hostsvc.New(hostsvc.Config{}), Log: slog.New(slog.DiscardHandler),
	}
}

// bench is a chain of real policies and a request that passes it.
type bench struct {
	route, overlay *policy.Chain
	directory      *directory.Directory
	headers        exchange.Headers
	now            time.Time
}

func newBench(t testing.TB, policyCount int) *bench {
	t.Helper()
	key := []byte("kwk_" + rand.Text() + rand.Text())
	b := &bench{now: time.Now(), directory: directoryWith(t, key)}
	b.headers = exchange.Headers{
		exchange.Field("Host", "hello.test"), exchange.Field("User-Agent", "bench"), exchange.Field("Accept", "*/*"),
		{Name: []byte("X-API-Key"), Value: key},
	}
	var edge, overlay []policy.Link
	var authn [][]policy.Link
	if policyCount >= 1 {
		authn = [][]policy.Link{{build(t, "key-auth", &policyv1.KeyAuth{})}}
	}
	if policyCount >= 5 {
		limit := &policyv1.RateLimit{Windows: []*policyv1.RateLimitWindow{{Limit: 1e9, Window: durationpb.New(time.Second)}}}
		edge = append(edge, build(t, "ip-restriction", &policyv1.IpRestriction{Allow: []string{"192.0.2.0/24", "10.0.0.0/8"}}),
			build(t, "request-size-limit", &policyv1.RequestSizeLimit{}))
		overlay = append(overlay, build(t, "acl", &policyv1.Acl{Allow: []string{"gold"}}), build(t, "rate-limit", limit))
	}
	b.route, b.overlay = policy.NewRoute(edge, authn, nil), policy.NewOverlay(overlay, nil)
	return b
}

func build(t testing.TB, typ string, cfg proto.Message) policy.Link {
	t.Helper()
	for _, f := range policies.All() {
		if f.Type == typ {
			p, err := f.Build(cfg, deps(typ))
			if err != nil {
				t.Fatal(err)
			}
			return policy.Link{Binding: policy.Identity{Type: typ, Name: typ}, Policy: p}
		}
	}
	t.Fatalf("no factory for %s", typ)
	return policy.Link{}
}

func directoryWith(t testing.TB, key []byte) *directory.Directory {
	t.Helper()
	pepper := make([]byte, 32)
	if _, err := rand.Read(pepper); err != nil {
		t.Fatal(err)
	}
	term, err := directory.NewTerm(1, pepper)
	if err != nil {
		t.Fatal(err)
	}
	e := directory.New().Edit()
	e.SetTerms([]*directory.Term{term})
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice", Groups: []string{"gold"}})
	e.PutCredential(directory.Credential{UID: "c", Name: "c", Type: "key-auth", Consumer: "alice", Term: 1, Hash: term.Hash(key), Used: &lastuse.Mark{}})
	return e.Directory()
}

// pass sends the request through both halves and back.
func (b *bench) pass(x *exchange.Exchange) policy.Verdict {
	x.Reset()
	x.Request.Header = append(x.Request.Header, b.headers...)
	x.Request.ClientIP = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	x.Directory, x.Timings.Received = b.directory, b.now
	v := b.route.Request(x)
	if v == policy.Next {
		v = b.overlay.Request(x)
	}
	x.Response.Status = 200
	policy.Unwind(x)
	return v
}

func BenchmarkChain(b *testing.B) {
	for _, n := range []int{0, 1, 5} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, x := newBench(b, n), &exchange.Exchange{}
			b.ReportAllocs()
			for b.Loop() {
				if c.pass(x) != policy.Next {
					b.Fatal("the chain stops")
				}
			}
		})
	}
}
