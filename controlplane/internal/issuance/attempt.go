package issuance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

const (
	// applyTimeout bounds the wait for gateways to have what they are to answer.
	applyTimeout = time.Minute
	// watchEvery is how often it is looked whether an order is still wanted.
	watchEvery = 2 * time.Second
)

// errGone ends an order whose certificate was deleted, or is not issued any more.
var errGone = errors.New("the certificate was deleted or changed")

// order carries out one order and writes what came of it. That it failed is no error.
func (s *Service) order(ctx context.Context, group string, w want) error {
	log := s.cfg.Log.With("group", group, "certificate", w.name, "issuer", w.issuer.GetName())
	o := newOrder(w, group, s.cfg.Accounts, s.cfg.Egress)
	defer o.trip.base.CloseIdleConnections()
	o.show = func(ctx context.Context, proofs []proof) error { return s.show(ctx, group, w, proofs) }
	bounded, cancel := context.WithTimeoutCause(ctx, orderTimeout, fmt.Errorf("the order was not done after %s", orderTimeout))
	defer cancel()
	watched, gone := context.WithCancelCause(bounded)
	defer gone(nil)
	go s.watch(watched, group, w, gone)
	got, err := o.run(watched)
	if ctx.Err() != nil { // this replica ends; another one begins anew
		return ctx.Err()
	}
	if cause := context.Cause(watched); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	switch now := s.cfg.Now(); {
	case errors.Is(err, errGone):
		log.InfoContext(ctx, "order abandoned: the certificate was deleted or changed")
		return s.write(ctx, group, func(view *snapshot.View) configsvc.SystemChanges {
			return configsvc.SystemChanges{Deletes: challengesOf(view, w.name)}
		})
	case err != nil:
		s.metrics.orders.WithLabelValues("failed").Inc()
		next := nextAttempt(now, w.failures+1, err, o.trip.retryAfter())
		log.WarnContext(ctx, "certificate could not be issued", "err", told(err), "next_attempt", next.UTC())
		return s.write(ctx, group, func(view *snapshot.View) configsvc.SystemChanges { return failed(view, w, err, now, next) })
	default:
		s.metrics.orders.WithLabelValues("ok").Inc()
		at := renewAt(now, got.leaf.NotBefore, got.leaf.NotAfter, w.issuer.GetRenewBefore().AsDuration(), got.suggested)
		log.InfoContext(ctx, "certificate issued", "not_after", got.leaf.NotAfter.UTC(), "renew_at", at)
		return s.write(ctx, group, func(view *snapshot.View) configsvc.SystemChanges { return done(view, w, got, at) })
	}
}

// watch ends an order that nobody wants any more.
func (s *Service) watch(ctx context.Context, group string, w want, gone context.CancelCauseFunc) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		view, err := s.cfg.Groups.Fresh(ctx, group)
		if err == nil && !stillWanted(view, w) {
			gone(errGone)
			return
		}
	}
}

func stillWanted(view *snapshot.View, w want) bool {
	now, ok := wants(view)[w.name]
	return ok && now.uid == w.uid && now.request == w.request && now.issuerUID == w.issuerUID
}

// show writes what gateways answer, and waits until all that are connected do. One that does not follow for long must not keep
// certificates from being issued for others that do.
func (s *Service) show(ctx context.Context, group string, w want, proofs []proof) error {
	state, err := s.cfg.Rollouts.State(ctx, group)
	if err != nil {
		return err
	}
	until := timestamppb.New(s.cfg.Now().Add(orderTimeout).UTC().Truncate(time.Second))
	var gone bool
	res, err := s.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
		Actor: Actor, Action: "certificates.prove", Group: group, Note: "ACME",
		Wanted: func(view *snapshot.View) configsvc.SystemChanges {
			if gone = !stillWanted(view, w); gone {
				return configsvc.SystemChanges{}
			}
			out := configsvc.SystemChanges{Notes: []string{certs.Kind + "/" + w.name + ": names are being proved"}}
			for _, p := range proofs {
				p.record.Until = until
				out.Upserts = append(out.Upserts, upsert(view, certs.KindChallenge, p.name(), p.record))
			}
			// It harms nobody to have it, and must not take along what others hold back.
			out.Immediate = state != nil && state.Pending() == 0 && state.Revision == view.Revision
			return out
		},
	})
	switch {
	case err != nil:
		return err
	case gone:
		return errGone
	}
	return s.applied(ctx, group, res.Revision)
}

