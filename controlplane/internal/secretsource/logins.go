package secretsource

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/secret"
)

// logins are made by a role of an engine of Vault, each for a time: every answer is a new one. What was made is kept with its
// lease, which whoever made it renews; it is exchanged for another one before it ends. A lease ends with the login of ours that it was
// made with, so that another replica may renew it and it ends all the same: it exchanges it when most of its life is over.
type logins struct {
	client      *vaultclient.Client
	mount, role string

	mu  sync.Mutex
	own map[string]bool // guarded by mu: ids of leases that were made or renewed here
}

func newLogins(client *vaultclient.Client, mount, role string) (*logins, error) {
	if !secretplace.Path(role) || strings.Contains(role, "/") {
		return nil, errors.New("database-role must be the name of a role")
	}
	return &logins{client: client, mount: mount, role: role, own: map[string]bool{}}, nil
}

func (l *logins) check(r secret.Reference) string { return secretplace.Login(l.role, r) }

func (l *logins) read(ctx context.Context, q question) (string, error) {
	if q.certificate {
		return "", errNoKey
	}
	g, err := q.once(func() (reply, error) { return l.give(ctx, q) })
	if err != nil {
		return "", vaultFailure(err)
	}
	q.leased(g.lease)
	if g.data == nil {
		return q.kept.GetValue().GetPlaintext(), nil
	}
	value, ok := g.data[q.reference.Field]
	if !ok || value == nil {
		return "", errNothing
	}
	text, ok := value.(string)
	if !ok {
		return "", errNoText
	}
	return text, nil
}

// give holds on to what is kept, or has another login made.
func (l *logins) give(ctx context.Context, q question) (reply, error) {
	if kept := oneLease(q.beside); kept != nil && q.now.Before(kept.GetEnds().AsTime()) {
		held, err := l.hold(ctx, kept, q.now)
		if held != nil || err != nil {
			return reply{lease: held}, err
		}
	}
	made, err := l.client.Lease(ctx, l.mount+"/creds/"+l.role)
	if err != nil {
		return reply{}, err
	}
	l.forget(oneLease(q.beside))
	return reply{data: made.Data, lease: l.note(made, made.Life, q.now)}, nil
}

// hold answers a lease as it is now, nothing if it has to be exchanged.
func (l *logins) hold(ctx context.Context, kept *systemv1.SecretLease, now time.Time) (*systemv1.SecretLease, error) {
	login, err := l.client.Login(ctx)
	if err != nil {
		return nil, err
	}
	switch mine := login == kept.GetLogin(); {
	case !mine && (l.owns(kept) || !now.Before(takeOver(kept))):
		return nil, nil
	case !mine || now.Before(renewAt(kept)):
		return kept, nil
	}
	renewed, err := l.client.Renew(ctx, vaultclient.Lease{ID: kept.GetId(), Login: kept.GetLogin()})
	switch life := kept.GetLife().AsDuration(); {
	case err == nil && renewed.Life >= life/2:
		return l.note(renewed, life, now), nil
	case errors.Is(err, vaultclient.ErrUnreachable) || errors.Is(err, vaultclient.ErrSealed):
		return nil, err
	}
	return nil, nil // it is near its longest life, or gone
}

func (l *logins) note(made vaultclient.Lease, life time.Duration, now time.Time) *systemv1.SecretLease {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own[made.ID] = true
	return &systemv1.SecretLease{
		Id: made.ID, Login: made.Login, Life: durationpb.New(life),
		Since: timestamppb.New(now.UTC()), Ends: timestamppb.New(now.Add(made.Ends.Sub(made.Since)).UTC()),
	}
}

func (l *logins) owns(lease *systemv1.SecretLease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.own[lease.GetId()]
}

func (l *logins) forget(lease *systemv1.SecretLease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.own, lease.GetId())
}

func (l *logins) giveBack(ctx context.Context, id string) error {
	l.forget(&systemv1.SecretLease{Id: id})
	return l.client.Revoke(ctx, id)
}

// oneLease is the lease of records if all are of the same one; else what is kept is no login.
func oneLease(records []*systemv1.ResolvedSecret) *systemv1.SecretLease {
	var lease *systemv1.SecretLease
	for _, r := range records {
		if !known(r) || r.GetLease() == nil || lease != nil && lease.GetId() != r.GetLease().GetId() {
			return nil
		}
		lease = r.GetLease()
	}
	return lease
}

// renewAt is when a lease is renewed by whoever made it, takeOver when others exchange it.
func renewAt(l *systemv1.SecretLease) time.Time  { return part(l, 3) }
func takeOver(l *systemv1.SecretLease) time.Time { return part(l, 2) }

func part(l *systemv1.SecretLease, of time.Duration) time.Time {
	since := l.GetSince().AsTime()
	return since.Add(l.GetEnds().AsTime().Sub(since) / of)
}

// ends reports whether what was made here ends although its time is not over: with the login that it was made with.
func (p *Provider) ends(kept *systemv1.ResolvedSecret) bool {
	if p == nil || p.logins == nil || kept.GetLease() == nil {
		return false
	}
	login := p.logins.client.LastLogin()
	return login != "" && login != kept.GetLease().GetLogin() && p.logins.owns(kept.GetLease())
}

// leases are those of a view's records, by id, with the names of the records.
func leases(view *snapshot.View) map[string][]string {
	out := map[string][]string{}
	for r := range view.All(certs.KindResolved) {
		if id := recordOf(r).GetLease().GetId(); id != "" {
			out[id] = append(out[id], r.Name)
		}
	}
	return out
}

// giveBack gives back what was made and nothing refers to any more, or nothing ever did because another replica was faster. What
// was exchanged is left to its end: gateways that are out of reach still use it.
func (r *Resolver) giveBack(ctx context.Context, before *snapshot.View, ask asking, found map[string]outcome) error {
	had, of := leases(before), map[string]secret.Reference{}
	for id, names := range had {
		for _, name := range names {
			of[id], _ = secret.ParseReference(ask.kept(name).GetReference())
		}
	}
	for _, o := range found {
		if id := o.value.GetLease().GetId(); id != "" {
			of[id] = o.reference
		}
	}
	if len(of) == 0 {
		return nil
	}
	view, err := r.cfg.Groups.Fresh(ctx, before.Group)
	if err != nil {
		return err
	}
	has := leases(view)
	for id, reference := range of {
		p, reason := ask.find(reference)
		if has[id] != nil || reason != "" || p.logins == nil || exchanged(view, had[id]) {
			continue
		}
		if err := p.logins.giveBack(ctx, id); err != nil {
			r.cfg.Log.WarnContext(ctx, "a login could not be given back; it ends by itself", "group", before.Group, "reference", reference.String(), "err", discreet(err))
		}
	}
	return nil
}

// exchanged reports whether one of some records has another lease now.
func exchanged(view *snapshot.View, names []string) bool {
	for _, name := range names {
		if r, ok := view.Get(certs.KindResolved, name); ok && recordOf(r).GetLease() != nil {
			return true
		}
	}
	return false
}
