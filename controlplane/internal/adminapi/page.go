package adminapi

import (
	"encoding/base64"
	"strconv"
	"strings"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// maxPageBytes ends a page early: gRPC clients take 4 MiB in one message unless told otherwise.
	maxPageBytes = 3 << 20
)

// pageSize returns how many entries a page has.
func pageSize(asked int32) (int, error) {
	switch {
	case asked < 0:
		return 0, malformed("page_size", "must not be negative")
	case asked == 0:
		return defaultPage, nil
	default:
		return min(int(asked), maxPage), nil
	}
}

// pageToken is where the next page starts, bound to what is listed so that a token of another list is noticed. It holds
// no secret and grants nothing: who follows it is checked like everybody.
func pageToken(list, last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + last))
}

// afterToken returns the last entry of the page before; "" for the first page.
func afterToken(list, token string) (string, error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", malformed("page_token", "is not a token of this list")
	}
	last, ok := strings.CutPrefix(string(raw), list+"\x00")
	if !ok {
		return "", malformed("page_token", "is not a token of this list")
	}
	return last, nil
}

// afterNumber is afterToken for lists that are ordered by number; 0 for the first page.
func afterNumber(list, token string) (int64, error) {
	last, err := afterToken(list, token)
	if err != nil || last == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(last, 10, 64)
	if err != nil || n < 1 {
		return 0, malformed("page_token", "is not a token of this list")
	}
	return n, nil
}
