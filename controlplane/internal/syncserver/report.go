package syncserver

import (
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// Report implements SyncService. What it takes in is for people to look at; nothing depends on it.
func (s *Server) Report(stream syncv1.SyncService_ReportServer) error {
	who := callerOf(stream.Context())
	cut, stop := s.cfg.Revocations.Watch(who.Gateway)
	defer stop()
	ended := make(chan error, 1)
	s.senders.Go(func() { ended <- s.takeReports(stream, who) })
	expiry := time.NewTimer(who.until.Sub(s.cfg.Now()))
	defer expiry.Stop()
	for {
		select {
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return stream.SendAndClose(&syncv1.ReportResponse{})
			}
			return err
		case <-cut:
			return errRevoked()
		case <-s.draining:
			return status.Error(codes.Unavailable, "this replica is ending")
		case <-expiry.C:
			until := s.leases.end(who.Gateway, who.until)
			if !s.cfg.Now().Before(until) {
				return status.Error(codes.Unauthenticated, "the certificate has expired")
			}
			expiry.Reset(until.Sub(s.cfg.Now()))
		}
	}
}

func (s *Server) takeReports(stream syncv1.SyncService_ReportServer, who caller) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		s.cfg.Registry.Reported(who.Group, who.Gateway, r.GetResponses())
		s.cfg.Used(who.Group, r.GetCredentialUses())
	}
}
