package compile_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/router"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

func newCompiler() *compile.Compiler {
	return compile.New(compile.Deps{
		Factories: policies.All(), Host: hostsvc.New(hostsvc.Config{}), Log: slog.New(slog.DiscardHandler), Group: "default",
	})
}

func record(kind, uid, name string, m proto.Message) statetest.Record {
	return statetest.Record{Kind: kind, UID: uid, Name: name, Resource: m}
}

func binding(policyType string, cfg proto.Message) *configv1.Binding {
	a, err := anypb.New(cfg)
	if err != nil {
		panic(err)
	}
	return &configv1.Binding{Type: policyType, Config: a}
}

func keyAuth() *configv1.Binding { return binding("key-auth", &policyv1.KeyAuth{}) }

func acl(groups ...string) *configv1.Binding { return binding("acl", &policyv1.Acl{Allow: groups}) }

func ips(allow ...string) *configv1.Binding {
	return binding("ip-restriction", &policyv1.IpRestriction{Allow: allow})
}

func pepper(n uint32) (statetest.Record, *directory.Term) {
	key := make([]byte, 32)
	key[0] = byte(n)
	t, err := directory.NewTerm(n, key)
	if err != nil {
		panic(err)
	}
	return record("pepper-terms", fmt.Sprintf("pepper-%d", n), fmt.Sprint(n), &systemv1.PepperTerm{Term: n, Key: key}), t
}

func credential(t *directory.Term, uid, consumer, key string) statetest.Record {
	hash := t.Hash([]byte(key))
	a, err := anypb.New(&credentialv1.KeyAuth{Key: &configv1.Secret{
		Value: &configv1.Secret_KeyedHash{KeyedHash: &configv1.KeyedHash{Term: t.Number(), Hash: hash[:]}}, Set: true,
	}})
	if err != nil {
		panic(err)
	}
	return record("credentials", uid, consumer+"/"+uid, &configv1.Credential{Name: uid, Consumer: consumer, Type: "key-auth", Config: a})
}

// bound binds a credential to certificates.
func bound(r statetest.Record, to ...string) statetest.Record {
	c := proto.CloneOf(r.Resource.(*configv1.Credential))
	c.BoundCertificate = to
	r.Resource = c
	return r
}

func mtlsAuth(ca ...string) *configv1.Binding {
	return binding("mtls-auth", &policyv1.MtlsAuth{Ca: ca})
}

func fingerprint(c *certtest.Cert) *credentialv1.MtlsAuth {
	return &credentialv1.MtlsAuth{Identity: &credentialv1.MtlsAuth_Fingerprint{Fingerprint: c.ID()}}
}

// named is a credential that knows a certificate.
func named(uid, consumer string, by *credentialv1.MtlsAuth) statetest.Record {
	a, err := anypb.New(by)
	if err != nil {
		panic(err)
	}
	return record("credentials", uid, consumer+"/"+uid, &configv1.Credential{Name: uid, Consumer: consumer, Type: "mtls-auth", Config: a})
}

func prefix(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Prefix{Prefix: p}}
}

// call is a request of the tests.
type call struct {
	host, path, key, ip string
	cert                *certtest.Cert // nil: none
}

// verdict is what became of it: the route that forwards it, or the status of the refusal.
type verdict struct {
	status int
	route  string
}

// decide does what the server does up to the upstream.
func decide(rt *runtime.Runtime, c call) verdict {
	if rt.Closed != "" {
		return verdict{status: 503}
	}
	x := &exchange.Exchange{Directory: rt.Directory}
	x.Timings.Received = time.Unix(1000, 0)
	x.Request.Method, x.Request.Host, x.Request.Path = []byte("GET"), []byte(c.host), []byte(c.path)
	x.Request.ClientIP = netip.MustParseAddr(c.ip)
	if c.key != "" {
		x.Request.Header.Add(exchange.Field("X-API-Key", c.key))
	}
	res := rt.Table.Match(&router.Request{Host: x.Request.Host, Path: x.Request.Path, Method: x.Request.Method})
	if res.Status != router.Found {
		return verdict{status: res.Status}
	}
	route := res.Route.Target.(*runtime.Route)
	if route.Closed != "" {
		return verdict{status: 503}
	}
	var shown tls.ConnectionState
	if c.cert != nil {
		shown.PeerCertificates = []*x509.Certificate{c.cert.Cert}
	}
	shownBy := clientcert.NewPeer(&shown)
	if rt.Admits(route, shownBy, time.Now()) != nil {
		return verdict{status: 403}
	}
	x.Client = &peer{rt, route, shownBy}
	if route.Chain.Request(x) != policy.Next {
		return verdict{status: x.Response.Status}
	}
	overlay := rt.Overlay(route, x.Principal)
	if overlay.Closed != "" {
		return verdict{status: 503}
	}
	if overlay.Chain.Request(x) != policy.Next {
		return verdict{status: x.Response.Status}
	}
	return verdict{status: 200, route: route.Info.Name}
}

