// Package iprestriction enforces the ip-restriction policy: it lets requests pass by the client's address.
package iprestriction

import (
	"errors"
	"fmt"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

type restriction struct {
	allow, deny *table
	// onlyAllowed: there is an allow list, so that everybody else may not pass
	onlyAllowed bool
}

var refuseAddress = exchange.NewRefusal(403, "forbidden", "This address may not call here.")

// Build makes the policy.
func Build(cfg *policyv1.IpRestriction) (policy.Policy, error) {
	if len(cfg.GetAllow())+len(cfg.GetDeny()) == 0 {
		return nil, errors.New("there is nothing to allow or deny")
	}
	r := &restriction{onlyAllowed: len(cfg.GetAllow()) > 0}
	var err error
	if r.allow, err = newTable(cfg.GetAllow()); err != nil {
		return nil, fmt.Errorf("read allow: %w", err)
	}
	if r.deny, err = newTable(cfg.GetDeny()); err != nil {
		return nil, fmt.Errorf("read deny: %w", err)
	}
	return r, nil
}

// Request implements policy.Policy. An unknown address is in no list: with denials only it would pass, so it is refused.
func (r *restriction) Request(x *exchange.Exchange) policy.Verdict {
	a := x.Request.ClientIP.Unmap()
	if !a.IsValid() || r.deny.contains(a) || r.onlyAllowed && !r.allow.contains(a) {
		x.Refuse(refuseAddress)
		return policy.Stop
	}
	return policy.Next
}
