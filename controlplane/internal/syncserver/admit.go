package syncserver

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	maxEnrolling = 32
	// enrolWait is how long an enrolment waits for a place.
	enrolWait = 10 * time.Second
	// defaultFullSets is how many gateways are sent a whole set at once.
	defaultFullSets = 128
	// fullSetWait is how long a gateway waits for its turn. Its connection is made by then, which is the dear part: to be sent
	// away early would have it made again.
	fullSetWait = 25 * time.Second
	// fullSetTurn is how long one that reads slowly, or not at all, keeps others from theirs. It goes on beyond it.
	fullSetTurn = 10 * time.Second
)

// gate lets so many through at once, and sends those away who have waited for too long.
type gate struct {
	slots   chan struct{}
	wait    time.Duration
	waiting atomic.Int64
	refused atomic.Int64
}

func newGate(slots int, wait time.Duration) *gate {
	return &gate{slots: make(chan struct{}, slots), wait: wait}
}

// enter waits for a place. leave, which may be called again, gives it back.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.slots <- struct{}{}:
		return g.leave(), nil
	default:
	}
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return g.leave(), nil
	case <-timer.C:
		g.refused.Add(1)
		return nil, later("too many gateways begin at once", g.wait/10)
	case <-ctx.Done():
		return nil, status.FromContextError(context.Cause(ctx)).Err()
	}
}

func (g *gate) leave() func() {
	var left atomic.Bool
	return func() {
		if left.CompareAndSwap(false, true) {
			<-g.slots
		}
	}
}

// later refuses for now and says when to come again (google.rpc.RetryInfo): after the pause, and up to twice as long, so that
// those who were refused together do not come back together.
func later(why string, pause time.Duration) error {
	s, err := status.New(codes.ResourceExhausted, why).WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(pause + rand.N(pause))})
	if err != nil {
		return status.Error(codes.ResourceExhausted, why)
	}
	return s.Err()
}

// Load says how many gateways are sent their whole set now, how many wait for their turn, and how many were told to come
// again later.
func (s *Server) Load() (sending, waiting int, refused int64) {
	return len(s.fullSets.slots), int(s.fullSets.waiting.Load()), s.fullSets.refused.Load() + s.enrolling.refused.Load()
}
