package syncbench

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// The files that both sides of the bare fan-out read in their directory: a certificate with its key that is its own
// authority, and the messages to send.
const (
	BareCert     = "cert.pem"
	BareKey      = "key.pem"
	BareMessages = "messages"
)

// BareRound is what both sides write of each round: the server when it began, the clients when the last of them had all.
type BareRound struct {
	Round int       `json:"round"`
	At    time.Time `json:"at"`
}

// bare is the least that a server can do: it sends the same messages to every stream.
type bare struct {
	syncv1.UnimplementedSyncServiceServer
	messages []*syncv1.ConfigResponse

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// Config implements SyncService.
func (s *bare) Config(stream syncv1.SyncService_ConfigServer) error {
	changed := s.waiting()
	if err := stream.Send(&syncv1.ConfigResponse{}); err != nil {
		return err
	}
	for {
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
		changed = s.waiting()
		for _, m := range s.messages {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
}

func (s *bare) waiting() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *bare) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// ServeBare sends the messages to all streams for each line that it reads, until there are no more.
func ServeBare(dir, addr string, in io.Reader, out io.Writer) error {
	t, err := bareTLS(dir)
	if err != nil {
		return err
	}
	s := &bare{changed: make(chan struct{})}
	if s.messages, err = readMessages(filepath.Join(dir, BareMessages)); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr) //nolint:noctx // it lives as long as the process
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(t)))
	syncv1.RegisterSyncServiceServer(g, s)
	failed := make(chan error, 1)
	go func() { failed <- g.Serve(l) }()
	lines := bufio.NewScanner(in)
	for round := 1; lines.Scan(); round++ {
		at := time.Now()
		s.send()
		if err := json.NewEncoder(out).Encode(BareRound{round, at}); err != nil {
			return fmt.Errorf("tell of a round: %w", err)
		}
	}
	g.Stop()
	return errors.Join(<-failed, lines.Err())
}

// ReceiveBare opens so many streams, each on a connection of its own, and receives until they end.
func ReceiveBare(ctx context.Context, dir, addr string, streams int, out io.Writer) error {
	t, err := bareTLS(dir)
	if err != nil {
		return err
	}
	c := &bareClients{streams: streams, got: map[int]int{}, out: json.NewEncoder(out)}
	all, failed := sync.WaitGroup{}, make(chan error, streams)
	for range streams {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(t)))
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer conn.Close()
		stream, err := syncv1.NewSyncServiceClient(conn).Config(ctx, grpc.WaitForReady(true))
		if err != nil {
			return fmt.Errorf("open stream: %w", err)
		}
		if _, err := stream.Recv(); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		all.Go(func() { failed <- c.receive(stream) })
	}
	c.tell(0) // all are there
	all.Wait()
	return <-failed
}

// bareClients count the streams that are through a round.
type bareClients struct {
	streams int
	mu      sync.Mutex // guards got and out
	got     map[int]int
	out     *json.Encoder
}

func (c *bareClients) receive(stream syncv1.SyncService_ConfigClient) error {
	for round := 1; ; {
		m, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if !commits(m) {
			continue
		}
		c.mu.Lock()
		c.got[round]++
		last := c.got[round] == c.streams
		c.mu.Unlock()
		if last {
			c.tell(round)
		}
		round++
	}
}

// commits says whether a message, or one of its batch, ends a change.
func commits(m *syncv1.ConfigResponse) bool {
	return m.GetCommit() != nil || slices.ContainsFunc(m.GetBatch().GetMessages(), commits)
}

func (c *bareClients) tell(round int) {
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.out.Encode(BareRound{round, at}) //nolint:errchkjson // who reads notices that it is missing
}

func bareTLS(dir string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, BareCert), filepath.Join(dir, BareKey))
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13,
	}, nil
}

// WriteMessages keeps the messages of a change for the server.
func WriteMessages(path string, messages []*syncv1.ConfigResponse) error {
	var b []byte
	for _, m := range messages {
		one, err := proto.Marshal(m)
		if err != nil {
			return fmt.Errorf("marshal message: %w", err)
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(one))), one...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write messages: %w", err)
	}
	return nil
}

func readMessages(path string) ([]*syncv1.ConfigResponse, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	var all []*syncv1.ConfigResponse
	for len(b) > 4 {
		n := int(binary.BigEndian.Uint32(b))
		m := &syncv1.ConfigResponse{}
		if n > len(b)-4 {
			return nil, errors.New("read messages: cut off")
		}
		if err := proto.Unmarshal(b[4:4+n], m); err != nil {
			return nil, fmt.Errorf("read messages: %w", err)
		}
		all, b = append(all, m), b[4+n:]
	}
	return all, nil
}
