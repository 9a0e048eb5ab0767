package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"keyward.dev/controlplane/internal/store"
)

// purpose binds sealed authorities to their table.
const purpose = "certificate_authorities"

// held is the authorities of a moment that can sign, opened.
type held struct {
	root, next, intermediate *authority
	// previous are the roots under which certificates are still good.
	previous []*authority
	// former are the intermediates that no longer sign, ended those of them that are of no use any more.
	former []*authority
	ended  []string
}

func (c *CA) hold(stored []store.Authority) (*held, error) {
	h := &held{}
	for _, row := range stored {
		a, err := c.openAuthority(row)
		if err != nil {
			return nil, err
		}
		root := row.Kind == kindRoot
		switch {
		case row.State == stateCurrent && root:
			h.root = a
		case row.State == stateCurrent:
			h.intermediate = a
		case row.State == stateNext && root:
			h.next = a
		case row.State == statePrevious && root:
			h.previous = append(h.previous, a)
		case row.State == statePrevious && c.cfg.Now().After(row.NotAfter.Add(c.cfg.RenewGrace)):
			h.ended = append(h.ended, row.ID)
		case row.State == statePrevious:
			h.former = append(h.former, a)
		}
	}
	return h, nil
}

// plan says what is to be done so that there is a current root, and an intermediate of which more than the given part of its
// life is left.
func (c *CA) plan(stored []store.Authority, left int) (Plan, error) {
	p := Plan{States: map[string]string{}}
	h, err := c.hold(stored)
	if err != nil {
		return p, err
	}
	for _, id := range h.ended {
		p.States[id] = stateRetired
	}
	if h.root == nil {
		made, row, err := c.makeRoot(stateCurrent)
		if err != nil {
			return p, err
		}
		h.root = made
		p.Create = append(p.Create, row)
	}
	if h.intermediate != nil && !c.due(&state{root: h.root, intermediate: h.intermediate}, left) {
		return p, nil
	}
	return p, c.follow(&p, h.intermediate, h.root)
}

// follow plans an intermediate under the root that takes the place of the one before.
func (c *CA) follow(p *Plan, was, root *authority) error {
	if was != nil {
		// Not retired: it may still be in the chains that gateways show, and they carry it themselves.
		p.States[was.id] = statePrevious
	}
	row, err := c.makeIntermediate(root)
	p.Create = append(p.Create, row)
	return err
}

func (c *CA) makeRoot(state string) (*authority, store.Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, store.Authority{}, err
	}
	t, err := c.template("Keyward root", rootTTL)
	if err != nil {
		return nil, store.Authority{}, err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLen = true, true, 1
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	cert, err := sign(t, t, key.Public(), key)
	if err != nil {
		return nil, store.Authority{}, fmt.Errorf("make root: %w", err)
	}
	a := &authority{id: idOf(cert), state: state, cert: cert, key: key}
	row, err := c.sealAuthority(kindRoot, a)
	return a, row, err
}

func (c *CA) makeIntermediate(root *authority) (store.Authority, error) {
	key, err := newKey()
	if err != nil {
		return store.Authority{}, err
	}
	cert, err := c.certify(key.Public(), root, c.cfg.Now().Add(c.cfg.IntermediateTTL))
	if err != nil {
		return store.Authority{}, fmt.Errorf("make intermediate: %w", err)
	}
	return c.sealAuthority(kindIntermediate, &authority{id: idOf(cert), state: stateCurrent, cert: cert, key: key})
}

// certify makes the root say that the key is an intermediate's.
func (c *CA) certify(public crypto.PublicKey, root *authority, until time.Time) (*x509.Certificate, error) {
	t, err := c.template("Keyward intermediate", 0)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	t.NotAfter = earlier(until, root.cert.NotAfter)
	return sign(t, root.cert, public, root.key)
}

// sealAuthority seals certificate and key together, so that neither can be exchanged in the store.
func (c *CA) sealAuthority(kind string, a *authority) (store.Authority, error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return store.Authority{}, fmt.Errorf("seal authority %s: %w", a.id, err)
	}
	plain := binary.BigEndian.AppendUint32(nil, uint32(len(a.cert.Raw)))
	plain = append(append(plain, a.cert.Raw...), pkcs8...)
	sealed, err := c.cfg.Sealer.SealBlob(purpose, a.id, plain)
	clear(plain)
	clear(pkcs8)
	if err != nil {
		return store.Authority{}, fmt.Errorf("seal authority %s: %w", a.id, err)
	}
	return store.Authority{
		ID: a.id, Kind: kind, State: a.state, Certificate: a.cert.Raw, Sealed: sealed,
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, CreatedAt: c.cfg.Now(),
	}, nil
}

func (c *CA) openAuthority(row store.Authority) (*authority, error) {
	plain, err := c.cfg.Sealer.OpenBlob(purpose, row.ID, row.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open authority %s: %w", row.ID, err)
	}
	defer clear(plain)
	if len(plain) < 4 || uint64(len(plain)-4) < uint64(binary.BigEndian.Uint32(plain)) {
		return nil, fmt.Errorf("open authority %s: malformed", row.ID)
	}
	n := 4 + int(binary.BigEndian.Uint32(plain))
	der, pkcs8 := plain[4:n], plain[n:]
	if !bytes.Equal(der, row.Certificate) {
		return nil, fmt.Errorf("open authority %s: its certificate is not the sealed one", row.ID)
	}
	cert, err := x509.ParseCertificate(bytes.Clone(der))
	if err != nil {
		return nil, fmt.Errorf("open authority %s: %w", row.ID, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, fmt.Errorf("open authority %s: its key does not parse", row.ID)
	}
	if !cert.IsCA || (cert.CheckSignatureFrom(cert) == nil) != (row.Kind == kindRoot) {
		return nil, fmt.Errorf("open authority %s: it is not a %s", row.ID, row.Kind)
	}
	return &authority{id: row.ID, state: row.State, cert: cert, key: signer}, nil
}

func (c *CA) template(name string, ttl time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	now := c.cfg.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{c.cfg.TrustDomain}},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(ttl),
	}, nil
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

func sign(t, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("the signed certificate does not parse")
	}
	return cert, nil
}

func idOf(cert *x509.Certificate) string { return hex.EncodeToString(cert.SerialNumber.Bytes()) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
