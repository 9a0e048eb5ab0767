package fallback

import (
	"context"
	"net/http"
)

// FetchWith gets a file with a client.
func FetchWith(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	return fetchWith(ctx, client, url)
}
