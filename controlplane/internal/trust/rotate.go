package trust

import (
	"context"
	"fmt"
	"strings"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/shared/problem"
)

// RotateIntermediate makes an intermediate that issues from now on. Nobody need have heard of it before: who shows a certificate
// shows the intermediate, too.
func (d *Desk) RotateIntermediate(ctx context.Context, actor string) (State, error) {
	if err := d.cfg.Authorities.RotateIntermediate(ctx, pki.Order{Actor: actor}); err != nil {
		return State{}, err
	}
	return d.State(ctx)
}

// PrepareRoot makes the next root, which gateways are told of.
func (d *Desk) PrepareRoot(ctx context.Context, actor string) (State, error) {
	if err := d.cfg.Authorities.PrepareRoot(ctx, pki.Order{Actor: actor}); err != nil {
		return State{}, err
	}
	return d.State(ctx)
}

// ActivateRoot makes the prepared root the current one, if every connected gateway knows it.
func (d *Desk) ActivateRoot(ctx context.Context, actor string, force bool) (State, error) {
	before, err := d.State(ctx)
	if err != nil {
		return State{}, err
	}
	by := pki.Order{Actor: actor}
	if n := len(before.Unaware); n > 0 && before.prepared() {
		if !force {
			return State{}, problem.Errorf(problem.Conflict,
				"%d of %d connected gateways have not taken over the trust bundle with the prepared root: %s", n, before.Connected, some(before.Unaware))
		}
		by.Detail = fmt.Sprintf("forced; %d of %d connected gateways had not taken over the trust bundle", n, before.Connected)
	}
	if err := d.cfg.Authorities.ActivateRoot(ctx, by); err != nil {
		return State{}, err
	}
	return d.State(ctx)
}

// RetireRoot ends the trust in the root that was current before, if no gateway has a good certificate under it. What the answer
// says of the former root is as it was until then.
func (d *Desk) RetireRoot(ctx context.Context, actor string, force bool) (State, error) {
	before, err := d.State(ctx)
	if err != nil {
		return State{}, err
	}
	by := pki.Order{Actor: actor}
	if f := before.Former; f != nil {
		n := len(f.Holders)
		if n > 0 && !force {
			return State{}, problem.Errorf(problem.Conflict,
				"%d gateways have certificates under root %s that are still good: %s", n, f.Root, some(f.Holders))
		}
		by.Detail = fmt.Sprintf("%d good certificates, %d that could be renewed and %d join tokens ended with it", n, f.Renewable, f.JoinTokens)
	}
	if err := d.cfg.Authorities.RetireRoot(ctx, by); err != nil {
		return State{}, err
	}
	after, err := d.State(ctx)
	after.Former = before.Former
	return after, err
}

func (s State) prepared() bool {
	for _, a := range s.Authorities {
		if a.IsRoot() && a.Prepared() {
			return true
		}
	}
	return false
}

// some names a few of many.
func some(names []string) string {
	const few = 20
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
