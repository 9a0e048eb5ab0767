// Package jwks enforces the jwks policy: it answers with the public keys of certificates, all the same to everybody, written once
// when the policy is built.
package jwks

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/jwk"
)

const defaultMaxAge = 5 * time.Minute

type jwks struct{ set, wrongMethod *exchange.Refusal }

// Build makes the policy.
func Build(cfg *policyv1.Jwks, d policy.Deps) (policy.Policy, error) {
	if len(cfg.GetCertificates()) == 0 {
		return nil, errors.New("certificates must name some")
	}
	var keys []*jwk.Key
	for _, reference := range cfg.GetCertificates() {
		versions, err := d.Group.Versions(reference)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			public := v.Leaf().PublicKey
			k, err := jwk.FromPublic(public, v.ID, token.AlgorithmOf(public))
			if err != nil {
				return nil, fmt.Errorf("the key of certificate %s %w", reference, err)
			}
			if !slices.ContainsFunc(keys, func(o *jwk.Key) bool { return o.ID == k.ID }) {
				keys = append(keys, k)
			}
		}
	}
	set, err := jwk.MarshalSet(keys)
	if err != nil {
		return nil, err
	}
	maxAge := defaultMaxAge
	if cfg.MaxAge != nil {
		maxAge = cfg.GetMaxAge().AsDuration()
	}
	return &jwks{
		set: exchange.NewText(200, set, exchange.Field("Content-Type", "application/jwk-set+json"),
			exchange.Field("Cache-Control", "public, max-age="+strconv.FormatInt(int64(maxAge/time.Second), 10))),
		wrongMethod: exchange.NewRefusal(405, "method_not_allowed", "Keys can only be read.", exchange.Field("Allow", "GET, HEAD")),
	}, nil
}

// Request implements policy.Policy.
func (j *jwks) Request(x *exchange.Exchange) policy.Verdict {
	x.Refuse(j.set)
	if m := string(x.Request.Method); m != "GET" && m != "HEAD" {
		x.Refuse(j.wrongMethod)
	}
	return policy.Stop
}
