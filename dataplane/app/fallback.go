package app

import (
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/fallback"
	"keyward.dev/dataplane/internal/status"
	"keyward.dev/shared/settings"
)

// seenFile is where in the identity's directory a gateway remembers the newest configuration it has had.
const seenFile = "bundle.seen"

// FallbackBundle says from what a gateway may start that has neither a control plane nor a cache.
type FallbackBundle struct {
	// Source is a path or an https URL; empty: nothing.
	Source              string
	KeyFile, SignerFile string
}

func (f *FallbackBundle) check(group string, faults *settings.Faults) {
	if f.Source == "" {
		if f.KeyFile != "" || f.SignerFile != "" {
			faults.Addf("fallback-bundle", "is needed with --bundle-key-file and --bundle-signer-file")
		}
		return
	}
	if f.KeyFile == "" || f.SignerFile == "" {
		faults.Addf("fallback-bundle", "needs --bundle-key-file and --bundle-signer-file")
	}
	if group == "" {
		faults.Addf("fallback-bundle", "needs --group: a gateway that never enrolled does not know its group")
	}
	if u, err := url.Parse(f.Source); fallback.IsURL(f.Source) && (err != nil || u.Scheme != "https" || u.Host == "") {
		faults.Addf("fallback-bundle", "is neither a path nor an https URL")
	}
}

// fallbackBundle returns nil if none is asked for.
func fallbackBundle(s Settings, registry prometheus.Registerer, log *slog.Logger) *fallback.Bundle {
	if s.Fallback.Source == "" {
		return nil
	}
	cfg := fallback.Config{
		Source: s.Fallback.Source, KeyFile: s.Fallback.KeyFile, SignerFile: s.Fallback.SignerFile, Group: s.Group,
		Now: time.Now, Registry: registry, Log: log,
	}
	if s.IdentityDir != "" {
		cfg.SeenFile = filepath.Join(s.IdentityDir, seenFile)
	}
	return fallback.New(cfg)
}

// fallbackState is how the status asks for the fallback bundle; nil if there is none.
func (g *Gateway) fallbackState() func() status.Fallback {
	if g.fallback == nil {
		return nil
	}
	return func() status.Fallback {
		s := g.fallback.State()
		return status.Fallback{Serving: s.Serving, Issued: s.Issued, Refused: string(s.Refused)}
	}
}