// peer is what the server tells of a client.
type peer struct {
	rt    *runtime.Runtime
	route *runtime.Route
	peer  *clientcert.Peer
}

func (c peer) Certificate(authorities string) (*exchange.Certificate, exchange.Trust) {
	return c.rt.Believed(c.route, authorities, c.peer, time.Now())
}

func (c peer) Proves(certificates string) bool {
	return c.rt.Vouched(certificates, c.peer, time.Now()) == nil
}

// world makes random sets.
type world struct {
	*rand.Rand
	people
}

// people are clients with certificates, each of an authority of its own.
type people struct{ authorities, leaves [2]*certtest.Cert }

func newWorld(t testing.TB, seed1, seed2 uint64) world {
	t.Helper()
	w := world{Rand: rand.New(rand.NewPCG(seed1, seed2))}
	for i := range w.leaves {
		w.authorities[i] = certtest.CA(t, "ca")
		w.leaves[i] = w.authorities[i].Issue(t, "leaf")
	}
	return w
}

// demand is who may come by certificate, mostly everybody.
func (w world) demand() (allow, ca []string, some bool) {
	switch w.IntN(6) {
	case 0:
		return []string{pick(w, "cert0", "cert1", w.leaves[w.IntN(2)].ID())}, nil, true
	case 1:
		return nil, []string{pick(w, "ca0", "ca1")}, true
	case 2:
		return []string{"cert0"}, []string{"ca1"}, true
	}
	return nil, nil, false
}

func (w world) wide() *configv1.ClientCertificates {
	if allow, ca, some := w.demand(); some && w.IntN(2) == 0 {
		return &configv1.ClientCertificates{Allow: allow, Ca: ca}
	}
	return nil
}

func pick[T any](w world, list ...T) T { return list[w.IntN(len(list))] }

func (w world) bindings(site string) []*configv1.Binding {
	var out []*configv1.Binding
	for i := range w.IntN(3) {
		var b *configv1.Binding
		switch w.IntN(7) {
		case 0, 1:
			if site == "consumers" || site == "consumer-groups" {
				continue
			}
			b = keyAuth()
		case 6:
			if site == "consumers" || site == "consumer-groups" {
				continue
			}
			b = mtlsAuth(pick(w, []string{"ca0"}, []string{"ca1"}, []string{"ca0", "ca1"}, nil)...)
		case 2:
			b = acl(pick(w, "gold", "silver"))
		case 3:
			b = ips(pick(w, "10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"))
		case 4:
			b = binding("rate-limit", &policyv1.RateLimit{Windows: []*policyv1.RateLimitWindow{}})
		default:
			b = &configv1.Binding{Type: "from-the-future", Config: &anypb.Any{}}
			if w.IntN(4) > 0 {
				b.Enabled = new(bool)
			}
		}
		b.Name = fmt.Sprintf("b%d", i)
		if w.IntN(6) == 0 {
			b.Enabled = new(bool)
		}
		b.Locked = w.IntN(6) == 0
		out = append(out, b)
	}
	return out
}

func (w world) route(i int) statetest.Record {
	name := fmt.Sprintf("route%d", i)
	r := &configv1.Route{
		Name: name, Service: pick(w, "s0", "s1", "s2"), Priority: int32(w.IntN(3)), Policies: w.bindings("routes"),
		Fallthrough: w.IntN(4) == 0,
	}
	for range w.IntN(3) {
		r.Hosts = append(r.Hosts, pick(w, "a.test", "b.test", "*.test"))
	}
	for range w.IntN(3) {
		r.Paths = append(r.Paths, prefix(pick(w, "/", "/a", "/a/b", "/c")))
	}
	if w.IntN(12) == 0 {
		r.Paths = append(r.Paths, &configv1.PathMatch{Match: &configv1.PathMatch_Regex{Regex: pick(w, "/a/.*", "(")}})
	}
	if w.IntN(5) == 0 {
		r.Methods = []string{pick(w, "GET", "POST")}
	}
	if w.IntN(10) == 0 {
		r.Enabled = new(bool)
	}
	if allow, ca, some := w.demand(); some {
		r.ClientCertificates = &configv1.RouteClientCertificates{Allow: allow, Ca: ca, Inherit: w.IntN(2) == 0}
	}
	if w.IntN(8) == 0 {
		r.Authn = &configv1.Authn{AnyOf: []*configv1.AuthnBranch{{Bindings: []string{pick(w, "b0", "b1")}}}}
	}
	return record("routes", "route-uid-"+fmt.Sprint(i), name, r)
}

