package resilience_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// publisher publishes keys and signs tokens with them.
type publisher struct {
	addr string

	mu        sync.Mutex // guards what follows
	published []map[string]any
	keys      []*ecdsa.PrivateKey
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	h := &publisher{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": h.published})
	}))
	t.Cleanup(s.Close)
	h.addr = s.Listener.Addr().String()
	h.rotate(t)
	h.rotate(t)
	return h
}

// rotate adds a key.
func (h *publisher) rotate(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys = append(h.keys, key)
	h.published = append(h.published, map[string]any{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": fmt.Sprint(len(h.keys)),
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
	})
}

// token signs with a key, of which the newest is the one at 0, and says so in a field.
func (h *publisher) token(back int, ttl time.Duration) []string {
	h.mu.Lock()
	at := len(h.keys) - 1 - back
	key := h.keys[at]
	h.mu.Unlock()
	part := func(format string, values ...any) string {
		return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, format, values...))
	}
	input := part(`{"alg":"ES256","typ":"JWT","kid":"%d"}`, at+1) + "." +
		part(`{"iss":"https://idp.test","sub":"alice","aud":"api","exp":%d,"jti":"%s"}`, time.Now().Add(ttl).Unix(), rand.Text())
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		panic(err) // of a key that was just made
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return []string{"Authorization", "Bearer " + input + "." + base64.RawURLEncoding.EncodeToString(signature)}
}
