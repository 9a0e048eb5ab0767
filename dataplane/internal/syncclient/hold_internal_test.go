package syncclient

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/dataplane/internal/state"
)

func TestAnswersAreHeldBackAsAsked(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		within        time.Duration
		faults        []Fault
		least, beyond time.Duration
	}{
		{"not asked", 0, nil, 0, 1},
		{"asked", 100 * time.Millisecond, nil, 50 * time.Millisecond, 100 * time.Millisecond},
		{"with faults", time.Second, []Fault{{Name: "r"}}, 0, 1},
		{"asked for too much", time.Hour, nil, maxHold / 2, maxHold},
		{"asked for nonsense", -time.Hour, nil, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for range 20 {
					began := time.Now()
					goesOn := hold(t.Context(), force{set: &state.Set{AcknowledgeWithin: tt.within}, faults: tt.faults})
					if took := time.Since(began); !goesOn || took < tt.least || took >= tt.beyond {
						t.Errorf("held for %v (%t), want %v to %v", took, goesOn, tt.least, tt.beyond)
					}
				}
			})
		})
	}
}

func TestNothingIsHeldBeyondTheSession(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if hold(ctx, force{set: &state.Set{AcknowledgeWithin: maxHold}}) {
		t.Error("an answer is sent after the session has ended")
	}
}