func (w world) record() statetest.Record {
	i := w.IntN(3)
	switch w.IntN(12) {
	case 11:
		n := w.IntN(2)
		return named(fmt.Sprintf("named-uid-%d", n), fmt.Sprintf("c%d", i), fingerprint(w.leaves[n]))
	case 0:
		s := &configv1.Settings{RequireHttps: new(false), Policies: w.bindings("settings")}
		if w.IntN(2) == 0 {
			s.Policies = nil
		}
		s.ClientCertificates = w.wide()
		return record("settings", "settings-uid", "settings", s)
	case 1:
		s := &configv1.Service{Name: fmt.Sprintf("s%d", i), Url: "http://127.0.0.1:1", Policies: w.bindings("services"), ClientCertificates: w.wide()}
		return record("services", fmt.Sprintf("service-uid-%d", i), s.GetName(), s)
	case 2:
		g := pick(w, "gold", "silver")
		return record("consumer-groups", "group-uid-"+g, g, &configv1.ConsumerGroup{Name: g, Policies: w.bindings("consumer-groups")})
	case 3, 4:
		c := &configv1.Consumer{Name: fmt.Sprintf("c%d", i), Policies: w.bindings("consumers")}
		for range w.IntN(3) {
			c.Groups = append(c.Groups, pick(w, "gold", "silver", "bronze"))
		}
		return record("consumers", fmt.Sprintf("consumer-uid-%d", i), c.GetName(), c)
	case 5:
		_, term := pepper(uint32(1 + i%2))
		n := w.IntN(4) // two credentials never have one key: admission refuses that
		r := credential(term, fmt.Sprintf("credential-uid-%d", n), fmt.Sprintf("c%d", i), fmt.Sprintf("k%d", n))
		if w.IntN(3) == 0 {
			return bound(r, pick(w, "cert0", "cert1", w.leaves[w.IntN(2)].ID()))
		}
		return r
	case 6:
		p, _ := pepper(uint32(1 + i%2))
		return p
	case 7:
		name := fmt.Sprintf("ca%d", i%2)
		return record(certs.KindCA, "uid-"+name, name, &configv1.CaCertificate{Name: name, Certificates: pick(w, w.authorities[0].PEM(), w.authorities[1].PEM(), "nonsense")})
	case 8:
		name := fmt.Sprintf("cert%d", i%2)
		v := &configv1.CertificateVersion{Chain: pick(w, w.leaves[0].PEM(), w.leaves[1].PEM(), "nonsense")}
		return record(certs.Kind, "uid-"+name, name, &configv1.Certificate{Name: name, Current: v})
	default:
		return w.route(w.IntN(6))
	}
}

func (w world) call() call {
	return call{
		host: pick(w, "a.test", "b.test", "c.test", "other"), path: pick(w, "/", "/a", "/a/b/x", "/c", "/d"),
		key: pick(w, "", "k0", "k1", "k2", "k9"), ip: pick(w, "10.0.0.1", "10.1.0.1", "192.0.2.1"),
		cert: pick(w, nil, w.leaves[0], w.leaves[1]),
	}
}

func key(r statetest.Record) string { return r.Kind + "/" + r.UID }

// everyCall runs fn for many calls.
func everyCall(w world, fn func(call)) {
	for range 60 {
		fn(w.call())
	}
}

func faultText(faults []runtime.Fault) []string {
	var out []string
	for _, f := range faults {
		out = append(out, f.Kind+"/"+f.Name+": "+f.Reason)
	}
	return out
}

func build(t testing.TB, records ...statetest.Record) (*runtime.Runtime, []string) {
	t.Helper()
	rt, faults := newCompiler().Build(statetest.Set(t, records...), nil)
	return rt, faultText(faults)
}
