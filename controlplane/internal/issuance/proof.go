package issuance

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/check/certs"
)

// proof is what an authority is answered about one name.
type proof struct {
	challenge acme.Challenge
	record    *systemv1.AcmeChallenge
}

// name of its record.
func (p proof) name() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", p.record.GetType(), p.record.GetHost(), p.challenge.Token))
	return hex.EncodeToString(sum[:])
}

// proof chooses the way of proving a name, by whose turn it is and what the authority offers.
func (o *order) proof(a acme.Authorization) (proof, error) {
	var offered []string
	for _, kind := range o.want.challenges() {
		for _, c := range a.Challenges {
			if c.Type == kind {
				return o.answer(a, c)
			}
		}
	}
	for _, c := range a.Challenges {
		offered = append(offered, fmt.Sprintf("%.32q", c.Type))
	}
	return proof{}, fmt.Errorf("%s can be proved by %s only, and the issuer takes %s",
		a.Identifier.Value, strings.Join(offered, ", "), strings.Join(o.want.challenges(), ", "))
}

func (o *order) answer(a acme.Authorization, c acme.Challenge) (proof, error) {
	c.Identifier = a.Identifier
	p := proof{c, &systemv1.AcmeChallenge{Certificate: o.want.name, Type: c.Type, Host: strings.ToLower(a.Identifier.Value)}}
	if c.Type == certs.ChallengeHTTP {
		p.record.Token, p.record.KeyAuthorization = c.Token, c.KeyAuthorization
		return p, nil
	}
	shown, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return proof{}, fmt.Errorf("make the certificate that proves %s: %w", p.record.GetHost(), err)
	}
	p.record.Shown = shown.Certificate[0]
	if p.record.ShownKey, err = x509.MarshalPKCS8PrivateKey(shown.PrivateKey); err != nil {
		return proof{}, errors.New("make the certificate that proves " + p.record.GetHost() + ": its key cannot be written down")
	}
	return p, nil
}
