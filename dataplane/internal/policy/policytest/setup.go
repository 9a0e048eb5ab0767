package policytest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/credentials"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/token"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/chain"
	"keyward.dev/shared/testkit/certtest"
)

// world is a compiled config section.
type world struct {
	factories map[string]policy.Factory
	catalog   *catalog.Catalog
	services  *hostsvc.Services
	directory *directory.Directory
	term      *directory.Term
	pepper    []byte
	keys      map[string]string // by placeholder
	minting   sync.Mutex
	signers   signers // guarded by minting
	nonce     string  // the last that was answered
	keyHost   *keyHost
	certs     map[string]*certtest.Cert

	settings  *configv1.Settings
	service   *configv1.Service
	route     *configv1.Route
	consumers map[string]*configv1.Consumer
	groups    map[string]*configv1.ConsumerGroup

	certificates map[string]*configv1.Certificate
	authorities  map[string]*configv1.CaCertificate
	stores       map[string]*configv1.RedisStore

	routeChain *policy.Chain
	parameters Parameters // that are set
}

var keyPlaceholder = regexp.MustCompile(`\$KEY_[a-z0-9]+`)

func newWorld(t testing.TB, doc []byte, factories []policy.Factory) *world {
	t.Helper()
	w := &world{
		factories: map[string]policy.Factory{}, keys: map[string]string{}, services: hostsvc.New(hostsvc.Config{}),
		certificates: map[string]*configv1.Certificate{}, authorities: map[string]*configv1.CaCertificate{}, stores: map[string]*configv1.RedisStore{},
		parameters: Parameters{}, settings: &configv1.Settings{}, consumers: map[string]*configv1.Consumer{}, groups: map[string]*configv1.ConsumerGroup{},
	}
	for _, f := range factories {
		w.factories[f.Type] = f
	}
	var err error
	if w.catalog, err = catalog.New(); err != nil {
		t.Fatalf("catalog.New() = %v", err)
	}
	w.load(t, w.fill(t, fillPlaces(t, doc)))
	w.services.Egress.Store(group{w}.Egress())
	w.fetchKeys(t)
	w.routeChain = w.compileRoute(t)
	return w
}

// fill puts generated keys in the place of placeholders.
func (w *world) fill(t testing.TB, b []byte) []byte {
	t.Helper()
	b = w.proofs(t, w.mint(t, w.thumbprints(t, w.fillBasic(w.fillKeyHost(t, b)))))
	return keyPlaceholder.ReplaceAllFunc(b, func(name []byte) []byte {
		if w.keys[string(name)] == "" {
			w.keys[string(name)] = "kwk_" + rand.Text() + rand.Text()
		}
		return []byte(w.keys[string(name)])
	})
}

// unfill puts placeholders back, so that expectations do not depend on generated keys.
func (w *world) unfill(b []byte) []byte {
	for name, key := range w.keys {
		b = bytes.ReplaceAll(b, []byte(key), []byte(name))
	}
	return b
}

func (w *world) load(t testing.TB, doc []byte) {
	t.Helper()
	d, violations := w.catalog.Decode(doc, "application/yaml")
	if len(violations) > 0 {
		t.Fatalf("config.yaml: %v", violations)
	}
	pepper := make([]byte, 32)
	if _, err := rand.Read(pepper); err != nil {
		t.Fatal(err)
	}
	term, err := directory.NewTerm(1, pepper)
	if err != nil {
		t.Fatal(err)
	}
	edit := directory.New().Edit()
	edit.SetTerms([]*directory.Term{term})
	w.term, w.pepper = term, pepper
	for _, item := range d.Items {
		w.parameters.set(item.Message.ProtoReflect()) // before defaults are
		if v := w.catalog.Normalize(item.Message); len(v) > 0 {
			t.Fatalf("config.yaml: %s: %v", item.Path, v)
		}
		w.add(t, edit, term, item.Message)
	}
	w.directory = edit.Directory()
	if w.route == nil {
		t.Fatal("config.yaml has no route")
	}
}

func (w *world) add(t testing.TB, edit *directory.Editor, term *directory.Term, m proto.Message) {
	t.Helper()
	switch m := m.(type) {
	case *configv1.Settings:
		w.settings = m
	case *configv1.Service:
		w.service = m
	case *configv1.Route:
		if w.route == nil {
			w.route = m
		}
	case *configv1.Certificate:
		w.certificates[m.GetName()] = m
	case *configv1.CaCertificate:
		w.authorities[m.GetName()] = m
	case *configv1.RedisStore:
		w.stores[m.GetName()] = m
	case *configv1.ConsumerGroup:
		w.groups[m.GetName()] = m
	case *configv1.Consumer:
		w.consumers[m.GetName()] = m
		edit.PutConsumer(directory.Consumer{
			UID: uid("consumers", m.GetName()), Name: m.GetName(), Username: m.GetUsername(), CustomID: m.GetCustomId(),
			Kind: credentials.Kind(m.GetKind()), Groups: m.GetGroups(), Labels: m.GetLabels(),
		})
	case *configv1.Credential:
		cfg, err := m.GetConfig().UnmarshalNew()
		if err != nil {
			t.Fatalf("credential %s: %v", m.GetName(), err)
		}
		if k, ok := cfg.(*credentialv1.KeyAuth); ok { // as the control plane keeps it
			hash := term.Hash([]byte(k.GetKey().GetPlaintext()))
			k.Key = &configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: &configv1.KeyedHash{Term: term.Number(), Hash: hash[:]}}}
		}
		c, reason := credentials.Read(m, cfg, true)
		if reason != "" {
			t.Fatalf("credential %s does not count: %s", m.GetName(), reason)
		}
		c.UID = uid("credentials", m.GetConsumer()+"/"+m.GetName())
		if own, ok := c.Material.(*token.OwnKey); ok && own.URL != "" {
			own.Held = w.services.KeySets.Hold(hostsvc.KeysAt(own.URL))
		}
		if to := m.GetBoundCertificate(); len(to) > 0 {
			c.Bound = clientcert.Key(clientcert.Names(to), nil)
		}
		edit.PutCredential(c)
	}
}

