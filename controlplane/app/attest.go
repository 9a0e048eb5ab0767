package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/registry"
)

func joinTokenAttestor(ledger *registry.Ledger) attest.Attestor {
	return attest.NewJoinTokens(ledger, time.Now)
}

// attestor returns what checks service-account tokens, nil if no cluster is trusted.
func (k *K8s) attestor() (attest.Attestor, error) {
	if k.Issuer == "" {
		return nil, nil //nolint:nilnil // no attestor is an answer
	}
	cfg := attest.KubernetesConfig{Issuer: k.Issuer, Audience: k.Audience, Now: time.Now}
	for _, text := range k.Allow {
		rule, err := attest.ParseRule(text)
		if err != nil {
			return nil, fmt.Errorf("--k8s-allow: %w", err)
		}
		cfg.Rules = append(cfg.Rules, rule)
	}
	fetch := attest.FromFile(k.JWKSFile)
	if k.JWKSURL != "" {
		client, err := k.client()
		if err != nil {
			return nil, fmt.Errorf("--k8s-jwks-ca: %w", err)
		}
		fetch = attest.FromURL(k.JWKSURL, client)
	}
	cfg.Keys = attest.NewKeySet(fetch, time.Now)
	return attest.NewKubernetes(cfg)
}

func (k *K8s) client() (*http.Client, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.JWKSCA != "" {
		pem, err := os.ReadFile(k.JWKSCA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", k.JWKSCA)
		}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: cfg}}, nil
}
