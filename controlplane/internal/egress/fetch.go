package egress

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// connecting bounds name resolution and connecting together.
const connecting = 5 * time.Second

// Fetcher gets documents that say themselves whether they are genuine, such as revocation lists, over TLS or in the clear. It
// is safe for concurrent use.
type Fetcher struct{ client *http.Client }

// Fetcher makes one.
func (r *Rules) Fetcher() *Fetcher {
	dialer := &net.Dialer{Timeout: connecting, Control: r.Control}
	return &Fetcher{&http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: true, TLSHandshakeTimeout: connecting, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Get fetches what is there, at most limit bytes.
func (f *Fetcher) Get(ctx context.Context, url string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return f.do(req, limit)
}

// Post sends a question and fetches the answer, at most limit bytes.
func (f *Fetcher) Post(ctx context.Context, url, contentType string, body []byte, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	return f.do(req, limit)
}

func (f *Fetcher) do(req *http.Request, limit int64) ([]byte, error) {
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch: it answers %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch: %w", err)
	case int64(len(text)) > limit:
		return nil, fmt.Errorf("fetch: it has more than %d bytes", limit)
	}
	return text, nil
}
