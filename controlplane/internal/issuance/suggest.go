package issuance

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
)

const (
	// askEvery is how often an authority is asked when it would have a certificate renewed (RFC 9773): it may be about to revoke it.
	askEvery   = 6 * time.Hour
	askTimeout = 30 * time.Second
)

// unasked are the certificates about which this replica has not asked for long.
func (s *Service) unasked(view *snapshot.View, group string) []want {
	now := s.cfg.Now()
	all := wants(view)
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := range s.asked { // of what is there no more
		if _, ok := all[at.name]; at.group == group && !ok {
			delete(s.asked, at)
		}
	}
	var out []want
	for name, w := range all {
		if w.record.GetCertificate() != nil && !w.stale(now) && !now.Before(s.asked[place{group, name}]) {
			out = append(out, w)
		}
	}
	return out
}

// ask asks authorities when they would have certificates renewed, and notes it if that is earlier than we would.
func (s *Service) ask(ctx context.Context, view *snapshot.View, group string) error {
	for _, w := range s.unasked(view, group) {
		s.mu.Lock()
		s.asked[place{group, w.name}] = s.cfg.Now().Add(askEvery - time.Duration(rand.Float64()*float64(askEvery)/4))
		s.mu.Unlock()
		suggested := s.suggested(ctx, group, w)
		if !suggested.missedAt(w.record.GetRenewAt().AsTime()) {
			continue
		}
		err := s.write(ctx, group, func(view *snapshot.View) configsvc.SystemChanges {
			now, ok := wants(view)[w.name]
			if !ok || now.record == nil || !proto.Equal(now.record.GetCertificate(), w.record.GetCertificate()) {
				return configsvc.SystemChanges{}
			}
			m := proto.CloneOf(now.record)
			m.RenewAt = timestamppb.New(suggested.selected.UTC().Truncate(time.Second))
			return configsvc.SystemChanges{
				Upserts: []admission.Upsert{upsert(view, certs.KindIssued, w.name, m)},
				Notes:   []string{certs.Kind + "/" + w.name + ": the authority suggests to renew it earlier"},
			}
		})
		if err != nil {
			return err
		}
		s.cfg.Woken.Wake(group)
	}
	return nil
}

// suggested is when the authority would have a certificate renewed; zero: it does not say, or cannot be asked, which is no failure.
func (s *Service) suggested(ctx context.Context, group string, w want) window {
	leaf := w.leaf()
	if leaf == nil {
		return window{}
	}
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	trip := newTransport(s.cfg.Egress, pool(w.roots))
	defer trip.base.CloseIdleConnections()
	client := newClient(w, group, trip)
	directory, err := client.GetDirectory(bounded)
	if err != nil || directory.RenewalInfo == "" {
		return window{}
	}
	info, err := client.GetRenewalInfo(bounded, leaf)
	if err != nil {
		s.cfg.Log.DebugContext(ctx, "the authority does not say when to renew", "group", group, "certificate", w.name, "err", err)
		return window{}
	}
	return windowOf(info)
}