func uid(kind, name string) string { return "uid/" + kind + "/" + name }

// input is what the effective chain is made from, for a caller who may be nobody.
func (w *world) input(consumer string) chain.Input {
	in := chain.Input{Authn: w.route.GetAuthn()}
	in.Settings = &chain.Owner{Kind: "settings", UID: uid("settings", "settings"), Name: "settings", Bindings: w.settings.GetPolicies()}
	in.Route = &chain.Owner{Kind: "routes", UID: uid("routes", w.route.GetName()), Name: w.route.GetName(), Bindings: w.route.GetPolicies()}
	if s := w.service; s != nil {
		in.Service = &chain.Owner{Kind: "services", UID: uid("services", s.GetName()), Name: s.GetName(), Bindings: s.GetPolicies()}
	}
	c := w.consumers[consumer]
	if c == nil {
		return in
	}
	in.Consumer = &chain.Owner{Kind: "consumers", UID: uid("consumers", consumer), Name: consumer, Bindings: c.GetPolicies()}
	for _, name := range c.GetGroups() {
		if g := w.groups[name]; g != nil {
			in.Groups = append(in.Groups, &chain.Owner{Kind: "consumer-groups", UID: uid("consumer-groups", name), Name: name, Bindings: g.GetPolicies()})
		}
	}
	return in
}

func (w *world) effective(t testing.TB, consumer string) chain.Chain {
	t.Helper()
	c := chain.Effective(func(typ string) *optionsv1.PolicyOptions {
		p, ok := w.catalog.Policy(typ)
		if !ok {
			return nil
		}
		return &optionsv1.PolicyOptions{Type: p.Type, Phase: p.Phase, Combine: p.Combine, BindableOn: p.BindableOn, Body: p.Body}
	}, w.input(consumer))
	if why := c.Closed(); why != "" {
		t.Fatalf("config.yaml: the chain is closed: %s", why)
	}
	return c
}

func (w *world) compileRoute(t testing.TB) *policy.Chain {
	t.Helper()
	c := w.effective(t, "")
	built := make([]policy.Link, len(c.Links))
	var edge, authn []policy.Link
	for i := range c.Links {
		l := &c.Links[i]
		if !l.Applies() || l.Phase > optionsv1.Phase_PHASE_AUTHN {
			continue
		}
		built[i] = w.build(t, l)
		if l.Phase == optionsv1.Phase_PHASE_EDGE {
			edge = append(edge, built[i])
		} else {
			authn = append(authn, built[i])
		}
	}
	var branches [][]policy.Link
	if len(authn) > 0 {
		branches = [][]policy.Link{authn}
	}
	for i, members := range c.AnyOf {
		if i == 0 {
			branches = nil
		}
		var branch []policy.Link
		for _, m := range members {
			branch = append(branch, built[m])
		}
		branches = append(branches, branch)
	}
	return policy.NewOpenRoute(edge, branches, w.route.GetAuthn().GetAnonymous(), nil)
}

func (w *world) compileOverlay(t testing.TB, consumer string) *policy.Chain {
	t.Helper()
	c := w.effective(t, consumer)
	var links []policy.Link
	for i := range c.Links {
		if l := &c.Links[i]; l.Applies() && l.Phase > optionsv1.Phase_PHASE_AUTHN {
			links = append(links, w.build(t, l))
		}
	}
	return policy.NewOverlay(links, nil)
}

func (w *world) build(t testing.TB, l *chain.Link) policy.Link {
	t.Helper()
	f, ok := w.factories[l.Type]
	if !ok {
		t.Fatalf("no factory for %s", l.Type)
	}
	cfg, err := w.catalog.Config(l.Binding.GetConfig())
	if err != nil {
		t.Fatal(err)
	}
	id := policy.Identity{Type: l.Type, Name: l.Name, OwnerKind: l.OwnerKind, OwnerUID: l.OwnerUID, OwnerName: l.OwnerName}
	p, err := f.Build(cfg, policy.Deps{Binding: id, Host: w.services, Group: group{w}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(fmt.Errorf("binding %s: %w", l.Name, err))
	}
	return policy.Link{Binding: id, Report: l.Binding.GetMode() == configv1.Mode_MODE_REPORT, Policy: p}
}
