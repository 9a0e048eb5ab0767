package upstream

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream/balance"
)

// hash returns what decides about the target with a consistent hash.
func (c *call) hash() uint64 {
	b := &c.view.conf.Balancer
	if b.Algorithm != runtime.ConsistentHash {
		return 0
	}
	var key []byte
	switch b.HashOn {
	case runtime.HashHeader:
		key = c.req.Header.Get(b.HashName)
	case runtime.HashCookie:
		key = cookie(c.req.Header, b.HashName)
	case runtime.HashClientIP:
	}
	if len(key) > 0 {
		return balance.Hash(key)
	}
	ip := c.req.ClientIP.As16()
	return balance.Hash(ip[:])
}

// cookie returns the value of the first cookie with this name.
func cookie(h exchange.Headers, name string) []byte {
	for i := range h {
		if !exchange.EqualFold(h[i].Name, "Cookie") {
			continue
		}
		for rest := h[i].Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte(";"))
			key, value, _ := bytes.Cut(bytes.TrimLeft(pair, " "), []byte("="))
			if string(key) == name {
				return value
			}
		}
	}
	return nil
}
