package syncserver_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"keyward.dev/controlplane/internal/fanout"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

var sizes = []int{1, 100, 1000}

// BenchmarkPropagation is the time from a commit until the last stream has received it.
func BenchmarkPropagation(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			w := newWorld(b, options{})
			defer w.stop()
			g := w.enrol("a")
			var round sync.WaitGroup
			for range n {
				s := g.stream(fanout.Position{})
				for s.resets == 0 || s.at.Epoch == 0 {
					if err := s.next(); err != nil {
						b.Fatal(err)
					}
				}
				go commits(s.rpc, round.Done)
			}
			body := bytes.Repeat([]byte("x"), 500)
			for b.Loop() {
				round.Add(n)
				w.sources["a"].Put("u", "n", body)
				round.Wait()
			}
		})
	}
}

// committed says whether a message, or one of its batch, ends a change.
func committed(m *syncv1.ConfigResponse) bool {
	return m.GetCommit() != nil || slices.ContainsFunc(m.GetBatch().GetMessages(), committed)
}

func batchOf(messages ...*syncv1.ConfigResponse) *syncv1.ConfigResponse {
	return &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Batch{Batch: &syncv1.Batch{Messages: messages}}}
}

func commits(rpc syncv1.SyncService_ConfigClient, done func()) {
	for {
		m, err := rpc.Recv()
		if err != nil {
			return
		}
		if committed(m) {
			done()
		}
	}
}

// bare is the least a server can do: it sends the same messages to every stream.
type bare struct {
	syncv1.UnimplementedSyncServiceServer
	mu      sync.Mutex
	changed chan struct{}
	batch   []*syncv1.ConfigResponse
}

func (s *bare) Config(stream syncv1.SyncService_ConfigServer) error {
	s.mu.Lock()
	changed := s.changed
	s.mu.Unlock()
	if err := stream.Send(&syncv1.ConfigResponse{}); err != nil {
		return err
	}
	for {
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
		s.mu.Lock()
		batch := s.batch
		changed = s.changed
		s.mu.Unlock()
		for _, m := range batch {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
}

func (s *bare) put(batch []*syncv1.ConfigResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batch = batch
	close(s.changed)
	s.changed = make(chan struct{})
}

// BenchmarkBareFanOut is what BenchmarkPropagation is measured against.
func BenchmarkBareFanOut(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			w := newWorld(b, options{})
			defer w.stop()
			g := w.enrol("a")
			server := &bare{changed: make(chan struct{})}
			conn := w.bare(b, server)
			var round sync.WaitGroup
			for range n {
				rpc, err := syncv1.NewSyncServiceClient(conn(g)).Config(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := rpc.Recv(); err != nil {
					b.Fatal(err)
				}
				go commits(rpc, round.Done)
			}
			body := bytes.Repeat([]byte("x"), 500)
			batch := []*syncv1.ConfigResponse{batchOf(
				&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Begin{Begin: &syncv1.Begin{Epoch: 1, FromRevision: 5}}},
				&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Frame{Frame: &syncv1.Frame{Kind: "routes", Uid: "u", Last: true, Bytes: body}}},
				&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Commit{Commit: &syncv1.Commit{Epoch: 1, Revision: 6, Digest: make([]byte, 32)}}},
			)}
			for b.Loop() {
				round.Add(n)
				server.put(batch)
				round.Wait()
			}
		})
	}
}

// bare serves the bare server with the world's certificates and returns how a gateway connects to it.
func (w *world) bare(b *testing.B, s *bare) func(*gateway) *grpc.ClientConn {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cfg := mtls.ServerTLS(mtls.Config{TrustDomain: domain, Roots: w.ca.Roots, Certificate: w.ca.ServerCertificate, Now: w.clock.Now})
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(cfg)))
	syncv1.RegisterSyncServiceServer(g, s)
	var done sync.WaitGroup
	done.Go(func() { _ = g.Serve(l) })
	b.Cleanup(func() { g.Stop(); done.Wait() })
	return func(gw *gateway) *grpc.ClientConn {
		return w.connect(mtls.ClientTLS(w.config(gw.cert)), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		}))
	}
}

// BenchmarkJoin is the time a gateway takes to receive a large set.
func BenchmarkJoin(b *testing.B) {
	const records = 20_000
	w := newWorld(b, options{})
	defer w.stop()
	w.sources["a"].Fill(records, 300)
	g := w.enrol("a")
	began := time.Now()
	n := 0
	for b.Loop() {
		s := g.stream(fanout.Position{})
		for m := new(syncv1.ConfigResponse); !committed(m); {
			var err error
			if m, err = s.rpc.Recv(); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
	b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(n*records), "ns/record")
}
