package vaultclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/vault/api"

	"keyward.dev/shared/settings"
)

const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
	// lookAgain is how often a token without end is looked at: somebody may revoke it or put another into its file.
	lookAgain = 5 * time.Minute
	// pauseAfterFailure is for how long a login that failed is not tried again: who waited for it fails with it, instead of
	// waiting for one of their own.
	pauseAfterFailure = time.Second
	// shortest is how soon after another a renewal may come.
	shortest = time.Second
)

// session is a token and how long it holds.
type session struct {
	token settings.Secret
	// client uses the token; connections are shared.
	client    *api.Client
	renewable bool
	// ends is zero for a token without end or, before Run has asked, of a life that is not known.
	ends time.Time
	life time.Duration
}

func (s session) valid(now time.Time) bool {
	return s.token.IsSet() && (s.ends.IsZero() || now.Before(s.ends))
}

// due says when to renew: at two thirds of its life, a little earlier or later.
func (s session) due() time.Duration {
	if s.ends.IsZero() {
		return jitter(lookAgain)
	}
	return max(jitter(s.life*2/3), shortest)
}

func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Float64()*float64(d)/5)
}

// session answers a token that should hold, and not the one that was refused.
func (c *Client) session(ctx context.Context, refused *session) (session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.login.valid(time.Now()) && (refused == nil || c.login.token != refused.token) && c.cfg.Auth.Method != MethodToken {
		return c.login, nil
	}
	return c.obtain(ctx)
}

// obtain logs in. With mu held.
func (c *Client) obtain(ctx context.Context) (session, error) {
	secret, err := c.cfg.Auth.secret()
	if err != nil {
		return session{}, err
	}
	if c.cfg.Auth.Method == MethodToken { // read each time: something else may renew it and replace the file
		if secret == c.login.token {
			return c.login, nil
		}
		return c.begin(secret, &api.SecretAuth{})
	}
	if time.Since(c.failed) < pauseAfterFailure {
		return session{}, c.failure
	}
	s, err := c.logIn(ctx, secret)
	if err != nil && ctx.Err() == nil {
		c.failed, c.failure = time.Now(), err
	}
	return s, err
}

func (c *Client) logIn(ctx context.Context, secret settings.Secret) (session, error) {
	path, body := c.cfg.Auth.request(secret)
	answer, err := c.api.Logical().WriteWithContext(ctx, path, body)
	if err != nil {
		return session{}, fmt.Errorf("%w: %w", ErrNoLogin, told("log in at "+path, err))
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return session{}, fmt.Errorf("%w: %s answered without a token", ErrNoLogin, path)
	}
	return c.begin(settings.NewSecret(answer.Auth.ClientToken), answer.Auth)
}

// begin makes a session with a token the one that is used. With mu held.
func (c *Client) begin(token settings.Secret, auth *api.SecretAuth) (session, error) {
	client, err := c.api.CloneWithHeaders()
	if err != nil {
		return session{}, fmt.Errorf("%w: %w", ErrNoLogin, err)
	}
	client.SetToken(token.Reveal())
	c.login = session{token: token, client: client}.held(auth)
	return c.login, nil
}

func (s session) held(auth *api.SecretAuth) session {
	s.renewable, s.life, s.ends = auth.Renewable, time.Duration(auth.LeaseDuration)*time.Second, time.Time{}
	if s.life > 0 {
		s.ends = time.Now().Add(s.life)
	}
	return s
}

// keep sees to it that there is a token that holds, and answers when to look again.
func (c *Client) keep(ctx context.Context) (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	had := c.login
	if !had.valid(time.Now()) || c.cfg.Auth.Method == MethodToken {
		s, err := c.obtain(ctx)
		if err != nil {
			return 0, err
		}
		if c.cfg.Auth.Method != MethodToken {
			return s.due(), nil
		}
		if s, err = c.lookUp(ctx, s); err != nil {
			return 0, err
		}
		had, c.login = s, s
	}
	return c.renew(ctx, had)
}

// Tend does what Run does, if it is due: for those who use a client now and then. Only one may call it at a time. What fails
// is left to the next request to tell.
func (c *Client) Tend(ctx context.Context) {
	if time.Now().Before(c.tend) {
		return
	}
	wait, err := c.keep(ctx)
	if err != nil {
		wait = maxPause
	}
	c.tend = time.Now().Add(wait)
}

// renew asks for a longer life, and for another token where that is not granted. With mu held.
func (c *Client) renew(ctx context.Context, s session) (time.Duration, error) {
	if s.ends.IsZero() {
		return s.due(), nil
	}
	if s.renewable {
		answer, err := s.client.Auth().Token().RenewSelfWithContext(ctx, 0)
		if err == nil && answer != nil && answer.Auth != nil {
			renewed := s.held(answer.Auth)
			// Near the end of the longest life that Vault grants, renewals add less and less.
			if renewed.life > s.life/2 || c.cfg.Auth.Method == MethodToken {
				c.login = renewed
				return renewed.due(), nil
			}
		}
		if err != nil && !forbidden(err) {
			failure := told("renew token", err)
			// One that Vault does not renew, such as at the end of the longest life it may have, is replaced.
			if c.cfg.Auth.Method == MethodToken || errors.Is(failure, ErrUnreachable) || errors.Is(failure, ErrSealed) {
				return 0, failure
			}
		}
	}
	if c.cfg.Auth.Method == MethodToken {
		return s.due(), nil // it is somebody else's to replace
	}
	fresh, err := c.obtain(ctx)
	return fresh.due(), err
}

// lookUp asks how long a token holds that was handed to us.
func (c *Client) lookUp(ctx context.Context, s session) (session, error) {
	answer, err := s.client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrNoLogin, told("look up token", err))
	}
	if answer == nil { // an empty one
		return s, fmt.Errorf("%w: look up token: an answer without content", ErrNoLogin)
	}
	s.ends, s.life = time.Time{}, 0
	s.renewable, _ = answer.Data["renewable"].(bool)
	if answer.Data["expire_time"] == nil { // one without end, such as a root token
		return s, nil
	}
	// In whole seconds: 0 says that it is about to end, not that it never does.
	if ttl, ok := answer.Data["ttl"].(json.Number); ok {
		seconds, _ := ttl.Int64()
		s.life = time.Duration(max(seconds, 1)) * time.Second
		s.ends = time.Now().Add(s.life)
	}
	return s, nil
}
