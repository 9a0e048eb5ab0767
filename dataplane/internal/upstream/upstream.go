// Package upstream forwards requests to the targets of services over kept-alive connections. It chooses the target, sends
// the request once or, where that is safe, once more, and hands out the response piece by piece as it comes, in place.
// Connections, health and load of a service survive configuration changes that leave its key as it is.
//
// There are two implementations behind one interface: our own HTTP/1.1 client, which in the steady state allocates nothing
// and uses no goroutine but the caller's, and net/http's transport, for HTTP/2 and as the other opinion about HTTP/1.1.
//
// It decides nothing about who may call. Called by the server.
package upstream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/shardmap"
)

// EngineNetHTTP as Config.Engine has net/http's transport speak HTTP/1.1 too.
const EngineNetHTTP = "net/http"

const (
	sweepEvery  = time.Second
	forgetEvery = 15 // sweeps
	// serviceUnused is when a service that no configuration names and nobody called is forgotten, viewUnused when it is
	// forgotten how it was configured once.
	serviceUnused = 10 * time.Minute
	viewUnused    = time.Minute
)

// Config is what a manager works with.
type Config struct {
	Sweeper *conn.Sweeper
	Log     *slog.Logger
	// Registry gets the metrics; nil: none.
	Registry prometheus.Registerer
	// FileRoots are the directories below which CA files may be.
	FileRoots []string
	// Engine speaks HTTP/1.1: our own, or EngineNetHTTP.
	Engine string
}

// Manager keeps connections and health of all services.
type Manager struct {
	sweeper *conn.Sweeper
	log     *slog.Logger
	files   *hostsvc.Files
	engine  string
	started time.Time

	views   sync.Map  // *runtime.Service: *view
	buffers sync.Pool // of *[pumpPiece]byte
	workers workers
	changed chan struct{} // what is to be probed may have changed

	adopted adopted // of whoever calls Adopt

	mu       sync.Mutex
	services map[serviceKey]*service // guarded by mu
}

// adopted is what Adopt has seen last.
type adopted struct {
	services *shardmap.Map[*runtime.Service]
	egress   string
}

// NewManager returns a manager without connections.
func NewManager(c Config) *Manager {
	m := &Manager{
		sweeper: c.Sweeper, log: c.Log, engine: c.Engine, started: time.Now(),
		changed: make(chan struct{}, 1), services: map[serviceKey]*service{},
	}
	m.buffers.New = func() any { return new([pumpPiece]byte) }
	var err error
	if m.files, err = hostsvc.NewFiles(c.FileRoots); err != nil {
		m.log.Error("no file can be read for services", "err", err)
		m.files = &hostsvc.Files{}
	}
	if c.Registry != nil {
		c.Registry.MustRegister(&collector{manager: m})
	}
	return m
}

// Run looks after connections and probes targets until ctx ends; then it closes what is idle.
func (m *Manager) Run(ctx context.Context) error {
	p := newProbers()
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for tick := 1; ; tick++ {
		select {
		case <-ctx.Done():
			p.wait()
			m.end()
			return nil
		case <-m.changed:
			p.reconcile(ctx, m.all())
		case <-t.C:
			m.sweep(tick)
		}
	}
}

// Adopt says which services there are now. Their targets are probed although nobody called yet, and what is kept of
// others goes soon. Without it services are known from the first call on.
//
// It costs nothing if neither services nor what they may dial have changed. One goroutine calls it.
func (m *Manager) Adopt(rt *runtime.Runtime) {
	now := adopted{rt.Services, rt.Settings.EgressKey}
	if now == m.adopted {
		return
	}
	m.adopted = now
	named := map[serviceKey]bool{}
	for _, s := range rt.Services.All() {
		if s.Closed != "" {
			continue
		}
		k := serviceKey{s.Key, rt.Settings.EgressKey}
		named[k] = true
		if s.Active != nil || m.keeps(k) {
			m.view(s, rt.Settings).adopt()
		}
	}
	for _, s := range m.name(named) {
		s.flush() // what was made under rules that hold no more ends with its exchange
	}
}

// name notes which services there are and returns those that were and are not any more.
func (m *Manager) name(named map[serviceKey]bool) (gone []*service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, s := range m.services {
		s.named.Store(named[k])
		if s.gone.Swap(!named[k]) != !named[k] {
			m.reprobe()
			if !named[k] {
				gone = append(gone, s)
			}
		}
	}
	return gone
}

func (m *Manager) keeps(k serviceKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.services[k] != nil
}

// now is the time for everything but latencies: it costs nothing.
func (m *Manager) now() int64 { return m.sweeper.Now() }

func (m *Manager) all() []*service {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*service, 0, len(m.services))
	for _, s := range m.services {
		list = append(list, s)
	}
	return list
}

// reprobe has it found out what is to be probed.
func (m *Manager) reprobe() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// sweep closes connections that were idle for too long and ends goroutines that wait for work; now and then it forgets
// what nobody uses.
func (m *Manager) sweep(tick int) {
	now, stamps := m.now(), map[string]string{}
	for _, s := range m.all() {
		s.sweep(now, stamps)
	}
	m.workers.sweep(now)
	if tick%forgetEvery == 0 {
		m.forget(now)
	}
}

// forget drops how services were configured once, targets that are in no view any more, and services without views.
func (m *Manager) forget(now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := map[*target]bool{}
	for _, v := range m.views.Range {
		v, ok := v.(*view)
		if !ok {
			continue
		}
		if v.forgettable(now) {
			m.views.Delete(v.conf)
			continue
		}
		for _, t := range v.targets {
			live[t] = true
		}
	}
	for k, s := range m.services {
		if s.retire(live) == 0 {
			delete(m.services, k)
			s.close()
			m.reprobe()
		}
	}
}

// end closes what is idle. Connections in use are closed when they come back.
func (m *Manager) end() {
	m.workers.end()
	for _, s := range m.all() {
		s.close()
	}
}