func (s *Service) applied(ctx context.Context, group string, revision int64) error {
	deadline := s.cfg.Now().Add(applyTimeout)
	for {
		p, err := s.cfg.Gateways.WaitForRevision(ctx, group, revision, 1, max(0, min(deadline.Sub(s.cfg.Now()), applyTimeout)))
		if err != nil {
			return err
		}
		have := p.Connected - p.Held - len(p.Pending)
		switch {
		case p.Connected > 0 && p.Held+len(p.Pending) == 0:
			return nil
		case s.cfg.Now().Before(deadline): // it answers early where gateways report faults of something else
		case have > 0:
			return nil
		default:
			return fmt.Errorf("no gateway has what the authority is to be answered with: %d are connected, %d of them are held back by a roll-out", p.Connected, p.Held)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// upsert puts a record in the place of the one that there is.
func upsert(view *snapshot.View, kind, name string, m proto.Message) admission.Upsert {
	up := admission.Upsert{Kind: kind, Name: name, Message: m, Created: true}
	if r, ok := view.Get(kind, name); ok {
		up.UID, up.Created = r.UID, false
	}
	return up
}

func challengesOf(view *snapshot.View, certificate string) []snapshot.Ref {
	var out []snapshot.Ref
	for r := range view.All(certs.KindChallenge) {
		if c, ok := r.Message.(*systemv1.AcmeChallenge); ok && c.GetCertificate() == certificate {
			out = append(out, r.Ref())
		}
	}
	slices.SortFunc(out, func(a, b snapshot.Ref) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// outcome is the change that ends an order: its challenges go, and if the certificate is still wanted its record changes.
func outcome(view *snapshot.View, w want, change func(*systemv1.IssuedCertificate) string) configsvc.SystemChanges {
	out := configsvc.SystemChanges{Deletes: challengesOf(view, w.name)}
	if !stillWanted(view, w) {
		return out
	}
	m := &systemv1.IssuedCertificate{}
	if now := recordOf(view, w.name); now != nil {
		m = proto.CloneOf(now)
	}
	out.Notes = []string{certs.Kind + "/" + w.name + ": " + change(m)}
	out.Upserts = []admission.Upsert{upsert(view, certs.KindIssued, w.name, m)}
	return out
}

func done(view *snapshot.View, w want, got issued, renew time.Time) configsvc.SystemChanges {
	return outcome(view, w, func(m *systemv1.IssuedCertificate) string {
		proto.Reset(m)
		m.Certificate, m.Request, m.RenewAt = got.version, w.request, timestamppb.New(renew)
		return fmt.Sprintf("issued by %s/%s, until %s", certs.KindIssuer, w.issuer.GetName(), got.leaf.NotAfter.UTC().Format(time.RFC3339))
	})
}

// succeeded is a record without what was said of failures.
func succeeded(m *systemv1.IssuedCertificate) *systemv1.IssuedCertificate {
	return &systemv1.IssuedCertificate{Certificate: m.GetCertificate(), Request: m.GetRequest(), RenewAt: m.GetRenewAt()}
}

func failed(view *snapshot.View, w want, err error, now, next time.Time) configsvc.SystemChanges {
	return outcome(view, w, func(m *systemv1.IssuedCertificate) string {
		fails(m, told(err), now)
		m.Failures = w.failures + 1
		m.NextAttempt, m.Attempted = timestamppb.New(next.UTC().Truncate(time.Second)), w.attempted
		return "could not be issued by " + certs.KindIssuer + "/" + w.issuer.GetName()
	})
}

// waiting notes why nothing is ordered. It is no attempt.
func waiting(view *snapshot.View, due []want, text string, now time.Time) configsvc.SystemChanges {
	var out configsvc.SystemChanges
	for _, w := range due {
		if !stillWanted(view, w) {
			continue
		}
		m := &systemv1.IssuedCertificate{}
		if r := recordOf(view, w.name); r != nil {
			m = proto.CloneOf(r)
		}
		fails(m, text, now)
		out.Upserts = append(out.Upserts, upsert(view, certs.KindIssued, w.name, m))
	}
	return out
}

func fails(m *systemv1.IssuedCertificate, text string, now time.Time) {
	m.LastError = text
	if m.GetFailingSince() == nil {
		m.FailingSince = timestamppb.New(now.UTC().Truncate(time.Second))
	}
}

// Renew has a certificate issued anew at once. It answers the revision that says so.
func (s *Service) Renew(ctx context.Context, actor, group, name string) (int64, error) {
	var missing error
	res, err := s.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
		Actor: actor, Action: "certificates.renew", Group: group, Note: "renew",
		Wanted: func(view *snapshot.View) configsvc.SystemChanges {
			missing = nil
			w, ok := wants(view)[name]
			if _, held := view.Get(certs.Kind, name); !held {
				missing = problem.Errorf(problem.NotFound, "there is no certificate %s", name)
			} else if !ok {
				missing = problem.Errorf(problem.Conflict, "certificate %s is not issued by an ACME authority: write another version of it", name)
			}
			if missing != nil || w.record == nil { // one that was never tried is due
				return configsvc.SystemChanges{}
			}
			m := proto.CloneOf(w.record)
			m.RenewAt, m.NextAttempt = timestamppb.New(s.cfg.Now().UTC().Truncate(time.Second)), nil
			return configsvc.SystemChanges{
				Upserts: []admission.Upsert{upsert(view, certs.KindIssued, name, m)}, Notes: []string{certs.Kind + "/" + name + ": is to be issued anew"},
			}
		},
	})
	if err == nil {
		err = missing
	}
	if err != nil {
		return 0, err
	}
	s.cfg.Woken.Wake(group)
	return res.Revision, nil
}
