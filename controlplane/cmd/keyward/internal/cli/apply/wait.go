package apply

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/rollout"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

const (
	// step is how long one call waits where a person sees progress; longStep where nobody does. Both are below the idle
	// timeouts of what may stand between us and the control plane.
	step     = time.Second
	longStep = 20 * time.Second
)

// wait returns when the gateways have applied the revision, one refuses, or time is up.
func (o *Options) wait(ctx context.Context, gateways adminv1.GatewayServiceClient, applied *adminv1.ApplyResponse) error {
	io := o.Factory.IO
	start := o.Factory.Now()
	deadline := start.Add(o.Timeout)
	defer io.Done()
	for {
		left := deadline.Sub(o.Factory.Now())
		ask := longStep
		if io.ErrTTY {
			ask = step
		}
		res, err := gateways.WaitForRevision(ctx, &adminv1.WaitForRevisionRequest{
			Group:       applied.GetGroup(),
			Revision:    applied.GetRevision(),
			MinGateways: o.MinGateways,
			Timeout:     durationpb.New(max(min(left, ask), time.Millisecond)),
		})
		if err != nil {
			return fmt.Errorf("wait for gateways: %w", err)
		}
		switch {
		case len(res.GetRejecting()) > 0:
			io.Done()
			return rejected(res.GetRejecting())
		case res.GetApplied() && res.GetHeld() > 0:
			io.Done()
			io.Say("%s; %s the change later", rollout.Line(res.GetRollout()), plural(res.GetHeld(), "gateway gets", "gateways get"))
			return nil
		case res.GetApplied() && res.GetConnected() == 0:
			io.Done()
			io.Say("no gateways are connected; those that come will get revision %d", applied.GetRevision())
			return nil
		case res.GetApplied():
			io.Done()
			io.Say("%s at revision %d, after %s", plural(res.GetConnected(), "gateway is", "gateways are"),
				applied.GetRevision(), o.Factory.Now().Sub(start).Round(time.Millisecond))
			return nil
		case !o.Factory.Now().Before(deadline):
			io.Done()
			return o.late(res)
		}
		io.Status("waiting for %s …", outstanding(res, o.MinGateways))
	}
}

// rejected names gateway, resource and reason.
func rejected(gateways []*adminv1.Gateway) error {
	var b strings.Builder
	for _, g := range gateways {
		for _, f := range g.GetFaults() {
			fmt.Fprintf(&b, "\n  gateway %s refuses %s: %s", g.GetId(), strings.TrimSuffix(f.GetKind()+"/"+f.GetName(), "/"), f.GetReason())
		}
		if len(g.GetFaults()) == 0 {
			fmt.Fprintf(&b, "\n  gateway %s refuses it without saying what", g.GetId())
		}
	}
	return failure.Hint(fmt.Errorf("%w:%s", errNotApplied, b.String()), "requests to what a gateway refuses are answered 503; correct it and apply again")
}

func (o *Options) late(res *adminv1.WaitForRevisionResponse) error {
	err := fmt.Errorf("%w: after %s still waiting for %s", errNotApplied, o.Timeout, outstanding(res, o.MinGateways))
	return failure.Hint(err, "keyward gateways list shows where they stand")
}

func outstanding(res *adminv1.WaitForRevisionResponse, least int32) string {
	var parts []string
	if pending := res.GetPending(); len(pending) > 0 {
		parts = append(parts, plural(int32(len(pending)), "gateway", "gateways")+" ("+strings.Join(pending, ", ")+")")
	}
	if missing := least - res.GetConnected(); missing > 0 {
		parts = append(parts, fmt.Sprintf("%s to connect (%d of %d are)", plural(missing, "gateway", "gateways"), res.GetConnected(), least))
	}
	if len(parts) == 0 {
		return "gateways"
	}
	return strings.Join(parts, " and ")
}

func plural(n int32, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
