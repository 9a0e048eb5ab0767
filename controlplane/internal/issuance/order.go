package issuance

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/certinput"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/telemetry"
)

// order is one attempt to have a certificate issued.
type order struct {
	want     want
	group    string
	accounts *Ledger
	client   *acme.Client
	trip     *transport
	// show puts answers where gateways give them and waits until they do.
	show func(ctx context.Context, proofs []proof) error
}

// issued is what came of an order.
type issued struct {
	version *configv1.CertificateVersion
	leaf    *x509.Certificate
	// suggested is when the authority would have it renewed; zero: it does not say.
	suggested window
}

func newOrder(w want, group string, accounts *Ledger, rules *egress.Rules) *order {
	trip := newTransport(rules, pool(w.roots))
	return &order{want: w, group: group, accounts: accounts, trip: trip, client: newClient(w, group, trip)}
}

// newClient returns a client of an authority. Clients keep directories by their URLs, for all that a process asks; the fragment, which
// is never sent, gives each issuer its own: what one of them is told another one must not be.
func newClient(w want, group string, trip *transport) *acme.Client {
	return &acme.Client{
		Directory: w.issuer.GetDirectory() + "#" + group + "/" + w.issuerUID, HTTPClient: trip.client(),
		UserAgent: "keyward/" + telemetry.Version(), PollInterval: time.Second, PollTimeout: 2 * time.Minute,
	}
}

func pool(roots []*configv1.CaCertificate) *x509.CertPool {
	if len(roots) == 0 {
		return nil
	}
	p := x509.NewCertPool()
	for _, r := range roots {
		all, _ := certs.OpenCA(r)
		for _, c := range all {
			p.AddCert(c)
		}
	}
	return p
}

// run orders, proves and fetches.
func (o *order) run(ctx context.Context) (issued, error) {
	account, err := o.open(ctx, false)
	if err != nil {
		return issued{}, err
	}
	placed, err := o.place(ctx, account)
	if isProblem(err, acme.ProblemTypeAccountDoesNotExist) { // the authority has forgotten it
		if account, err = o.open(ctx, true); err == nil {
			placed, err = o.place(ctx, account)
		}
	}
	if err != nil {
		return issued{}, fmt.Errorf("order: %w", err)
	}
	if err := o.prove(ctx, account, placed); err != nil {
		return issued{}, err
	}
	return o.fetch(ctx, account, placed)
}

// place places the order. That it replaces a certificate the authority is told if it wants to hear it (RFC 9773 section 5), and
// it is placed without if that was not well received.
func (o *order) place(ctx context.Context, account acme.Account) (acme.Order, error) {
	var asked acme.Order
	for _, name := range o.want.names {
		asked.Identifiers = append(asked.Identifiers, acme.Identifier{Type: "dns", Value: name})
	}
	directory, err := o.client.GetDirectory(ctx)
	if err != nil {
		return acme.Order{}, err
	}
	if leaf := o.want.leaf(); leaf != nil && directory.RenewalInfo != "" && o.want.record.GetRequest() == o.want.request {
		if id, err := acme.ARIUniqueIdentifier(leaf); err == nil {
			replacing := asked
			replacing.Replaces = id
			placed, err := o.client.NewOrder(ctx, account, replacing)
			if _, refused := errors.AsType[acme.Problem](err); !refused || isProblem(err, acme.ProblemTypeRateLimited) {
				return placed, err
			}
		}
	}
	return o.client.NewOrder(ctx, account, asked)
}

// leaf is the certificate that is in use, nil if there is none.
func (w want) leaf() *x509.Certificate {
	block, _ := pem.Decode([]byte(w.record.GetCertificate().GetChain()))
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// prove has the authority see that the names are ours, those that it has not seen lately.
func (o *order) prove(ctx context.Context, account acme.Account, placed acme.Order) error {
	var waiting []acme.Authorization
	var proofs []proof
	for _, url := range placed.Authorizations {
		a, err := o.client.GetAuthorization(ctx, account, url)
		if err != nil {
			return fmt.Errorf("read what is to be proved: %w", err)
		}
		if a.Status == acme.StatusValid {
			continue
		}
		p, err := o.proof(a)
		if err != nil {
			return err
		}
		waiting, proofs = append(waiting, a), append(proofs, p)
	}
	if len(proofs) == 0 {
		return nil
	}
	if err := o.show(ctx, proofs); err != nil {
		return err
	}
	for _, p := range proofs {
		if _, err := o.client.InitiateChallenge(ctx, account, p.challenge); err != nil {
			return fmt.Errorf("have %s looked at: %w", p.record.GetHost(), err)
		}
	}
	for i, a := range waiting {
		if _, err := o.client.PollAuthorization(ctx, account, a); err != nil {
			return fmt.Errorf("prove %s by %s: %w", proofs[i].record.GetHost(), proofs[i].record.GetType(), err)
		}
	}
	return nil
}

// fetch makes a new key, has the certificate issued for it, and judges it like one that somebody writes.
func (o *order) fetch(ctx context.Context, account acme.Account, placed acme.Order) (issued, error) {
	key, err := newKey(o.want.keyType)
	if err != nil {
		return issued{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return issued{}, errors.New("make a key: cannot be written down")
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: o.want.names}, key)
	if err != nil {
		return issued{}, fmt.Errorf("make a request: %w", err)
	}
	done, err := o.client.FinalizeOrder(ctx, account, placed, request)
	if err != nil {
		return issued{}, fmt.Errorf("have it issued: %w", err)
	}
	chains, err := o.client.GetCertificateChain(ctx, account, done.Certificate)
	if err != nil {
		return issued{}, fmt.Errorf("fetch what was issued: %w", err)
	}
	if len(chains) == 0 {
		return issued{}, errors.New("fetch what was issued: there is nothing")
	}
	out, err := o.judge(string(chains[0].ChainPEM), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if info := chains[0].RenewalInfo; err == nil && info != nil {
		out.suggested = windowOf(*info)
	}
	return out, err
}

// judge holds what came against what was asked for, by the rules for all certificates.
func (o *order) judge(chain, key string) (issued, error) {
	v := &configv1.CertificateVersion{Chain: chain, PrivateKey: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: key}}}
	vs := certinput.Version(v, certinput.NewWork(0))
	if len(vs) == 0 {
		set, wrong := certs.Open(&configv1.Certificate{Name: o.want.name, Snis: o.want.names, Current: v})
		if len(wrong) == 0 {
			return issued{version: v, leaf: set.Current.Leaf()}, nil
		}
		vs = wrong
	}
	var parts []string
	for _, v := range vs {
		parts = append(parts, strings.TrimPrefix(v.Path, "current.")+" "+v.Reason)
	}
	return issued{}, errors.New("what was issued cannot be used: " + strings.Join(parts, "; "))
}

func newKey(kind string) (crypto.Signer, error) {
	if bits, ok := strings.CutPrefix(kind, "rsa-"); ok {
		n, err := strconv.Atoi(bits)
		if err != nil {
			return nil, fmt.Errorf("make a key: unknown kind %q", kind)
		}
		return rsa.GenerateKey(rand.Reader, n)
	}
	curve := elliptic.P256()
	if kind == "ecdsa-p384" {
		curve = elliptic.P384()
	}
	return ecdsa.GenerateKey(curve, rand.Reader)
}

func isProblem(err error, types ...string) bool {
	p, ok := errors.AsType[acme.Problem](err)
	return ok && slices.Contains(types, p.Type)
}
