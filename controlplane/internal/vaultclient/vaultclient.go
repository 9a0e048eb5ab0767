// Package vaultclient talks to HashiCorp Vault: it logs in, keeps its token alive, and tells apart what can go wrong.
// It is the only package that knows Vault's library; what is kept in Vault and why is its callers' business, kek/vault
// for one. Of the process's environment it reads nothing, VAULT_… included: what is trusted stands in its Config.
package vaultclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// Config says where Vault is and who asks.
type Config struct {
	// Address is https://host:port; http only on loopback.
	Address string
	// Namespace, CAFile and ServerName may be empty: none, the system's roots, the host of the address.
	Namespace  string
	CAFile     string
	ServerName string
	// Timeout bounds a request.
	Timeout time.Duration
	Auth    Auth
	// HTTP makes the requests, instead of a client of our own; then CAFile and ServerName are its matter.
	HTTP *http.Client
}

// Client is safe for concurrent use. It logs in when it is first used; Run keeps it logged in.
type Client struct {
	cfg Config
	api *api.Client

	mu sync.Mutex
	// All guarded by mu, which is held while a login is obtained, too: one is enough for all who wait.
	login   session
	failed  time.Time // the last failure to log in
	failure error

	tend time.Time // Tend's
}

// New makes a client; nothing is asked yet.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	doer, err := cfg.doer()
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(&api.Config{Address: cfg.Address, Timeout: cfg.Timeout, MaxRetries: 0, HttpClient: doer})
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	// The library has looked into the environment.
	client.SetToken("")
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if cfg.Namespace != "" {
		client.SetNamespace(cfg.Namespace)
	}
	return &Client{cfg: cfg, api: client}, nil
}

func (c *Config) check() error {
	u, err := url.Parse(c.Address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("vault: the address is not of the form https://host:port")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("vault: the address must begin with https://: the token and the keys would be read on the way")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("vault: the address must begin with https://")
	case c.Timeout <= 0:
		return errors.New("vault: the timeout must be above 0")
	}
	return c.Auth.check()
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (c *Config) doer() (*http.Client, error) {
	if c.HTTP != nil {
		return c.HTTP, nil
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (c *Config) transport() (*http.Transport, error) {
	t := &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName},
		DialContext:       (&net.Dialer{Timeout: c.Timeout, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2: true, TLSHandshakeTimeout: c.Timeout, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 4,
	}
	if c.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("vault: read CA: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("vault: %s holds no certificate", c.CAFile)
	}
	return t, nil
}

// Write writes to a path and answers the data of the answer. A token that Vault no longer takes is replaced once, by
// logging in again. Its errors are those of this package.
func (c *Client) Write(ctx context.Context, path string, body map[string]any) (map[string]any, error) {
	secret, _, err := c.ask(ctx, "write to "+path, func(as *api.Client) (*api.Secret, error) {
		return as.Logical().WriteWithContext(ctx, path, body)
	})
	return data(secret, err)
}

// Read answers the data at a path. What is not there is ErrNotFound, and what Vault makes anew for each reader is ErrLeased.
func (c *Client) Read(ctx context.Context, path string) (map[string]any, error) {
	return data(c.kept(ctx, "read "+path, path, nil))
}

func data(secret *api.Secret, err error) (map[string]any, error) {
	if err != nil || secret == nil {
		return nil, err
	}
	return secret.Data, nil
}

// List answers the names below a path; those of folders end with a slash. A path with nothing below it is ErrNotFound.
func (c *Client) List(ctx context.Context, path string) ([]string, error) {
	doing := "list " + path
	secret, err := c.kept(ctx, doing, path, map[string][]string{"list": {"true"}})
	if err != nil {
		return nil, err
	}
	keys, _ := secret.Data["keys"].([]any)
	names := make([]string, 0, len(keys))
	for _, k := range keys {
		if name, ok := k.(string); ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 || len(names) < len(keys) { // what is empty is not there
		return nil, fmt.Errorf("%s: %w: the answer is no list of names", doing, ErrFailed)
	}
	return names, nil
}

// get is strict, where Vault's library takes every answer without content for one that says that there is nothing: a redirect, too.
func (c *Client) get(ctx context.Context, doing, path string, query map[string][]string) (*api.Secret, session, error) {
	return c.ask(ctx, doing, func(as *api.Client) (*api.Secret, error) {
		resp, err := as.Logical().ReadRawWithDataWithContext(ctx, path, query)
		if resp != nil && resp.Body != nil {
			defer resp.Body.Close()
		}
		switch {
		case unmounted(err):
			return nil, errUnmounted
		case err != nil:
			return nil, err
		case resp.StatusCode != http.StatusOK:
			return nil, fmt.Errorf("the answer has status %d", resp.StatusCode)
		}
		secret, err := api.ParseSecret(resp.Body)
		if err == nil && (secret == nil || secret.Data == nil) {
			err = errors.New("the answer has no data")
		}
		return secret, err
	})
}

// ask answers with which login it was answered, too.
func (c *Client) ask(ctx context.Context, doing string, request func(as *api.Client) (*api.Secret, error)) (*api.Secret, session, error) {
	used, err := c.session(ctx, nil)
	if err != nil {
		return nil, used, err
	}
	secret, err := request(used.client)
	if forbidden(err) {
		again, errLogin := c.session(ctx, &used)
		if errLogin != nil {
			return nil, used, errLogin
		}
		if again.token != used.token {
			used = again
			secret, err = request(again.client)
		}
	}
	if err != nil {
		return nil, used, told(doing, err)
	}
	return secret, used, nil
}

// Run keeps the client logged in until ctx ends: it renews the token before it expires, and logs in again when it cannot
// be renewed. While that fails it waits, longer each time, and goes on trying.
func (c *Client) Run(ctx context.Context, log *slog.Logger) error {
	pause, down := firstPause, false
	for {
		wait := jitter(pause)
		due, err := c.keep(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end was asked for
		case err != nil:
			if !down {
				log.WarnContext(ctx, "no valid Vault token; trying again", "address", c.cfg.Address, "err", err)
			}
			down, pause = true, min(2*pause, maxPause)
		default:
			if down {
				log.InfoContext(ctx, "Vault token is valid again", "address", c.cfg.Address)
			}
			down, pause, wait = false, firstPause, due
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
