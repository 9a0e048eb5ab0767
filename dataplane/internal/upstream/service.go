package upstream

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream/balance"
	"keyward.dev/dataplane/internal/upstream/guard"
)

// serviceKey is equal for what may share connections: the same service, dialled under the same rules.
type serviceKey struct{ service, egress string }

// service is what is kept of a service while its configuration changes: connections, health, load.
type service struct {
	manager *Manager
	key     serviceKey
	name    string
	dialer  *hostsvc.Dialer
	trust   *trust // nil: plain TCP
	group   *balance.Group
	breaker guard.Breaker
	budget  guard.Budget
	stats   stats

	named   atomic.Bool          // by the configuration in force
	gone    atomic.Bool          // it was, or others are
	current atomic.Pointer[view] // the newest
	panics  atomic.Bool          // no target is up: told already

	mu        sync.Mutex
	targets   map[targetKey]*target // guarded by mu
	transport *transport            // guarded by mu; nil: none
}

// targetKey is equal for what may share connections within a service.
type targetKey struct{ address, identity string }

// target is an address of a service with its connections, all of which show the same identity. Health and load are those of
// the address, whatever it is shown.
type target struct {
	*balance.Target
	service *service
	pool    pool
	// host is sent as Host, and hostname is verified, unless the service says another.
	host, hostname string
	shown          identity
}

// view is a service as it is configured at one time. Calls under way may use an older one.
type view struct {
	*service
	conf    *runtime.Service
	targets []*target // as in conf
	set     *balance.Set
	used    atomic.Int64 // when it was used last
}

// view returns the service as configured. It allocates nothing unless it is new.
func (m *Manager) view(s *runtime.Service, g *runtime.Settings) *view {
	v, ok := m.known(s)
	if !ok || v.key.egress != g.EgressKey {
		v = m.newView(s, g)
	}
	if now := m.now(); v.used.Load() != now {
		v.used.Store(now)
	}
	return v
}

func (m *Manager) known(s *runtime.Service) (*view, bool) {
	kept, _ := m.views.Load(s)
	v, ok := kept.(*view)
	return v, ok
}

func (m *Manager) newView(s *runtime.Service, g *runtime.Settings) *view {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.known(s); ok && v.key.egress == g.EgressKey {
		return v
	}
	k := serviceKey{s.Key, g.EgressKey}
	kept := m.services[k]
	if kept == nil {
		kept = m.newService(k, s, g)
		m.services[k] = kept
	}
	v := kept.view(s, m.now())
	m.views.Store(s, v)
	if !kept.named.Load() { // else Adopt says which is the newest
		v.adopt()
	}
	return v
}

func (m *Manager) newService(k serviceKey, s *runtime.Service, g *runtime.Settings) *service {
	kept := &service{
		manager: m, key: k, name: s.Name, dialer: hostsvc.NewDialer(g.Egress, 0), group: balance.NewGroup(),
		targets: map[targetKey]*target{},
	}
	if s.TLS != nil {
		kept.trust = newTrust(s, m.files, m.log)
	}
	return kept
}

func (s *service) view(conf *runtime.Service, now int64) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &view{service: s, conf: conf}
	first := len(s.targets) == 0
	members := make([]balance.Member, len(conf.Targets))
	for i, t := range conf.Targets {
		k := keyOf(t)
		kept := s.targets[k]
		if kept == nil {
			kept = s.newTarget(t, first, now)
			s.targets[k] = kept
		}
		v.targets = append(v.targets, kept)
		members[i] = balance.Member{Target: kept.Target, Weight: t.Weight}
	}
	v.set = balance.NewSet(s.group, members, conf.Balancer, now)
	v.used.Store(now)
	return v
}

func keyOf(t runtime.Target) targetKey {
	k := targetKey{address: t.Address}
	if t.Identity != nil {
		k.identity = t.Identity.Key
	}
	return k
}

