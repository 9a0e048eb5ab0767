package secretsource

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/awssecrets"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/secret"
	"keyward.dev/shared/settings"
)

// Bounds of what is asked of a tenant's provider.
const (
	tenantTimeout = 5 * time.Second
	tenantAnswer  = 1 << 20
)

// tenants are the providers that tenants made, as far as they were used.
type tenants struct {
	rules *egress.Rules

	mu   sync.Mutex
	made map[string]map[string]made // guarded by mu: by group and uid
}

// made is a provider that was made from a resource and the authorities it believes, at their revisions.
type made struct {
	stamp    string
	provider *Provider
	http     *http.Client
}

// of are the providers of a view by name. One whose resource is as it was stays the same, with its login.
func (t *tenants) of(view *snapshot.View) map[string]*Provider {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, now, out := t.made[view.Group], map[string]made{}, map[string]*Provider{}
	for r := range view.All(secretplace.Kind) {
		p, ok := r.Message.(*configv1.SecretProvider)
		if !ok {
			continue // its references are those of a provider that is not there
		}
		m := before[r.UID]
		if stamp := stampOf(view, r, p); m.stamp != stamp {
			m = t.open(view, p)
			m.stamp = stamp
		}
		now[r.UID], out[r.Name] = m, m.provider
	}
	for uid, m := range before {
		if now[uid].http != m.http {
			m.http.CloseIdleConnections()
		}
	}
	if delete(t.made, view.Group); len(now) > 0 {
		t.made[view.Group] = now
	}
	return out
}

// stampOf changes when a provider is to be made anew.
func stampOf(view *snapshot.View, r *snapshot.Resource, p *configv1.SecretProvider) string {
	stamp := []string{fmt.Sprint(r.Revision)}
	for _, name := range authorities(p) {
		if ca, ok := view.Get(certs.KindCA, name); ok {
			stamp = append(stamp, fmt.Sprintf("%s %d", ca.UID, ca.Revision))
		}
	}
	return strings.Join(stamp, ", ")
}

func authorities(p *configv1.SecretProvider) []string {
	if p.GetVault() != nil {
		return p.GetVault().GetCa()
	}
	return p.GetAws().GetCa()
}

func (t *tenants) open(view *snapshot.View, p *configv1.SecretProvider) made {
	out := &Provider{
		name: p.GetName(), scheme: secretplace.AWS, tenant: true,
		refresh: p.GetRefresh().AsDuration(), stale: p.GetStaleBound().AsDuration(),
	}
	if p.GetVault() != nil {
		out.scheme, out.issues = secretplace.Vault, p.GetVault().GetPkiRole() != ""
	}
	client, err := t.client(view, p)
	var src source
	switch {
	case err != nil:
	case p.GetVault() != nil:
		src, out.logins, err = openTenantVault(client, p.GetVault())
	default:
		src = openTenantAWS(client, p.GetAws())
	}
	out.source = careful{of: p, next: src, err: err}
	return made{provider: out, http: client}
}

// client makes the client of a provider: with its own authorities, and within the operator's rules and its own networks.
func (t *tenants) client(view *snapshot.View, p *configv1.SecretProvider) (*http.Client, error) {
	cfg := egress.Config{ServerName: p.GetVault().GetServerName(), Timeout: tenantTimeout, MaxBody: tenantAnswer}
	var broken error
	for _, text := range p.GetNetworks() {
		network, err := netip.ParsePrefix(text)
		if err != nil { // then it would hold for all
			broken = fmt.Errorf("network %q cannot be read", text)
		}
		cfg.Networks = append(cfg.Networks, network)
	}
	for _, name := range authorities(p) {
		if cfg.Roots == nil {
			cfg.Roots = x509.NewCertPool()
		}
		r, _ := view.Get(certs.KindCA, name)
		if r == nil || r.Message == nil {
			broken = fmt.Errorf("authority %s cannot be read", name)
			continue
		}
		ca, _ := r.Message.(*configv1.CaCertificate)
		cfg.Roots.AppendCertsFromPEM([]byte(ca.GetCertificates()))
	}
	return t.rules.Client(cfg), broken
}

func openTenantVault(client *http.Client, v *configv1.VaultProvider) (source, *logins, error) {
	auth := vaultclient.Auth{Method: vaultclient.MethodToken, Secret: settings.NewSecret(v.GetToken().GetPlaintext())}
	if role := v.GetApprole(); role != nil {
		auth = vaultclient.Auth{
			Method: vaultclient.MethodAppRole, Mount: role.GetMount(), Role: role.GetRoleId(),
			Secret: settings.NewSecret(role.GetSecretId().GetPlaintext()),
		}
	}
	c, err := vaultclient.New(vaultclient.Config{
		Address: strings.TrimSuffix(v.GetAddress(), "/"), Namespace: v.GetNamespace(), Timeout: tenantTimeout, Auth: auth, HTTP: client,
	})
	if err != nil {
		return nil, nil, err
	}
	var src source
	switch {
	case v.GetPkiRole() != "":
		src, err = newIssuer(c, v.GetMount(), v.GetPkiRole())
	case v.GetDatabaseRole() != "":
		src, err = newLogins(c, v.GetMount(), v.GetDatabaseRole())
	default:
		version := ""
		if v.GetKvVersion() != 0 {
			version = fmt.Sprint(v.GetKvVersion())
		}
		src, err = newKV(c, v.GetMount(), version, v.GetPrefix())
	}
	if err != nil {
		return nil, nil, err
	}
	made, _ := src.(*logins)
	return &tended{source: src, client: c}, made, nil
}

func openTenantAWS(client *http.Client, a *configv1.AwsProvider) source {
	return &manager{prefix: a.GetPrefix(), client: awssecrets.New(awssecrets.Config{
		Region: a.GetRegion(), Endpoint: strings.TrimSuffix(a.GetEndpoint(), "/"), HTTP: client,
		Static: &awssecrets.Static{
			AccessKeyID: a.GetAccessKeyId(), SecretAccessKey: settings.NewSecret(a.GetSecretAccessKey().GetPlaintext()),
			SessionToken: settings.NewSecret(a.GetSessionToken().GetPlaintext()),
		},
	})}
}

// tended keeps a client logged in when it is used, where nothing else does.
type tended struct {
	source
	client *vaultclient.Client
	mu     sync.Mutex // held while the client is tended
}

func (t *tended) read(ctx context.Context, q question) (string, error) {
	t.tend(ctx)
	return t.source.read(ctx, q)
}

func (t *tended) tend(ctx context.Context) {
	if t.mu.TryLock() {
		t.client.Tend(ctx)
		t.mu.Unlock()
	}
}

// careful reads from a tenant's provider, and repeats nothing of what it says: the log is the operator's, and a server that is
// shown credentials could have them written there.
type careful struct {
	of   *configv1.SecretProvider
	next source
	err  error // it could not be made
}

func (c careful) check(r secret.Reference) string { return secretplace.Check(c.of, r) }

func (c careful) read(ctx context.Context, q question) (string, error) {
	if c.err != nil {
		return "", c.err
	}
	text, err := c.next.read(ctx, q)
	if err != nil {
		return "", discreet(err)
	}
	return text, nil
}
