package secretsource

import (
	"context"
	"errors"
	"fmt"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/shared/secret"
	"keyward.dev/shared/settings"
)

// kv is a KV engine of Vault, or what is below a path in it.
type kv struct {
	client *vaultclient.Client
	// base is the mount, with what version 2 puts behind it, and the path that a reference cannot leave.
	base   string
	nested bool
	// listed is what base is for listing: version 2 keeps names elsewhere than what they name.
	listed string
}

func newKV(client *vaultclient.Client, mount, version, prefix string) (*kv, error) {
	v := &kv{client: client, base: mount, listed: mount}
	switch version {
	case "", "2":
		v.base, v.nested, v.listed = v.base+"/data", true, mount+"/metadata"
	case "1":
	default:
		return nil, errors.New("kv must be 1 or 2, the version of the KV engine")
	}
	if prefix != "" {
		if !secretplace.Path(prefix) {
			return nil, errors.New("prefix must be a path without slashes at its ends")
		}
		v.base += "/" + prefix
		v.listed += "/" + prefix
	}
	return v, nil
}

func (p *Provider) openVault(place string, lookup settings.Lookup) (vaulturi.Values, error) {
	location, err := vaulturi.Parse(place)
	switch {
	case errors.Is(err, vaulturi.ErrForm):
		return nil, errForm
	case err != nil:
		return nil, err
	}
	client, err := location.Open(lookup)
	if err != nil {
		return nil, err
	}
	if p.source, err = newVault(client, location); err != nil {
		return nil, err
	}
	_, p.issues = p.source.(*issuer)
	p.logins, _ = p.source.(*logins)
	p.run = client.Run
	return location.Rest, nil
}

func newVault(client *vaultclient.Client, l vaulturi.Location) (source, error) {
	issuing, making := l.Rest.Take("pki-role"), l.Rest.Take("database-role")
	switch {
	case issuing != "" && making != "":
		return nil, errors.New("pki-role and database-role are for different engines; give one of them")
	case issuing != "":
		return newIssuer(client, l.Path, issuing)
	case making != "":
		return newLogins(client, l.Path, making)
	}
	return newKV(client, l.Path, l.Rest.Take("kv"), l.Rest.Take("prefix"))
}

func (v *kv) check(r secret.Reference) string { return secretplace.KV(r) }

func (v *kv) read(ctx context.Context, q question) (string, error) {
	data, err := q.read(func() (map[string]any, error) { return v.client.Read(ctx, v.base+"/"+q.reference.Path) })
	if err != nil {
		return "", vaultFailure(err)
	}
	if v.nested {
		data, _ = data["data"].(map[string]any) // nil for a version that was deleted
	}
	value, ok := data[q.reference.Field]
	if !ok || value == nil {
		return "", errNothing
	}
	text, ok := value.(string)
	if !ok {
		return "", errNoText
	}
	return text, nil
}

// vaultFailure tells what holds for everything from a Vault apart from what holds for one reference.
func vaultFailure(err error) error {
	if vaultclient.Down(err) || errors.Is(err, vaultclient.ErrNoLogin) {
		return fmt.Errorf("%w: %w", errDown, err)
	}
	if errors.Is(err, vaultclient.ErrNotFound) {
		return errNothing
	}
	return err
}