func (s *service) newTarget(conf runtime.Target, first bool, now int64) *target {
	address := conf.Address
	t := &target{Target: s.group.Join(address, first, now), service: s}
	t.shown.of = conf.Identity
	t.shown.turned(time.Now())
	t.pool.target = t
	t.hostname = address
	if host, _, err := net.SplitHostPort(address); err == nil {
		t.hostname = host
	}
	standard := ":80"
	if s.trust != nil {
		standard = ":443"
	}
	t.host = strings.TrimSuffix(address, standard)
	return t
}

// adopt makes the view what the service is now.
func (v *view) adopt() {
	before := v.current.Swap(v)
	if before == v || before == nil && v.conf.Active == nil {
		return
	}
	if v.conf.Active != nil || before.conf.Active != nil {
		v.manager.reprobe()
	}
	if before != nil {
		v.replace(before.targets)
	}
}

// replace has connections end with their exchanges that show another identity than the one that they shall show now.
func (v *view) replace(before []*target) {
	now := make(map[*balance.Target]*target, len(v.targets))
	for _, t := range v.targets {
		now[t.Target] = t
	}
	for _, t := range before {
		if by := now[t.Target]; by != nil && by != t {
			t.pool.flush(false)
		}
	}
}

// forgettable says whether nobody will use the view any more; if somebody does, it is made again.
func (v *view) forgettable(now int64) bool {
	idle := now - v.used.Load()
	if v.current.Load() == v {
		return !v.named.Load() && idle > int64(serviceUnused)
	}
	return idle > int64(viewUnused)
}

// appendHost appends the Host that a target is sent.
func (v *view) appendHost(b []byte, r *Request, t *target) []byte {
	switch v.conf.Host {
	case runtime.HostPreserve:
		if len(r.Host) > 0 {
			return append(b, r.Host...)
		}
	case runtime.HostLiteral:
		return append(b, v.conf.HostName...)
	case runtime.HostUpstream:
	}
	return append(b, t.host...)
}

// retire drops the targets that are not live and returns how many are left.
func (s *service) retire(live map[*target]bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[*balance.Target]bool{}
	for _, t := range s.targets {
		kept[t.Target] = kept[t.Target] || live[t]
	}
	for k, t := range s.targets {
		if live[t] {
			continue
		}
		delete(s.targets, k)
		if !kept[t.Target] {
			s.group.Leave(k.address)
		}
		t.pool.flush(true)
	}
	if v := s.current.Load(); v != nil && len(v.targets) == 0 && s.named.Load() {
		return 1 // it has none, but it is there
	}
	return len(s.targets)
}

func (s *service) all() []*target {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*target, 0, len(s.targets))
	for _, t := range s.targets {
		list = append(list, t)
	}
	return list
}

// sweep closes connections that were idle for too long, or made under a trust that has changed. stamps are those of files
// that were looked at for another service already.
func (s *service) sweep(now int64, stamps map[string]string) {
	if s.trust != nil && s.trust.check(stamps) {
		s.flush()
	}
	s.turn(time.Now())
	v := s.current.Load()
	if v == nil {
		return
	}
	v.checkPanic(now)
	for _, t := range s.all() {
		t.pool.sweep(now, int64(v.conf.Pool.IdleTimeout))
	}
}

// turn has connections end with their exchanges that show a certificate which has given way to the next.
func (s *service) turn(now time.Time) {
	turned := false
	for _, t := range s.all() {
		if id, ok := t.shown.turned(now); ok {
			turned = true
			t.pool.flush(false)
			if id == "" {
				s.manager.log.Error("target closed: its client certificate is not valid", "service", s.name, "target", t.Address())
			} else {
				s.manager.log.Info("another client certificate is shown", "service", s.name, "target", t.Address(), "certificate", id)
			}
		}
	}
	if turned {
		s.closeTransport()
	}
}

func (s *service) closeTransport() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transport.close()
	s.transport = nil
}

// flush has no connection used again that exists now.
func (s *service) flush() {
	for _, t := range s.all() {
		t.pool.flush(false)
	}
	s.closeTransport()
}

func (s *service) close() {
	for _, t := range s.all() {
		t.pool.flush(true)
	}
	s.closeTransport()
}
