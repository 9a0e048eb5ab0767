package attest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/mtls"
)

const (
	tokenPrefix = "kwj_"
	idLen       = 12
	secretLen   = 32
	base62      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// TokenText is the parts of a join token as it is shown to its maker: kwj_<id>_<secret>_<hash of the root's key>.
type TokenText struct {
	ID, Secret string
	// Pin is by which the gateway knows the control plane.
	Pin mtls.SPKI
}

// NewTokenText draws a token. Its secret has 190 random bits, so that a plain hash of it can be stored.
func NewTokenText(pin mtls.SPKI) TokenText {
	return TokenText{ID: random(idLen), Secret: random(secretLen), Pin: pin}
}

// String returns the token.
func (t TokenText) String() string {
	return tokenPrefix + t.ID + "_" + t.Secret + "_" + t.Pin.String()
}

// SecretHash is what is stored.
func (t TokenText) SecretHash() []byte {
	sum := sha256.Sum256([]byte(t.Secret))
	return sum[:]
}

// ParseToken reads a join token.
func ParseToken(s string) (TokenText, error) {
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	parts := strings.Split(rest, "_")
	if !ok || len(parts) != 3 || !drawn(parts[0], idLen) || !drawn(parts[1], secretLen) {
		return TokenText{}, errors.New("not a join token")
	}
	pin, err := mtls.ParseSPKI(parts[2])
	if err != nil || pin.String() != parts[2] {
		return TokenText{}, errors.New("not a join token")
	}
	return TokenText{ID: parts[0], Secret: parts[1], Pin: pin}, nil
}

func drawn(s string, n int) bool {
	return len(s) == n && strings.Trim(s, base62) == ""
}

// random draws n characters without bias: bytes beyond the last whole multiple of 62 are thrown away.
func random(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		_, _ = rand.Read(buf[:]) // never fails; it ends the process instead
		for _, b := range buf {
			if b < 4*62 && len(out) < n {
				out = append(out, base62[b%62])
			}
		}
	}
	return string(out)
}

// Tokens finds join tokens.
type Tokens interface {
	// JoinToken answers store.ErrNotFound for a token that does not exist or was deleted.
	JoinToken(ctx context.Context, id string) (store.JoinToken, error)
	// VerifyJoinToken says whether a control plane wrote the row.
	VerifyJoinToken(ctx context.Context, t store.JoinToken) error
}

// JoinTokens attests by join tokens.
type JoinTokens struct {
	tokens Tokens
	now    func() time.Time
}

// NewJoinTokens returns the attestor.
func NewJoinTokens(tokens Tokens, now func() time.Time) *JoinTokens {
	return &JoinTokens{tokens: tokens, now: now}
}

// Attest implements Attestor. Until the secret has matched, all refusals are alike.
func (j *JoinTokens) Attest(ctx context.Context, e Evidence) (Attested, error) {
	unknown := fmt.Errorf("%w: the join token is not valid", ErrRefused)
	text, err := ParseToken(e.Token)
	if err != nil {
		return Attested{}, unknown
	}
	row, err := j.tokens.JoinToken(ctx, text.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Attested{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// Compared even if there is no such token, so that both take the same time.
	if subtle.ConstantTimeCompare(row.SecretHash, text.SecretHash()) != 1 || err != nil {
		return Attested{}, unknown
	}
	if err := j.tokens.VerifyJoinToken(ctx, row); err != nil {
		return Attested{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !j.now().Before(row.ExpiresAt) {
		return Attested{}, fmt.Errorf("%w: the join token has expired", ErrRefused)
	}
	if e.Group != "" && e.Group != row.Group {
		return Attested{}, fmt.Errorf("%w: the join token is for another group", ErrRefused)
	}
	return Attested{Group: row.Group, Attestor: "join-token", By: row.ID, JoinToken: row.ID}, nil
}
