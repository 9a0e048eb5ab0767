package attest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxJWKS = 1 << 20
	// refreshEvery bounds how often unknown key ids, which anybody can send, make us ask the issuer.
	refreshEvery = 10 * time.Second
	// retryMax bounds how rarely we ask while the issuer fails.
	retryMax = 2 * time.Minute
	// maxAge is how old the keys may get before they are asked for again, so that a key the issuer dropped is dropped.
	maxAge = time.Hour
)

// Fetch gets a JSON web key set.
type Fetch func(ctx context.Context) ([]byte, error)

// FromFile reads a mounted key set.
func FromFile(path string) Fetch {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read key set: %w", err)
		}
		defer f.Close()
		return readAll(f)
	}
}

// FromURL asks the issuer. The client's timeout bounds it.
func FromURL(url string, client *http.Client) Fetch {
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, fmt.Errorf("fetch key set: %w", err)
		}
		res, err := client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("fetch key set: %w", err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("fetch key set: the issuer answered %d", res.StatusCode)
		}
		return readAll(res.Body)
	}
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxJWKS+1))
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	if len(b) > maxJWKS {
		return nil, errors.New("read key set: it is too large")
	}
	return b, nil
}

// KeySet caches an issuer's keys.
type KeySet struct {
	fetch Fetch
	now   func() time.Time

	mu      sync.Mutex // guards what follows; held while fetching, so that many callers ask once
	keys    map[string]*jose.JSONWebKey
	fetched time.Time
	tried   time.Time
	pause   time.Duration
	err     error
}

// NewKeySet returns an empty cache.
func NewKeySet(fetch Fetch, now func() time.Time) *KeySet {
	return &KeySet{fetch: fetch, now: now}
}

// Key implements Keys. Known keys outlive an outage of the issuer.
func (s *KeySet) Key(ctx context.Context, id string) (*jose.JSONWebKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.keys[id]
	if key == nil || s.now().Sub(s.fetched) > maxAge {
		s.refresh(ctx)
		key = s.keys[id]
	}
	if key == nil && s.err != nil {
		return nil, s.err
	}
	return key, nil
}

func (s *KeySet) refresh(ctx context.Context) {
	now := s.now()
	if !s.tried.IsZero() && now.Sub(s.tried) < s.pause {
		return
	}
	s.tried = now
	raw, err := s.fetch(ctx)
	var keys map[string]*jose.JSONWebKey
	if err == nil {
		keys, err = parseKeys(raw)
	}
	s.err = err
	if err != nil {
		s.pause = min(max(2*s.pause, time.Second), retryMax)
		return
	}
	s.keys, s.fetched, s.pause = keys, now, refreshEvery
}

// parseKeys takes the public signature keys that it understands and leaves out the others.
func parseKeys(raw []byte) (map[string]*jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, errors.New("parse key set: it is not a JSON web key set")
	}
	keys := map[string]*jose.JSONWebKey{}
	for _, one := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(one); err != nil || !key.IsPublic() || !key.Valid() {
			continue
		}
		keys[key.KeyID] = &key
	}
	if len(keys) == 0 {
		return nil, errors.New("parse key set: it has no usable key")
	}
	return keys, nil
}
