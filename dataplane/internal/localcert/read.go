package localcert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"keyward.dev/dataplane/internal/hostsvc"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
)

// load reads a place and judges it as a certificate that is stored. No reason repeats anything of a file.
func (s *Store) load(at certs.Local) (*configv1.CertificateVersion, string) {
	keyFile, reason := s.content(at.Key)
	if reason != "" {
		return nil, "is in a file that " + reason
	}
	defer clear(keyFile)
	chain := at.Given
	if chain == "" {
		chainFile := keyFile
		if at.Chain != "" {
			if chainFile, reason = s.content(at.Chain); reason != "" {
				return nil, "goes with a chain in a file that " + reason
			}
			defer clear(chainFile)
		}
		chain = certificates(chainFile)
	}
	key, reason := privateKey(keyFile)
	if reason != "" {
		return nil, "is in a file that " + reason
	}
	v := &configv1.CertificateVersion{Chain: chain, PrivateKey: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: key}}}
	if _, vs := certs.Open(&configv1.Certificate{Current: v}); len(vs) > 0 {
		var parts []string
		for _, v := range vs {
			parts = append(parts, strings.TrimPrefix(v.Path, "current.")+" "+v.Reason)
		}
		return nil, "is in files that cannot be used: " + strings.Join(parts, "; ")
	}
	return v, ""
}

func (s *Store) content(path string) ([]byte, string) {
	b, err := s.files.Read(path)
	switch {
	case errors.Is(err, hostsvc.ErrOutside):
		return nil, "the gateway may not read: it is below no --certificate-root"
	case err != nil: // why not is for the gateway's log, and not for everybody who writes configuration
		s.log.Warn("a file of a certificate cannot be read", "err", err)
		return nil, "cannot be read"
	}
	return b, ""
}

// certificates are those in a file, in their order, as they are stored.
func certificates(file []byte) string {
	var out bytes.Buffer
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			_ = pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // a Buffer never fails
		}
	}
	return out.String()
}

// privateKey is the one private key in a file as it is stored.
func privateKey(file []byte) (string, string) {
	var found crypto.PrivateKey
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if found != nil {
			return "", "holds several private keys"
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return "", "holds an encrypted private key; it must not be"
		}
		if found = parse(block); found == nil {
			return "", "holds a private key that cannot be read"
		}
	}
	if found == nil {
		return "", "holds no private key in PEM"
	}
	der, err := x509.MarshalPKCS8PrivateKey(found)
	if err != nil {
		return "", "holds a private key of a kind that is not taken"
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), ""
}

// parse reads the forms that keys of certificates have in files, nil if it is none of them.
func parse(block *pem.Block) crypto.PrivateKey {
	switch block.Type {
	case "RSA PRIVATE KEY":
		if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return k
		}
	case "EC PRIVATE KEY":
		if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return k
		}
	case "PRIVATE KEY":
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return k
		}
	}
	return nil
}
