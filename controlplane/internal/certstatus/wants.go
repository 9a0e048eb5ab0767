package certstatus

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
)

// wantsOf is what a resource asks for, given what the group's settings say.
func wantsOf(m proto.Message, tls *configv1.ServerTls) []subject {
	switch m := m.(type) {
	case *configv1.CaCertificate:
		return lists(m)
	case *configv1.Certificate:
		return staples(m, tls)
	}
	return nil
}

// memory is what resources want that were looked at before: parsing all certificates of a group for each change of one would
// cost more the more there are.
type memory struct {
	mu     sync.Mutex
	groups map[string]remembered // guarded by mu
}

// remembered is of the resources of a view and its settings.
type remembered struct {
	settings *snapshot.Resource
	of       map[*snapshot.Resource][]subject
}

func newMemory() *memory { return &memory{groups: map[string]remembered{}} }

// wants is what is to be fetched for a group, in a fixed order. Too many are those that are not fetched.
func (m *memory) wants(view *snapshot.View) (all []subject, tooMany int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tls, settings := tlsOf(view), settingsOf(view)
	before, now := m.groups[view.Group], remembered{settings, map[*snapshot.Resource][]subject{}}
	if before.settings != settings {
		before.of = nil
	}
	of := func(r *snapshot.Resource) []subject {
		if r.Message == nil {
			return nil
		}
		if c, ok := r.Message.(*configv1.Certificate); ok && (elsewhere(c) || c.GetAcme() != nil) { // other records say what it is
			return wantsOf(view.Resolved(c), tls)
		}
		found, ok := before.of[r]
		if !ok {
			found = wantsOf(view.Resolved(r.Message), tls)
		}
		now.of[r] = found
		return found
	}
	for r := range view.All(certs.KindCA) {
		all = append(all, of(r)...)
	}
	slices.SortFunc(all, func(a, b subject) int { return strings.Compare(a.at().name, b.at().name) })
	tooMany = max(0, len(all)-MaxLists)
	all = all[:len(all)-tooMany]
	seen := map[string]bool{}
	for r := range view.All(certs.Kind) {
		for _, s := range of(r) {
			if name := s.at().name; !seen[name] {
				seen[name] = true
				all = append(all, s)
			}
		}
	}
	m.groups[view.Group] = now
	return all, tooMany
}

func (m *memory) forget(there map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.groups, func(group string, _ remembered) bool { return !there[group] })
}

func settingsOf(view *snapshot.View) (found *snapshot.Resource) {
	for r := range view.All(kindSettings) {
		found = r
	}
	return found
}

func tlsOf(view *snapshot.View) *configv1.ServerTls {
	if r := settingsOf(view); r != nil {
		if s, ok := r.Message.(*configv1.Settings); ok {
			return s.GetTls()
		}
	}
	return nil
}

// keeps reports whether anything that was fetched is kept in a view.
func keeps(view *snapshot.View) bool {
	for _, kind := range keptKinds() {
		for range view.All(kind) {
			return true
		}
	}
	return false
}
