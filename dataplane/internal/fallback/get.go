package fallback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"keyward.dev/shared/bundle"
)

// fetchTimeout bounds one download.
const fetchTimeout = 2 * time.Minute

// IsURL says whether a source is one, rather than a path.
func IsURL(source string) bool { return strings.Contains(source, "://") }

func (b *Bundle) get(ctx context.Context) ([]byte, error) {
	if IsURL(b.cfg.Source) {
		return b.cfg.Fetch(ctx, b.cfg.Source)
	}
	f, err := os.Open(b.cfg.Source)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	defer f.Close()
	return whole(f)
}

// fetch gets a file by HTTPS, and follows no redirect to anything else.
func fetch(ctx context.Context, url string) ([]byte, error) {
	client := &http.Client{
		Timeout: fetchTimeout,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Scheme != "https" || len(via) > 5 {
				return errors.New("a redirect that is not followed")
			}
			return nil
		},
	}
	defer client.CloseIdleConnections()
	return fetchWith(ctx, client, url)
}

func fetchWith(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, errors.New("fetch bundle: the URL does not parse")
	}
	resp, err := client.Do(req)
	if err != nil {
		// The URL may hold a signature that lets in, so that the client's error, which has it, is not passed on whole.
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return nil, fmt.Errorf("fetch bundle from %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch bundle from %s: answered %d", req.URL.Host, resp.StatusCode)
	}
	return whole(resp.Body)
}

func whole(r io.Reader) ([]byte, error) {
	file, err := io.ReadAll(io.LimitReader(r, bundle.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if len(file) > bundle.MaxSize {
		return nil, fmt.Errorf("read bundle: it has more than %d bytes", bundle.MaxSize)
	}
	return file, nil
}
