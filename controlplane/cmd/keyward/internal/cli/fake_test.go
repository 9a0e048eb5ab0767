package cli_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
	"keyward.dev/shared/problem"
)

// fake is a control plane that answers every RPC with what it was told to, and remembers what it was asked.
type fake struct {
	t        *testing.T
	listener *bufconn.Listener

	mu       sync.Mutex
	answers  map[string][]string
	requests map[string]string
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, listener: bufconn.Listen(1 << 20), answers: map[string][]string{}, requests: map[string]string{}}
	server := grpc.NewServer(grpc.UnknownServiceHandler(f.handle))
	done := make(chan error, 1)
	go func() { done <- server.Serve(f.listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("fake control plane: %v", err)
		}
	})
	return f
}

func (f *fake) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///fake",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.listener.DialContext(ctx) }))
}

// answer queues an answer; the last one of a method is given again and again.
func (f *fake) answer(t *testing.T, method, body string) {
	t.Helper()
	if _, err := find(method); err != nil {
		t.Fatal(err)
	}
	f.answers[method] = append(f.answers[method], body)
}

func (f *fake) asked() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// find finds a method by Service/Method.
func find(name string) (protoreflect.MethodDescriptor, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("keyward.admin.v1." + strings.ReplaceAll(name, "/", ".")))
	if err != nil {
		return nil, err
	}
	return d.(protoreflect.MethodDescriptor), nil
}

func message(d protoreflect.MessageDescriptor) (proto.Message, error) {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, err
	}
	return mt.New().Interface(), nil
}

func (f *fake) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	name := strings.TrimPrefix(full, "/keyward.admin.v1.")
	md, err := find(name)
	if err != nil {
		return err
	}
	if err := f.receive(stream, md, name); err != nil {
		return err
	}
	for _, body := range f.take(name, md.IsStreamingServer()) {
		if err := send(stream, md, body); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) receive(stream grpc.ServerStream, md protoreflect.MethodDescriptor, name string) error {
	for {
		req, err := message(md.Input())
		if err != nil {
			return err
		}
		if err := stream.RecvMsg(req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.requests[name] += compact(f.t, data)
		f.mu.Unlock()
		if !md.IsStreamingClient() {
			return nil
		}
	}
}

// take answers what is next; of a streaming method everything.
func (f *fake) take(name string, all bool) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	queue := f.answers[name]
	switch {
	case len(queue) == 0:
		return []string{"error unimplemented the case has no answer for " + name}
	case all || len(queue) == 1:
		return queue
	}
	f.answers[name] = queue[1:]
	return queue[:1]
}

func send(stream grpc.ServerStream, md protoreflect.MethodDescriptor, body string) error {
	if rest, ok := strings.CutPrefix(body, "error "); ok {
		return refusal(rest)
	}
	res, err := message(md.Output())
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal([]byte(body), res); err != nil {
		return status.Errorf(codes.Internal, "the case's answer: %v", err)
	}
	return stream.SendMsg(res)
}

// refusal makes an error from "code message" and lines "path: reason".
func refusal(body string) error {
	first, rest, _ := strings.Cut(body, "\n")
	code, detail, _ := strings.Cut(first, " ")
	p := problem.New(problem.Code(code), detail)
	if code == "unimplemented" {
		return status.Error(codes.Unimplemented, detail)
	}
	for line := range strings.Lines(rest) {
		path, reason, _ := strings.Cut(strings.TrimSpace(line), ": ")
		p.Violations = append(p.Violations, problem.Violation{Path: path, Reason: reason})
	}
	return grpcstatus.FromProblem(p)
}
