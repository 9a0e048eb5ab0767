package cors

import (
	"bytes"
	"fmt"
	"strings"
)

// origins are the allowed ones, in the serialised form browsers send: lower case, without the scheme's own port.
type origins struct {
	any   bool
	exact map[string]struct{}
	// wild maps what follows the first label of `scheme://*.parent`, as scheme + ".parent[:port]".
	wild map[string]struct{}
}

func newOrigins(list []string) (*origins, error) {
	o := &origins{exact: map[string]struct{}{}, wild: map[string]struct{}{}}
	for _, s := range list {
		if s == "*" {
			o.any = true
			continue
		}
		scheme, host, ok := strings.Cut(strings.ToLower(s), "://")
		if !ok || host == "" || scheme != "http" && scheme != "https" {
			return nil, fmt.Errorf("%q is no origin", s)
		}
		if scheme == "https" {
			host = strings.TrimSuffix(host, ":443")
		} else {
			host = strings.TrimSuffix(host, ":80")
		}
		if parent, ok := strings.CutPrefix(host, "*."); ok {
			o.wild[scheme+"://."+parent] = struct{}{}
			continue
		}
		o.exact[scheme+"://"+host] = struct{}{}
	}
	return o, nil
}

// maxOrigin is longer than any origin with a valid host name (253) and port.
const maxOrigin = 300

func (o *origins) allow(origin []byte) bool {
	if o.any {
		return true
	}
	if _, ok := o.exact[string(origin)]; ok {
		return true
	}
	if len(o.wild) == 0 || len(origin) > maxOrigin {
		return false
	}
	host := 0
	switch {
	case bytes.HasPrefix(origin, []byte("https://")):
		host = len("https://")
	case bytes.HasPrefix(origin, []byte("http://")):
		host = len("http://")
	default:
		return false
	}
	dot := host
	for dot < len(origin) && isLabel(origin[dot]) {
		dot++
	}
	if dot == host || dot == len(origin) || origin[dot] != '.' {
		return false
	}
	var buf [maxOrigin]byte
	key := append(append(buf[:0], origin[:host]...), origin[dot:]...)
	_, ok := o.wild[string(key)]
	return ok
}

func isLabel(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
