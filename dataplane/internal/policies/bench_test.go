package policies_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// crowd is how many callers come in turn where a benchmark is of one whom the processor's caches do not have.
const crowd = 1 << 17

// cost is a policy and requests that it lets pass. Those that fetch, hash or verify something have benchmarks beside them.
type cost struct {
	typ string
	cfg proto.Message
	// fill makes x the request of the nth caller.
	fill func(x *exchange.Exchange, n int)
}

func costs(t testing.TB) []cost {
	t.Helper()
	gold := &exchange.Principal{Consumer: "alice", ConsumerUID: "u", Groups: []string{"silver", "gold"}}
	keys, known := manyKeys(t)
	certificates, issued := manyCertificates(t)
	limit := &policyv1.RateLimit{
		By:      policyv1.RateLimitBy_RATE_LIMIT_BY_IP,
		Windows: []*policyv1.RateLimitWindow{{Limit: 1e9, Window: durationpb.New(time.Second)}},
	}
	origin := exchange.Field("Origin", "https://x.app.example")
	from := func(x *exchange.Exchange, n int) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24|uint32(n))
		x.Request.ClientIP = netip.AddrFrom4(b)
	}
	return []cost{
		{"acl", &policyv1.Acl{Allow: []string{"gold"}}, func(x *exchange.Exchange, _ int) { x.Principal = gold }},
		{"cors", &policyv1.Cors{AllowOrigins: []string{"https://*.app.example"}}, func(x *exchange.Exchange, _ int) { x.Request.Header.Add(origin) }},
		{"ip-restriction", &policyv1.IpRestriction{Allow: []string{"192.0.2.0/24", "10.0.0.0/8"}}, from},
		{"key-auth", &policyv1.KeyAuth{}, func(x *exchange.Exchange, n int) {
			x.Directory = keys
			x.Request.Header.Add(exchange.Header{Name: keyField, Value: known[n]})
		}},
		{"mtls-auth", &policyv1.MtlsAuth{}, func(x *exchange.Exchange, n int) { x.Directory, x.Client = certificates, &issued[n] }},
		{"rate-limit", limit, from},
		{"request-size-limit", &policyv1.RequestSizeLimit{}, func(*exchange.Exchange, int) {}},
	}
}

// keyField is written once: a conversion for each request would be what is measured.
var keyField = []byte("X-API-Key")

// manyKeys are a directory of a crowd with a key each.
func manyKeys(t testing.TB) (*directory.Directory, [][]byte) {
	t.Helper()
	term, err := directory.NewTerm(1, []byte(rand.Text() + rand.Text())[:32])
	if err != nil {
		t.Fatal(err)
	}
	e, keys := directory.New().Edit(), make([][]byte, crowd)
	e.SetTerms([]*directory.Term{term})
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"})
	for i := range keys {
		keys[i] = []byte("kwk_" + rand.Text() + rand.Text())
		name := fmt.Sprint("c", i)
		e.PutCredential(directory.Credential{UID: name, Name: name, Type: "key-auth", Consumer: "alice", Term: 1, Hash: term.Hash(keys[i])})
	}
	return e.Directory(), keys
}

// connection is one with a certificate that is trusted.
type connection struct{ certificate exchange.Certificate }

func (c *connection) Certificate(string) (*exchange.Certificate, exchange.Trust) {
	return &c.certificate, exchange.Trusted
}

func (*connection) Proves(string) bool { return false }

func manyCertificates(t testing.TB) (*directory.Directory, []connection) {
	t.Helper()
	e, all := directory.New().Edit(), make([]connection, crowd)
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"})
	for i := range all {
		name := fmt.Sprint("c", i)
		hash := sha256.Sum256([]byte(name))
		all[i].certificate.Fingerprint = [][32]byte{hash}
		e.PutCredential(directory.Credential{UID: name, Name: name, Type: "mtls-auth", Consumer: "alice", Hash: hash, Subject: name})
	}
	return e.Directory(), all
}

// BenchmarkPolicy is what policies cost that keep nothing but what they look things up in: warm for the same caller again and
// again, cold for another one each time.
func BenchmarkPolicy(b *testing.B) {
	for _, c := range costs(b) {
		chain := policy.NewRoute([]policy.Link{build(b, c.typ, c.cfg)}, nil, nil)
		for name, callers := range map[string]int{"warm": 1, "cold": crowd} {
			b.Run(c.typ+"/"+name, func(b *testing.B) {
				x, n, now := &exchange.Exchange{}, 0, time.Now()
				pass := func() {
					x.Reset()
					x.Timings.Received = now
					c.fill(x, n*7919%callers) // not in the order in which they lie in memory
					n++
					if chain.Request(x) != policy.Next {
						b.Fatal(x.Refusal().Reason())
					}
					policy.Unwind(x)
				}
				pass()
				b.ReportAllocs()
				for b.Loop() {
					pass()
				}
			})
		}
	}
}
