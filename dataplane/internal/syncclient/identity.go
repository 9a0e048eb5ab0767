package syncclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"keyward.dev/shared/mtls"
)

// identity is who the gateway is. It is immutable.
type identity struct {
	id    mtls.ID
	cert  *tls.Certificate
	roots [][]byte
	pool  *x509.CertPool
	// renew is when the next certificate is to be asked for.
	renew time.Time
}

func (i *identity) leaf() *x509.Certificate { return i.cert.Leaf }

// newIdentity checks what the control plane gave us for our key. Its certificate must be good now, unless it is one that
// was kept and may have expired.
func newIdentity(key crypto.Signer, chain, roots [][]byte, trustDomain string, kept bool) (*identity, error) {
	certs, err := parseAll(chain)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	pool, err := newPool(roots)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("certificate is of another key")
	}
	at := time.Now()
	if kept && at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	id, err := mtls.VerifyGateway(certs, pool, trustDomain, at)
	if err != nil {
		return nil, err
	}
	// The certificate's beginning is backdated, so its life is counted from now. Part of it is random, so that gateways
	// which started together do not renew together.
	var spread int64
	left := time.Until(leaf.NotAfter)
	if n, err := rand.Int(rand.Reader, big.NewInt(max(1, int64(left/20)))); err == nil {
		spread = n.Int64()
	}
	return &identity{
		id: id, cert: &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, roots: roots, pool: pool,
		renew: time.Now().Add(left*2/3 - time.Duration(spread)),
	}, nil
}

// withRoots returns the identity under another trust bundle.
func (i *identity) withRoots(roots [][]byte) (*identity, error) {
	pool, err := newPool(roots)
	if err != nil {
		return nil, err
	}
	next := *i
	next.roots, next.pool = roots, pool
	return &next, nil
}

func parseAll(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 || len(ders) > 10 {
		return nil, fmt.Errorf("a chain of %d certificates", len(ders))
	}
	var all []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}

func newPool(roots [][]byte) (*x509.CertPool, error) {
	certs, err := parseAll(roots)
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		if !c.IsCA {
			return nil, errors.New("trust bundle: a certificate in it is no authority")
		}
		pool.AddCert(c)
	}
	return pool, nil
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

func newRequest(key crypto.Signer) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csr, nil
}

// pinOf reads the hash of the root's public key at the end of a join token.
func pinOf(token string) (mtls.SPKI, error) {
	parts := strings.Split(token, "_")
	if len(parts) != 4 || parts[0] != "kwj" {
		return mtls.SPKI{}, errors.New("the join token is not of the form kwj_<id>_<secret>_<hash>")
	}
	pin, err := mtls.ParseSPKI(parts[3])
	if err != nil {
		return pin, fmt.Errorf("join token: %w", err)
	}
	return pin, nil
}

// files keeps an identity in one file, so that key and certificate always belong together. With an empty dir it keeps
// nothing.
type files struct{ dir string }

const (
	identityFile = "identity.pem"
	pemKey       = "PRIVATE KEY"
	pemCert      = "CERTIFICATE"
	pemRoot      = "TRUSTED CERTIFICATE"
)

// kept is what the file holds; without a chain it is the key of an enrolment that was begun.
type kept struct {
	key          crypto.Signer
	chain, roots [][]byte
}

func (f files) load() (kept, error) {
	if f.dir == "" {
		return kept{}, nil
	}
	path := filepath.Join(f.dir, identityFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, fmt.Errorf("read identity: %w", err)
	}
	var k kept
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemCert:
			k.chain = append(k.chain, block.Bytes)
		case pemRoot:
			k.roots = append(k.roots, block.Bytes)
		case pemKey:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			signer, ok := key.(*ecdsa.PrivateKey)
			if err != nil || !ok {
				return kept{}, fmt.Errorf("identity in %s: its key does not parse", path)
			}
			k.key = signer
		}
	}
	if k.key == nil {
		return kept{}, fmt.Errorf("identity in %s holds no key; remove the file to join anew", path)
	}
	return k, nil
}

func (f files) save(k kept) error {
	if f.dir == "" {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	var b bytes.Buffer
	blocks := []*pem.Block{{Type: pemKey, Bytes: der}}
	for _, c := range k.chain {
		blocks = append(blocks, &pem.Block{Type: pemCert, Bytes: c})
	}
	for _, c := range k.roots {
		blocks = append(blocks, &pem.Block{Type: pemRoot, Bytes: c})
	}
	for _, block := range blocks {
		if err := pem.Encode(&b, block); err != nil {
			return fmt.Errorf("save identity: %w", err)
		}
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := replaceFile(filepath.Join(f.dir, identityFile), b.Bytes()); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return nil
}

// replaceFile makes the file hold the bytes, or leaves it as it was.
func replaceFile(path string, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
