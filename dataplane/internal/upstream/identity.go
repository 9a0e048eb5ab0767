package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/shared/check/certs"
)

// errNoIdentity is wrapped by the error of a dial that was not tried because there is nothing to prove the gateway with.
var errNoIdentity = errors.New("the client certificate cannot be used")

// identity is what a target is shown.
type identity struct {
	of   *runtime.Identity // nil: nothing
	made atomic.Pointer[identified]
	last *string // id of what was shown when it was asked last; used by turned
}

// identified is a configuration that shows one version of a certificate.
type identified struct {
	from    *tls.Config
	version *certs.Version
	config  *tls.Config
}

// config returns what a connection is made with that begins now: from, with what the target is shown. There is no connection
// without it.
func (i *identity) config(from *tls.Config, now time.Time) (*tls.Config, error) {
	if i.of == nil {
		return from, nil
	}
	v := i.of.At(now)
	if v == nil {
		return nil, fmt.Errorf("%w: no version of %s has its key and is valid now", errNoIdentity, i.of.Reference)
	}
	if m := i.made.Load(); m != nil && m.from == from && m.version == v {
		return m.config, nil
	}
	m := &identified{from: from, version: v, config: showing(from, v)}
	i.made.Store(m)
	return m.config, nil
}

// showing has connections show a certificate whenever they are asked for one, whatever authorities the target names: to show
// none instead would be to call as somebody else. Sessions are its own, because one that is resumed stands for the
// certificate that it began with.
func showing(from *tls.Config, v *certs.Version) *tls.Config {
	shown := &tls.Certificate{PrivateKey: v.Key, Leaf: v.Leaf()}
	for _, one := range v.Chain {
		shown.Certificate = append(shown.Certificate, one.Raw)
	}
	c := from.Clone()
	c.ClientSessionCache = tls.NewLRUClientSessionCache(sessionsPerService)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
	return c
}

// turned says whether another version is shown than when it was asked last, and the id of that, empty if none can be.
func (i *identity) turned(now time.Time) (id string, turned bool) {
	if i.of == nil {
		return "", false
	}
	if v := i.of.At(now); v != nil {
		id = v.ID
	}
	turned = i.last != nil && *i.last != id
	i.last = &id
	return id, turned
}
