package syncclient

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

// trust takes over the roots to trust from the next connection on, and says so once a restart will know them too.
func (s *session) trust(b *syncv1.TrustBundle) error {
	if !s.client.trust(b) {
		return nil
	}
	digest := mtls.BundleDigest(b.GetRoots())
	err := s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Trusted{Trusted: &syncv1.Trusted{Digest: digest[:]}}})
	if err != nil {
		return fmt.Errorf("acknowledge trust bundle: %w", err)
	}
	return nil
}

// trust says whether the bundle was taken over and kept.
func (c *Client) trust(b *syncv1.TrustBundle) bool {
	err := c.replace(func(have *identity) (*identity, error) {
		if slices.EqualFunc(have.roots, b.GetRoots(), slices.Equal[[]byte]) {
			return have, nil
		}
		return have.withRoots(b.GetRoots())
	})
	if err != nil {
		c.cfg.Log.Error("a trust bundle was refused", "err", err)
	}
	return err == nil && !c.unkept.Load()
}

// renewed takes over the certificate for the key.
func (c *Client) renewed(key crypto.Signer, answer *syncv1.Certificate) error {
	return c.replace(func(have *identity) (*identity, error) {
		id, err := newIdentity(key, answer.GetChain(), have.roots, c.cfg.TrustDomain, false)
		if err != nil {
			return nil, fmt.Errorf("renew: %w", err)
		}
		if id.id != have.id {
			return nil, errors.New("renew: the new certificate is of another gateway")
		}
		c.cfg.Log.Info("certificate renewed", "expires", id.leaf().NotAfter)
		return id, nil
	})
}
