package attest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxJWT bounds a token; a projected one has about 1,200 bytes.
const maxJWT = 16 << 10

// leeway is how much the cluster's clock may differ.
const leeway = 30 * time.Second

// Rule lets the pods of one service account into one group.
type Rule struct{ Group, Namespace, ServiceAccount string }

// ParseRule reads "group=namespace/serviceaccount".
func ParseRule(s string) (Rule, error) {
	group, account, ok := strings.Cut(s, "=")
	namespace, name, ok2 := strings.Cut(account, "/")
	r := Rule{Group: group, Namespace: namespace, ServiceAccount: name}
	if !ok || !ok2 || group == "" || namespace == "" || name == "" || strings.ContainsAny(name, "/*:") || strings.ContainsAny(namespace, "*:") {
		return Rule{}, fmt.Errorf("rule %q is not of the form group=namespace/serviceaccount", s)
	}
	return r, nil
}

// Keys finds the issuer's keys.
type Keys interface {
	// Key returns nil if the issuer has no such key, and an error if that cannot be known now.
	Key(ctx context.Context, id string) (*jose.JSONWebKey, error)
}

// KubernetesConfig is what a Kubernetes attestor needs.
type KubernetesConfig struct {
	// Issuer and Audience must be those of the token.
	Issuer   string
	Audience string
	Keys     Keys
	Rules    []Rule
	Now      func() time.Time
}

// Kubernetes attests by service-account tokens that are projected into pods.
type Kubernetes struct {
	cfg        KubernetesConfig
	algorithms []jose.SignatureAlgorithm
}

// NewKubernetes returns the attestor.
func NewKubernetes(cfg KubernetesConfig) (*Kubernetes, error) {
	if cfg.Issuer == "" || cfg.Audience == "" || len(cfg.Rules) == 0 {
		return nil, errors.New("kubernetes attestation needs an issuer, an audience and at least one rule")
	}
	// What API servers sign with. Symmetric algorithms and "none" are out, whatever the header says.
	algorithms := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}
	return &Kubernetes{cfg: cfg, algorithms: algorithms}, nil
}

// claims are those of a projected service-account token.
type claims struct {
	jwt.Claims
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
		} `json:"serviceaccount"`
		Pod struct {
			Name string `json:"name"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

// Attest implements Attestor.
func (k *Kubernetes) Attest(ctx context.Context, e Evidence) (Attested, error) {
	c, err := k.verify(ctx, e.Token)
	if err != nil {
		return Attested{}, err
	}
	account := strings.Split(c.Subject, ":")
	if len(account) != 4 || account[0] != "system" || account[1] != "serviceaccount" {
		return Attested{}, fmt.Errorf("%w: the token is not a service account's", ErrRefused)
	}
	namespace, name := account[2], account[3]
	if c.Kubernetes.Namespace != namespace || c.Kubernetes.ServiceAccount.Name != name {
		return Attested{}, fmt.Errorf("%w: the token is not bound to its service account", ErrRefused)
	}
	group, err := k.group(namespace, name, e.Group)
	if err != nil {
		return Attested{}, err
	}
	by := namespace + "/" + name
	if c.Kubernetes.Pod.Name != "" {
		by += "/" + c.Kubernetes.Pod.Name
	}
	return Attested{Group: group, Attestor: "kubernetes", By: by}, nil
}

func (k *Kubernetes) verify(ctx context.Context, token string) (*claims, error) {
	malformed := fmt.Errorf("%w: the service-account token does not parse or has another algorithm", ErrRefused)
	if len(token) > maxJWT {
		return nil, malformed
	}
	parsed, err := jwt.ParseSigned(strings.TrimSpace(token), k.algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return nil, malformed
	}
	head := parsed.Headers[0]
	key, err := k.cfg.Keys.Key(ctx, head.KeyID)
	if err != nil {
		return nil, fmt.Errorf("%w: find the issuer's key: %w", ErrUnavailable, err)
	}
	if key == nil || (key.Algorithm != "" && key.Algorithm != head.Algorithm) || (key.Use != "" && key.Use != "sig") {
		return nil, fmt.Errorf("%w: the issuer has no such key", ErrRefused)
	}
	var c claims
	if err := parsed.Claims(key.Key, &c); err != nil {
		return nil, fmt.Errorf("%w: the service-account token's signature is wrong", ErrRefused)
	}
	if c.Expiry == nil {
		return nil, fmt.Errorf("%w: the service-account token does not expire", ErrRefused)
	}
	want := jwt.Expected{Issuer: k.cfg.Issuer, AnyAudience: jwt.Audience{k.cfg.Audience}, Time: k.cfg.Now()}
	if err := c.ValidateWithLeeway(want, leeway); err != nil {
		return nil, fmt.Errorf("%w: the service-account token is of another issuer or audience, or not valid now", ErrRefused)
	}
	return &c, nil
}

// group picks the group that the rules allow the account.
func (k *Kubernetes) group(namespace, name, asked string) (string, error) {
	var allowed []string
	for _, r := range k.cfg.Rules {
		if r.Namespace == namespace && r.ServiceAccount == name {
			allowed = append(allowed, r.Group)
		}
	}
	switch {
	case asked != "" && slices.Contains(allowed, asked):
		return asked, nil
	case asked == "" && len(allowed) == 1:
		return allowed[0], nil
	case asked == "" && len(allowed) > 1:
		return "", fmt.Errorf("%w: the service account may join several groups; say which", ErrRefused)
	}
	return "", fmt.Errorf("%w: no rule lets the service account join this group", ErrRefused)
}
