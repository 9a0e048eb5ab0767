package syncclient_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func later(t *testing.T, after time.Duration) error {
	t.Helper()
	s, err := status.New(codes.ResourceExhausted, "others are first").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// TestAControlPlaneThatAsksToWaitIsLeftAlone: neither is it asked again before, nor can it keep a gateway away for long.
func TestAControlPlaneThatAsksToWaitIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err         error
		least, most time.Duration
	}{
		"without a word": {status.Error(codes.ResourceExhausted, "others are first"), 0, 2 * time.Second},
		"for a while":    {later(t, 20*time.Second), 20 * time.Second, 22 * time.Second},
		"for a day":      {later(t, 24*time.Hour), time.Minute, 62 * time.Second},
		"for no time":    {later(t, -time.Hour), 0, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newControl(t)
				w := start(t, c, nil)
				defer w.end()
				w.until(t, 0)
				<-c.hellos
				c.cut(tt.err)
				began := time.Now()
				<-c.hellos
				if took := time.Since(began); took < tt.least || took > tt.most {
					t.Errorf("came back after %v, want %v to %v", took, tt.least, tt.most)
				}
			})
		})
	}
}

// TestWhoCannotEnrolNowWaitsAsAsked: strangers are first to be sent away when a control plane is busy.
func TestWhoCannotEnrolNowWaitsAsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		c.refuse = later(t, 30*time.Second)
		w := start(t, c, nil)
		defer w.end()
		<-time.After(65 * time.Second)
		c.mu.Lock()
		attempts := len(c.keys)
		c.refuse = nil
		c.mu.Unlock()
		if attempts != 3 {
			t.Errorf("%d attempts in 65s, want 3", attempts)
		}
		w.until(t, 0)
	})
}
