package admission_test

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/snapshot"
)

// large is a big group whose lookups cost nothing, so that only admission is measured.
type large struct {
	*group
	byKind map[string][]*snapshot.Resource
	claims map[string]snapshot.Ref
	marks  map[[2]string][]snapshot.Ref
}

func (l *large) References(kind, name string) iter.Seq[snapshot.Ref] {
	return slices.Values(l.marks[[2]string{kind, name}])
}

func (l *large) Claimant(claim string) (snapshot.Ref, bool) {
	ref, ok := l.claims[claim]
	return ref, ok
}

func (l *large) All(kind string) iter.Seq[*snapshot.Resource] {
	return func(yield func(*snapshot.Resource) bool) {
		for _, r := range l.byKind[kind] {
			if !yield(r) {
				return
			}
		}
	}
}

func newLarge(b *testing.B, n int) *large {
	l := &large{group: newGroup(b), byKind: map[string][]*snapshot.Resource{}, claims: map[string]snapshot.Ref{}, marks: map[[2]string][]snapshot.Ref{}}
	add := func(kind, name string, m proto.Message) {
		if vs := l.cat.Normalize(m); len(vs) > 0 {
			b.Fatal(vs)
		}
		r := &snapshot.Resource{Kind: kind, Name: name, UID: kind + name, Message: m, Revision: 1}
		l.byKind[kind] = append(l.byKind[kind], r)
		l.members[kind+" "+name] = r
		for claim := range claims.Of(m) {
			l.claims[claim] = r.Ref()
		}
		for kind, name := range claims.Marks(m) {
			l.marks[[2]string{kind, name}] = append(l.marks[[2]string{kind, name}], r.Ref())
		}
	}
	add("services", "s", &configv1.Service{Name: "s", Url: "http://a.test"})
	for i := range n {
		name := fmt.Sprintf("n%06d", i)
		add("routes", name, &configv1.Route{Name: name, Service: "s", Hosts: []string{name + ".test"}})
		add("consumers", name, &configv1.Consumer{Name: name, Groups: []string{"gold"}})
		hash := &configv1.KeyedHash{Term: 1, Hash: fmt.Appendf(nil, "%032d", i)}
		cfg, err := anypb.New(&credentialv1.KeyAuth{Key: &configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: hash}}})
		if err != nil {
			b.Fatal(err)
		}
		add("credentials", name+"/k", &configv1.Credential{Name: "k", Consumer: name, Type: "key-auth", Config: cfg})
	}
	return l
}

func BenchmarkAdmitOneChange(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		l := newLarge(b, n)
		for what, doc := range map[string]string{
			"route":      "routes: [{name: n000001, service: s, hosts: [n000001.test], priority: 7}]",
			"expression": "routes: [{name: n000001, service: s, hosts: [n000001.test], paths: [{regex: \"/a.*\"}]}]",
			"acl": "routes: [{name: n000001, service: s, hosts: [n000001.test], policies: [{type: key-auth}, " +
				"{type: acl, config: {allow: [gold, platinum]}}]}]",
			"credential": "credentials: [{name: k, consumer: n000001, type: key-auth, config: {key: " + key + "}}]",
		} {
			_, req := l.changes(doc)
			req.Hash = l.hash
			b.Run(fmt.Sprintf("%s/%d", what, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := l.adm.Admit(l, req); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

var _ admission.View = (*large)(nil)
