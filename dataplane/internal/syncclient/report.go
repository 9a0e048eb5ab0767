package syncclient

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/lastuse"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// reportEvery is how far apart reports are, more or less: gateways that began together do not stay in step.
const reportEvery = 10 * time.Second

func nextReport() time.Duration { return reportEvery*9/10 + rand.N(reportEvery/5) }

// report sends counters and uses of credentials until the session ends. Nothing depends on it, so its failures end nothing.
func (s *session) report(ctx context.Context, service syncv1.SyncServiceClient) error {
	timer := time.NewTimer(nextReport())
	defer timer.Stop()
	var stream syncv1.SyncService_ReportClient
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(nextReport())
		}
		if stream == nil {
			var err error
			if stream, err = service.Report(ctx); err != nil {
				stream = nil
				continue
			}
			s.client.mayBeLost()
		}
		r := s.client.counters()
		uses := s.client.uses(r)
		if err := stream.Send(r); err != nil {
			stream = nil
			continue
		}
		s.client.sent(uses)
	}
}

// counters are the requests since the last report.
func (c *Client) counters() *syncv1.ReportRequest {
	r := &syncv1.ReportRequest{At: timestamppb.Now(), UptimeSeconds: uint64(time.Since(c.start) / time.Second)}
	if c.cfg.Responses == nil {
		return r
	}
	r.Responses = map[string]uint64{}
	for class, n := range c.cfg.Responses() {
		r.Responses[class] = n - c.reported[class]
		c.reported[class] = n
	}
	return r
}

// uses puts uses of credentials into the report and returns them.
func (c *Client) uses(r *syncv1.ReportRequest) []lastuse.Use {
	if c.cfg.Uses == nil {
		return nil
	}
	uses, now := c.cfg.Uses(), r.GetAt().AsTime()
	for _, u := range uses {
		uid, err := hex.DecodeString(strings.ReplaceAll(u.UID, "-", ""))
		if err != nil {
			continue // not one that a control plane has given
		}
		ago := max(0, now.Sub(u.At)/time.Second)
		r.CredentialUses = append(r.CredentialUses, &syncv1.CredentialUse{Uid: uid, SecondsAgo: uint32(ago)})
	}
	return uses
}

// sent says that uses were reported. Whether they have arrived nobody knows while the stream lives.
func (c *Client) sent(uses []lastuse.Use) {
	for _, u := range uses {
		u.Reported()
	}
	if len(uses) > 0 {
		c.unsure = uses
	}
}

// mayBeLost has the uses reported again that were sent last over a stream that is gone.
func (c *Client) mayBeLost() {
	for _, u := range c.unsure {
		u.Lost()
	}
	c.unsure = nil
}
