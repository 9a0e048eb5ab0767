package syncclient

import (
	"context"
	"time"

	"keyward.dev/dataplane/internal/state"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// misfit asks for the whole set, unless that has not helped twice: then only now and again.
func (s *session) misfit(ctx context.Context, m *state.MisfitError) error {
	c := s.client
	ask := c.misfits.ask(time.Now())
	c.cfg.Log.ErrorContext(ctx, "a change was not taken over; the last configuration stays in force", "reason", m.Reason, "resync", ask)
	c.update(func(st *Status) {
		st.Distrusted = st.Distrusted || c.misfits.count > maxResyncs
		st.Misfits++
		if ask {
			st.Resyncs++
		}
	})
	if !ask {
		return nil
	}
	r := &syncv1.Resync{Reason: m.Reason}
	return s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Resync{Resync: r}})
}

const (
	maxResyncs  = 2
	resyncPause = time.Minute
)

// misfits counts changes that did not fit since the last that did.
type misfits struct {
	count int
	asked time.Time
}

func (m *misfits) ask(now time.Time) bool {
	m.count++
	if m.count > maxResyncs && now.Sub(m.asked) < resyncPause {
		return false
	}
	m.asked = now
	return true
}
