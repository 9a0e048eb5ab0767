package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream/balance"
)

// probers probe the targets of all services that want it, each on a goroutine of its own.
type probers struct {
	wg      sync.WaitGroup
	running map[*target]*prober
}

// prober probes one target.
type prober struct {
	target *target
	view   *view
	conf   *runtime.ActiveHealth
	stop   context.CancelFunc
	client *http.Client

	bad, good int // in a row
}

func newProbers() *probers { return &probers{running: map[*target]*prober{}} }

// reconcile has probed what is to be probed by how the services are configured now, and nothing else; nothing at all after
// the end of ctx.
func (p *probers) reconcile(ctx context.Context, services []*service) {
	wanted, probed := map[*target]*view{}, map[*balance.Target]bool{}
	for _, s := range services {
		v := s.current.Load()
		if v == nil || v.conf.Active == nil || s.gone.Load() {
			continue
		}
		for i, t := range v.targets {
			if v.conf.Targets[i].Weight > 0 {
				wanted[t], probed[t.Target] = v, true
			}
		}
	}
	for t, one := range p.running {
		if v := wanted[t]; v == nil || v.conf != one.view.conf {
			one.stop()
			delete(p.running, t)
			if !probed[t.Target] {
				t.SetWell(true, t.service.manager.now()) // nobody knows better any more
			}
		}
	}
	for t, v := range wanted {
		if p.running[t] == nil {
			p.start(ctx, t, v)
		}
	}
}

func (p *probers) start(ctx context.Context, t *target, v *view) {
	ctx, cancel := context.WithCancel(ctx)
	transport := t.service.newTransport(v.conf, func(string) *target { return t })
	transport.DisableKeepAlives = true // a connection that can be made is part of what is probed
	one := &prober{target: t, view: v, conf: v.conf.Active, stop: cancel, client: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	p.running[t] = one
	p.wg.Go(func() {
		defer transport.CloseIdleConnections()
		one.run(ctx)
	})
}

// wait returns when all have ended, after the end of their context.
func (p *probers) wait() { p.wg.Wait() }

// run probes at the interval, give or take a tenth, so that not all gateways probe at once; the first time within it.
func (p *prober) run(ctx context.Context) {
	timer := time.NewTimer(time.Duration(rand.Int64N(max(int64(p.conf.Interval)/10, 1))))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := p.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		p.note(err)
		timer.Reset(p.conf.Interval + time.Duration(rand.Int64N(max(int64(p.conf.Interval)/5, 1))) - p.conf.Interval/10)
	}
}

// note counts a probe, and changes the verdict after enough of them that agree.
func (p *prober) note(err error) {
	t, stats := p.target, &p.target.service.stats
	stats.probes.Add(1)
	if err == nil {
		p.good, p.bad = p.good+1, 0
		if p.good >= p.conf.Healthy && t.SetWell(true, t.service.manager.now()) {
			p.view.manager.log.Info("target is healthy", "service", p.view.name, "target", t.Address())
		}
		return
	}
	stats.probeFailures.Add(1)
	p.good, p.bad = 0, p.bad+1
	if p.bad >= p.conf.Unhealthy && t.SetWell(false, t.service.manager.now()) {
		p.view.manager.log.Warn("target is unhealthy", "service", p.view.name, "target", t.Address(), "err", err)
	}
}

func (p *prober) probe(ctx context.Context) error {
	if p.conf.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.conf.Timeout)
		defer cancel()
	}
	scheme := "http://"
	if p.view.conf.TLS != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+p.target.Address()+p.conf.Path, http.NoBody)
	if err != nil {
		return fmt.Errorf("make probe: %w", err)
	}
	req.Header.Set("User-Agent", "keyward-probe")
	if req.Host = p.conf.Host; req.Host == "" {
		req.Host = string(p.view.appendHost(nil, &Request{}, p.target))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, maxResponseHead); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read answer to probe: %w", err)
	}
	if !p.healthy(resp.StatusCode) {
		return fmt.Errorf("probe was answered %d", resp.StatusCode)
	}
	return nil
}

func (p *prober) healthy(status int) bool {
	if p.conf.Statuses == nil {
		return status >= 200 && status < 400
	}
	return slices.Contains(p.conf.Statuses, status)
}
