package rest_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"

	"keyward.dev/controlplane/internal/adminapi/operation"
	"keyward.dev/controlplane/internal/adminapi/rest"
)

// conn answers RPCs from functions.
type conn struct {
	invoke func(ctx context.Context, in, out proto.Message) error
	stream func(ctx context.Context) grpc.ClientStream
}

func (c conn) Invoke(ctx context.Context, method string, in, out any, _ ...grpc.CallOption) error {
	if method == adminv1.SystemService_WhoAmI_FullMethodName {
		return nil
	}
	return c.invoke(ctx, in.(proto.Message), out.(proto.Message))
}

func (c conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.stream(ctx), nil
}

func serve(t *testing.T, c conn, stall time.Duration) *httptest.Server {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operation.List(cat.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	h, err := rest.New(rest.Config{Conn: c, Operations: ops, Catalog: cat, Log: slog.New(slog.DiscardHandler), Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestWaitingLongerThanAClientMayStall(t *testing.T) {
	t.Parallel()
	const stall = 50 * time.Millisecond
	s := serve(t, conn{invoke: func(ctx context.Context, _, out proto.Message) error {
		select {
		case <-time.After(5 * stall):
			proto.Merge(out, &adminv1.WaitForRevisionResponse{Applied: true})
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, stall)
	resp, err := s.Client().Get(s.URL + "/v1/groups/a/revisions/1:wait")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestAStalledBodyEnds(t *testing.T) {
	t.Parallel()
	var called atomic.Bool
	s := serve(t, conn{invoke: func(context.Context, proto.Message, proto.Message) error { called.Store(true); return nil }}, 50*time.Millisecond)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	head := "PUT /v1/groups/a/services/s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400") || called.Load() {
		t.Errorf("%v, called %v\n%s", err, called.Load(), answer)
	}
}

// document records what an Apply stream is sent.
type document struct {
	grpc.ClientStream
	ctx  context.Context
	sent atomic.Int64
	end  atomic.Bool
}

func (d *document) Context() context.Context { return d.ctx }

func (d *document) SendMsg(m any) error {
	d.sent.Add(int64(len(m.(*adminv1.ApplyRequest).GetChunk())))
	return nil
}

func (d *document) CloseSend() error  { d.end.Store(true); return nil }
func (d *document) RecvMsg(any) error { return errors.New("not asked") }

func TestACutDocumentIsNotApplied(t *testing.T) {
	t.Parallel()
	streams := make(chan *document, 1)
	s := serve(t, conn{stream: func(ctx context.Context) grpc.ClientStream {
		d := &document{ctx: ctx}
		streams <- d
		return d
	}}, time.Second)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	head := "POST /v1/groups/a:apply HTTP/1.1\r\nHost: h\r\nContent-Type: application/yaml\r\nContent-Length: 100000\r\n\r\n"
	if _, err := io.WriteString(c, head+strings.Repeat("#", 70000)); err != nil {
		t.Fatal(err)
	}
	d := <-streams
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-d.ctx.Done() // the stream is cancelled, not ended
	if d.end.Load() || d.sent.Load() > 70000 {
		t.Errorf("a cut document was ended after %d bytes", d.sent.Load())
	}
}

func TestADocumentThatIsTooLargeIsNotApplied(t *testing.T) {
	t.Parallel()
	streams := make(chan *document, 1)
	s := serve(t, conn{stream: func(ctx context.Context) grpc.ClientStream {
		d := &document{ctx: ctx}
		streams <- d
		return d
	}}, 30*time.Second)
	body := io.LimitReader(zeros{}, 65<<20)
	resp, err := s.Client().Post(s.URL+"/v1/groups/a:apply", "application/yaml", body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	d := <-streams
	<-d.ctx.Done()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || d.end.Load() {
		t.Errorf("%d, ended %v, want 413 and the stream cancelled", resp.StatusCode, d.end.Load())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
