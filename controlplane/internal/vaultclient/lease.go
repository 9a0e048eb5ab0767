package vaultclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"
)

// Lease is what Vault made for one reader and for a time. It ends with the login that it was made with, however often it is
// renewed.
type Lease struct {
	ID   string
	Data map[string]any
	// Life is for how long it was given, or renewed, at Since, and Ends when that is over, or earlier if the login ends before.
	Life        time.Duration
	Since, Ends time.Time
	// Login tells logins apart, and says nothing else of them.
	Login string
}

// mostUnseen bounds for how long nobody looks whether a lease is still there.
const mostUnseen = 5 * time.Minute

// Due is when to renew it. A quarter of its life: early enough to see that the login was replaced, of whose life a third is left
// then, and to try again.
func (l Lease) Due() time.Time {
	return l.Since.Add(max(jitter(min(l.Ends.Sub(l.Since)/4, mostUnseen)), shortest))
}

// Lease has something made at a path. What cannot have a lease is ErrRejected.
func (c *Client) Lease(ctx context.Context, path string) (Lease, error) {
	doing := "read " + path
	secret, used, err := c.get(ctx, doing, path, nil)
	if err != nil {
		return Lease{}, err
	}
	if secret.LeaseID == "" || secret.LeaseDuration <= 0 {
		return Lease{}, fmt.Errorf("%s: %w: what is there has no lease", doing, ErrRejected)
	}
	return leased(secret, used), nil
}

func leased(secret *api.Secret, used session) Lease {
	l := Lease{
		ID: secret.LeaseID, Data: secret.Data, Login: used.name(),
		Life: time.Duration(secret.LeaseDuration) * time.Second, Since: time.Now(),
	}
	if used.life > 0 {
		l.Life = min(l.Life, used.life)
	}
	l.Ends = l.Since.Add(l.Life)
	if !used.ends.IsZero() && used.ends.Before(l.Ends) {
		l.Ends = used.ends
	}
	return l
}

// name is the same for all who use a token.
func (s session) name() string {
	sum := sha256.Sum256([]byte("keyward login " + s.token.Reveal()))
	return hex.EncodeToString(sum[:8])
}

// Login is the name of the login that requests are made with now, as in Lease. It logs in if need be.
func (c *Client) Login(ctx context.Context) (string, error) {
	used, err := c.session(ctx, nil)
	if err != nil {
		return "", err
	}
	return used.name(), nil
}

// LastLogin is the name of the login that was used last, without asking anybody; empty if there was none.
func (c *Client) LastLogin() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.login.token.IsSet() {
		return ""
	}
	return c.login.name()
}

// Renew asks for a longer life of a lease of this login. One that is no longer there is ErrRejected.
func (c *Client) Renew(ctx context.Context, l Lease) (Lease, error) {
	secret, used, err := c.ask(ctx, "renew a lease", func(as *api.Client) (*api.Secret, error) {
		return as.Sys().RenewWithContext(ctx, l.ID, 0)
	})
	switch {
	case err != nil:
		return Lease{}, err
	case used.name() != l.Login:
		return Lease{}, ErrOtherLogin
	case secret == nil || secret.LeaseID != l.ID || secret.LeaseDuration <= 0:
		return Lease{}, fmt.Errorf("renew a lease: %w: the answer has no lease", ErrFailed)
	}
	renewed := leased(secret, used)
	renewed.Data = l.Data
	return renewed, nil
}

// Revoke gives a lease back; one that is no longer there is.
func (c *Client) Revoke(ctx context.Context, id string) error {
	_, _, err := c.ask(ctx, "revoke a lease", func(as *api.Client) (*api.Secret, error) {
		return nil, as.Sys().RevokeWithContext(ctx, id)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// kept reads what has no lease, and gives back what has one: whoever reads again and again would have more of it made each time.
func (c *Client) kept(ctx context.Context, doing, path string, query map[string][]string) (*api.Secret, error) {
	secret, _, err := c.get(ctx, doing, path, query)
	if err != nil || secret.LeaseID == "" {
		return secret, err
	}
	err = fmt.Errorf("%s: %w", doing, ErrLeased)
	return nil, errors.Join(err, c.Revoke(ctx, secret.LeaseID))
}
