package file

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"keyward.dev/shared/check"
)

const (
	maxListed = 16
	minBits   = 128
)

var (
	errShort = errors.New("has 16 characters: a key of AES-128, which is too short here; put one of 32 before it, nothing of ours is under it")
	errWeak  = errors.New("can be guessed: it has less than 128 bits by its alphabet")
)

// OpenList reads keys from a file, as ParseList does.
func OpenList(path string) ([]*Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open key-encryption keys: %w", err)
	}
	keys, err := ParseList(b)
	if err != nil {
		return nil, fmt.Errorf("open key-encryption keys %s: %w", path, err)
	}
	return keys, nil
}

// ParseList takes keys, one a line: 32 characters that are taken as they are, or 32 bytes as hexadecimal or base64 text. Empty
// lines are passed over. Errors name lines, and quote nothing.
func ParseList(b []byte) (keys []*Key, err error) {
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		k, err := parseListed(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, errors.New("there is no key")
	case len(keys) > maxListed:
		return nil, fmt.Errorf("there are %d keys, more than %d", len(keys), maxListed)
	}
	return keys, nil
}

func parseListed(line string) (*Key, error) {
	const aes128 = 16
	switch len(line) {
	case aes128:
		return nil, errShort
	case keySize: // characters that somebody may have typed
		if strings.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, ErrKey
		}
		if check.KeyBits(line) < minBits {
			return nil, errWeak
		}
	}
	return Parse([]byte(line))
}
