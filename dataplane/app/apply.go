package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/status"
	"keyward.dev/dataplane/internal/syncclient"
)

// maxLoggedFaults bounds how many faults of one configuration are logged; /status has all.
const maxLoggedFaults = 20

// applier puts verified sets into force.
type applier struct {
	compiler *compile.Compiler
	runtime  *runtime.Holder
	status   *status.Status
	log      *slog.Logger
	egress   *atomic.Pointer[hostsvc.EgressRules] // what calls of the gateway's own keep to
	adopt    func(rt *runtime.Runtime)            // told of every runtime once it is in force
	// loaded is closed when the first configuration is in force.
	loaded chan struct{}
	once   sync.Once
}

// Apply compiles the set and makes it what requests see from now on.
func (a *applier) Apply(ctx context.Context, set *state.Set) []syncclient.Fault {
	rt, faults := a.build(set)
	a.egress.Store(rt.Settings.Egress) // before anybody could make a call for the new runtime
	a.runtime.Store(rt)
	a.adopt(rt)
	a.status.Applied(rt, faults, time.Now())
	a.once.Do(func() { close(a.loaded) })
	out := make([]syncclient.Fault, 0, len(faults))
	for i, f := range faults {
		if i < maxLoggedFaults {
			a.log.WarnContext(ctx, "resource does not work, what it guards is closed", "kind", f.Kind, "name", f.Name, "uid", f.UID, "reason", f.Reason)
		}
		out = append(out, syncclient.Fault(f))
	}
	return out
}

// build compiles the set from the runtime in force. Should that panic, it compiles the set anew, and if that panics too,
// everything is closed: to go on with the last runtime would be to go on without what the set forbids.
func (a *applier) build(set *state.Set) (*runtime.Runtime, []runtime.Fault) {
	for _, prev := range []*runtime.Runtime{a.runtime.Load(), nil} {
		rt, faults, err := a.try(set, prev)
		if err == nil {
			return rt, faults
		}
		a.log.Error("compiler panicked", "revision", set.Revision, "err", err)
		a.status.ApplyFailed()
	}
	rt, _ := a.compiler.Build(state.Empty(), nil)
	rt.Set, rt.Closed, rt.Broken = set, "the configuration could not be compiled", true
	return rt, []runtime.Fault{{Kind: "settings", Name: "settings", Reason: rt.Closed}}
}

func (a *applier) try(set *state.Set, prev *runtime.Runtime) (rt *runtime.Runtime, faults []runtime.Fault, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("compile: panic: %v", v)
		}
	}()
	if prev != nil && prev.Broken {
		prev = nil
	}
	rt, faults = a.compiler.Build(set, prev)
	return rt, faults, nil
}
