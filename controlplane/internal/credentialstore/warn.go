package credentialstore

import (
	"context"
	"log/slog"
	"maps"
	"slices"
)

// warn tells of entries that cannot be used, each reason once, and not of too many at once.
func (m *memory) warn(ctx context.Context, log *slog.Logger) {
	n := 0
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		e := m.entries[name]
		if e.bad == m.warned[name] {
			continue
		}
		if n++; n > mostTold {
			return // the others with the next reading
		}
		if m.warned[name] = e.bad; e.bad != "" {
			log.WarnContext(ctx, "entry of a credential store is passed over", "entry", hint(name), "err", e.bad)
		}
	}
	maps.DeleteFunc(m.warned, func(name, _ string) bool { _, ok := m.entries[name]; return !ok })
}
