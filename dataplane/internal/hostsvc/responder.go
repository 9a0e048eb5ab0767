package hostsvc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// AskResponder sends a question to an OCSP responder (RFC 6960 appendix A) within egress rules, and returns its answer, of
// which no more than limit bytes are read. It follows nobody elsewhere and goes through no proxy.
func AskResponder(ctx context.Context, rules *EgressRules, url string, question []byte, limit int64) ([]byte, error) {
	const connecting = 10 * time.Second // ctx is shorter
	client := http.Client{
		Transport: &http.Transport{
			DialContext: NewDialer(rules, connecting).DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return nil, fmt.Errorf("ask responder: %w", err)
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask responder: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask responder: it answers %d", resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read answer of responder: %w", err)
	case int64(len(answer)) > limit:
		return nil, fmt.Errorf("read answer of responder: it has more than %d bytes", limit)
	}
	return answer, nil
}
