package admission

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// elsewhere says why a secret cannot be read from where a reference says, empty if it can: from a provider of the operator, or
// else from one of the group as it will be.
func (j *judge) elsewhere(r secret.Reference) string {
	given := j.req.Secrets
	if given != nil && given.Has(r.Provider) {
		return given.Check(r)
	}
	m, ok := j.set.get(secretplace.Kind, r.Provider)
	if !ok {
		return secretplace.Unknown(r)
	}
	p, ok := m.msg.(*configv1.SecretProvider)
	if !ok {
		return catalog.Ref(secretplace.Kind, r.Provider) + " cannot be read"
	}
	return secretplace.Check(p, r)
}

const sentElsewhere = "give it again: where it is sent, or who is believed there, is another than it was given for"

// provider checks what the schema cannot say of a provider of secrets.
func (j *judge) provider(e *entry) {
	p, ok := e.msg.(*configv1.SecretProvider)
	if !ok {
		return
	}
	if p.GetStaleBound().AsDuration() < p.GetRefresh().AsDuration() {
		j.fail(problem.Join(e.path, "stale_bound"), "is less than refresh")
	}
	for path, reason := range placeFaults(p) {
		if reason != "" {
			j.fail(problem.Join(e.path, path), "%s", reason)
		}
	}
	for path, given := range logins(p) {
		at := problem.Join(e.path, path)
		told := slices.ContainsFunc(j.violations, func(v problem.Violation) bool { return v.Path == at })
		switch {
		case given || told:
		case moved(e):
			j.fail(at, sentElsewhere)
		default:
			j.fail(at, "required")
		}
	}
}

// logins are the places of the secrets that a provider must have, and whether it has them.
func logins(p *configv1.SecretProvider) map[string]bool {
	switch v, a := p.GetVault(), p.GetAws(); {
	case v.GetApprole() != nil:
		return map[string]bool{"vault.approle.secret_id": secret.Stored(v.GetApprole().GetSecretId())}
	case v != nil:
		return map[string]bool{"vault.token": secret.Stored(v.GetToken())}
	case a != nil:
		return map[string]bool{"aws.secret_access_key": secret.Stored(a.GetSecretAccessKey())}
	}
	return nil
}

// placeFaults say what is wrong with where a provider is.
func placeFaults(p *configv1.SecretProvider) map[string]string {
	path := func(text string, optional bool) string {
		if secretplace.Path(text) || optional && text == "" {
			return ""
		}
		return "must be a path of letters, digits and . _ @ : + = , - /, without slashes at its ends"
	}
	if v := p.GetVault(); v != nil {
		out := map[string]string{
			"vault.address": endpoint(v.GetAddress()), "vault.mount": path(v.GetMount(), false), "vault.prefix": path(v.GetPrefix(), true),
			"vault.namespace": path(strings.TrimSuffix(v.GetNamespace(), "/"), true), "vault.approle.mount": path(v.GetApprole().GetMount(), true),
			"vault.pki_role": path(v.GetPkiRole(), true), "vault.database_role": path(v.GetDatabaseRole(), true),
		}
		for at, role := range map[string]string{"vault.pki_role": v.GetPkiRole(), "vault.database_role": v.GetDatabaseRole()} {
			if strings.Contains(role, "/") {
				out[at] = "must be the name of a role"
			}
		}
		return out
	}
	out := map[string]string{}
	if a := p.GetAws(); a.GetEndpoint() != "" {
		out["aws.endpoint"] = endpoint(a.GetEndpoint())
	}
	if prefix := p.GetAws().GetPrefix(); prefix != "" {
		out["aws.prefix"] = secretplace.Manager("", secret.Reference{Path: prefix})
	}
	return out
}

// endpoint says what is wrong with a URL to which credentials are sent, empty if nothing is.
func endpoint(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return "is not a URL"
	case u.Scheme != "https":
		return "must begin with https://: credentials are sent there"
	case strings.Trim(u.Path, "/") != "":
		return "must end after host and port"
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && !strings.ContainsFunc(u.Hostname(), func(r rune) bool { return r >= 'a' && r <= 'z' }) {
		return "is not a host name or an address" // such as 2130706433, which some take for 127.0.0.1
	}
	return ""
}

// moved reports whether a provider or a store sends its credentials elsewhere than the stored one, or believes somebody else there: whoever
// may change it must not have a secret sent to them that they could not read.
func moved(e *entry) bool {
	if e.stored == nil {
		return false
	}
	switch after := e.msg.(type) {
	case *configv1.SecretProvider:
		before, _ := e.stored.Message.(*configv1.SecretProvider)
		return !proto.Equal(receiver(before), receiver(after))
	case *configv1.RedisStore:
		before, _ := e.stored.Message.(*configv1.RedisStore)
		return !proto.Equal(reached(before), reached(after))
	}
	return false
}

// receiver is a provider of which only that is left which says who gets its credentials.
func receiver(p *configv1.SecretProvider) *configv1.SecretProvider {
	out := &configv1.SecretProvider{}
	if v := p.GetVault(); v != nil {
		out.Vault = &configv1.VaultProvider{Address: v.GetAddress(), ServerName: v.GetServerName(), Ca: v.GetCa()}
	}
	if a := p.GetAws(); a != nil {
		out.Aws = &configv1.AwsProvider{Region: a.GetRegion(), Endpoint: a.GetEndpoint(), Ca: a.GetCa()}
	}
	return out
}

// maxProviders bounds how many clients the control plane keeps for a group.
const maxProviders = 64

// providers refuses names that the operator gives the group, and changes after which a reference that is left alone could not
// be read any more.
func (j *judge) providers() {
	total := 0
	for range j.set.all(secretplace.Kind) {
		total++
	}
	for _, e := range j.entries {
		p, ok := e.msg.(*configv1.SecretProvider)
		if !ok {
			continue
		}
		if e.stored == nil && total > maxProviders {
			j.fail(e.path, "the group would have %d secret providers; it may have %d", total, maxProviders)
			return
		}
		if j.req.Secrets != nil && j.req.Secrets.Has(e.name) {
			j.failWith(problem.Conflict, problem.Join(e.path, "name"), "the operator of the control plane gives the group a secret provider %s; take another name", e.name)
			continue
		}
		var lost []string
		for m := range j.set.untouched(secretplace.Kind, e.name) {
			c, isCertificate := m.msg.(*configv1.Certificate)
			s, isStore := m.msg.(*configv1.CredentialStore)
			if isCertificate && losing(c, p) || isStore && secretplace.Folder(p, s.GetPath()) != "" {
				lost = append(lost, catalog.Ref(m.kind, m.name))
			}
		}
		if len(lost) > 0 {
			slices.Sort(lost)
			j.failWith(problem.Conflict, e.path, "could not be used any more by %s", enumerate(lost))
		}
	}
}

// losing reports whether a reference of the certificate cannot be read from a provider.
func losing(c *configv1.Certificate, p *configv1.SecretProvider) bool {
	return slices.ContainsFunc(certs.Slots(c), func(s certs.Slot) bool {
		r, ok := secret.ParseReference(certs.Reference(s.Version))
		return ok && r.Provider == p.GetName() && secretplace.Check(p, r) != ""
	})
}
