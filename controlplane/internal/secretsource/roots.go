package secretsource

import (
	"context"
	"errors"
	"fmt"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/secret"
)

// rooted are the files below a folder, by their own paths.
type rooted struct{ files }

func (r *rooted) relative(ref secret.Reference) (secret.Reference, bool) {
	var below bool
	ref.Path, below = strings.CutPrefix(ref.Path, r.root+"/")
	return ref, below
}

func (r *rooted) check(ref secret.Reference) string {
	inside, ok := r.relative(ref)
	if !ok || r.files.check(inside) != "" {
		return secretplace.NoFile
	}
	return ""
}

func (r *rooted) read(ctx context.Context, q question) (string, error) {
	inside, ok := r.relative(q.reference)
	if !ok {
		return "", errors.New(secretplace.NoFile)
	}
	q.reference = inside
	return r.files.read(ctx, q)
}

// AddRoots adds the folders below which groups may name files as certificates, by settings of the form
// /FOLDER?groups=a,b.
func (ps *Providers) AddRoots(texts []string) error {
	var faults []error
	for _, text := range texts {
		p, err := parseRoot(text)
		if err == nil && ps.named(p.name) != nil {
			err = errors.New("is there twice")
		}
		if err != nil {
			folder, _, _ := strings.Cut(text, "?")
			faults = append(faults, fmt.Errorf("folder %q: %w", folder, err))
			continue
		}
		ps.list = append(ps.list, p)
	}
	return errors.Join(faults...)
}

func parseRoot(text string) (*Provider, error) {
	folder, query, _ := strings.Cut(text, "?")
	f, err := newFiles(folder)
	if err != nil {
		return nil, errors.New("is not absolute and clean, or is /; the form is /FOLDER?groups=a,b")
	}
	parameters, err := vaulturi.ParseValues(query)
	if err != nil {
		return nil, err
	}
	p := &Provider{name: folder, scheme: secret.PathScheme, source: &rooted{*f}}
	return p, p.take(parameters)
}

// root answers the folder that a file is below, the narrowest of those that the group may name files of. That a folder is for
// others is not told.
func (ps *Providers) root(group string, r secret.Reference) (*Provider, string) {
	var found *Provider
	for _, p := range ps.list {
		if p.scheme == secret.PathScheme && p.groups[group] && p.source.check(r) == "" && (found == nil || len(p.name) > len(found.name)) {
			found = p
		}
	}
	if found == nil {
		return nil, secretplace.NoFile
	}
	return found, ""
}

// value reads one value.
func (p *Provider) value(ctx context.Context, q question) (string, error) {
	text, err := p.source.read(ctx, q)
	if err == nil && len(text) > maxValue {
		err = fmt.Errorf("it has more than %d bytes", maxValue)
	}
	return text, err
}

// chain is what is given of a version's certificates, or what is in the file that it names for them, which has to be below the
// same folder as that of the key.
func (p *Provider) chain(ctx context.Context, v *configv1.CertificateVersion) (string, error) {
	r, ok := certs.ChainOf(v)
	if !ok {
		return v.GetChain(), nil
	}
	if reason := p.source.check(r); reason != "" {
		return "", errors.New("the file of the certificates is not below the same folder as that of the key")
	}
	text, err := p.value(ctx, question{reference: r})
	if err != nil {
		return "", fmt.Errorf("the certificates: %w", err)
	}
	return text, nil
}
