package secretsource

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/secret"
)

// issuer is a role of a PKI engine of Vault. Each answer is a new certificate, so what it gave is kept until two thirds of its
// life are over or the names change.
type issuer struct {
	client      *vaultclient.Client
	mount, role string
}

func newIssuer(client *vaultclient.Client, mount, role string) (*issuer, error) {
	if !secretplace.Path(role) || strings.Contains(role, "/") {
		return nil, errors.New("pki-role must be the name of a role")
	}
	return &issuer{client, mount, role}, nil
}

func (i *issuer) check(r secret.Reference) string { return secretplace.PKI(i.role, r) }

func (i *issuer) read(ctx context.Context, q question) (string, error) {
	if text, ok := held(q); ok {
		return text, nil
	}
	if len(q.names) == 0 {
		return "", errNoNames
	}
	body := map[string]any{"common_name": q.names[0], "format": "pem", "private_key_format": "pkcs8"}
	if len(q.names) > 1 {
		body["alt_names"] = strings.Join(q.names[1:], ",")
	}
	data, err := i.client.Write(ctx, i.mount+"/issue/"+i.role, body)
	if err != nil {
		return "", vaultFailure(err)
	}
	return bundle(data)
}

// held answers what was issued before, if it still serves.
func held(q question) (string, bool) {
	key, chain := q.held.GetPrivateKey().GetPlaintext(), q.held.GetChain()
	block, _ := pem.Decode([]byte(chain))
	if key == "" || block == nil {
		return "", false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !q.now.Before(renewal(leaf)) {
		return "", false
	}
	for _, name := range q.names {
		if !slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return strings.EqualFold(n, name) }) {
			return "", false
		}
	}
	return key + "\n" + chain, true
}

// renewal is when a certificate is replaced: at two thirds of its life, each up to a tenth earlier so that not all are replaced
// at once. It is the same on all replicas.
func renewal(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	h := fnv.New32a()
	_, _ = h.Write(leaf.Raw) // never fails
	earlier := time.Duration(float64(life) / 10 * float64(h.Sum32()) / (1 << 32))
	return leaf.NotBefore.Add(life*2/3 - earlier)
}

// bundle is the answer as one text: the key, the certificate, and its issuers without the root.
func bundle(data map[string]any) (string, error) {
	key, _ := data["private_key"].(string)
	leaf, _ := data["certificate"].(string)
	if key == "" || leaf == "" {
		return "", errNotIssued
	}
	parts := []string{key, leaf}
	chain, _ := data["ca_chain"].([]any)
	for _, c := range chain {
		text, _ := c.(string)
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			continue
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err == nil && string(ca.RawSubject) != string(ca.RawIssuer) {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "\n"), nil
}
