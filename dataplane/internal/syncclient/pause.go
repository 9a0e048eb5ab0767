package syncclient

import (
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	minPause = 100 * time.Millisecond
	maxPause = 3 * time.Second
	// refusedPause is for a gateway that is revoked, or whose join token is used up: only people can change that.
	refusedPause = 30 * time.Second
	// maxAsked bounds how long the control plane can ask it to stay away.
	maxAsked = time.Minute
)

// pauses gives the pauses between attempts: they grow until something good is heard, and differ from gateway to gateway.
type pauses struct{ next time.Duration }

// reset begins with short pauses again.
func (p *pauses) reset() { p.next = 0 }

// after returns the pause after an attempt that ended so.
func (p *pauses) after(err error) time.Duration {
	pause := max(p.next, minPause)
	p.next = min(pause*2, maxPause)
	wait := pause/2 + rand.N(pause/2)
	if status.Code(err) == codes.PermissionDenied {
		wait = refusedPause + rand.N(refusedPause/2)
	}
	return max(wait, asked(err))
}

// asked is how long the control plane wants to be left alone (google.rpc.RetryInfo), because others are first.
func asked(err error) time.Duration {
	if err == nil {
		return 0
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return min(info.GetRetryDelay().AsDuration(), maxAsked)
		}
	}
	return 0
}
