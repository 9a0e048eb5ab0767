package adminapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/adminapi/operation"
	"keyward.dev/controlplane/internal/adminauth"
)

// caller is a column of the matrix.
type caller struct {
	name, group string
	role        optionsv1.Role
	token       string
}

// callers lists who calls: nobody, somebody with a bad token, and every role on the group, on another and on all.
func callers(a *api) []caller {
	out := []caller{
		{name: "no token"},
		{name: "invalid token", token: "kwa_" + strings.Repeat("x", 12) + "_" + strings.Repeat("y", 32)},
		{name: "no grants", token: a.token("", 0), role: optionsv1.Role_ROLE_IDENTIFIED},
	}
	for _, group := range []string{"a", "b", "*"} {
		for _, role := range []optionsv1.Role{optionsv1.Role_ROLE_VIEWER, optionsv1.Role_ROLE_OPERATOR, optionsv1.Role_ROLE_ADMIN} {
			name := fmt.Sprintf("%s of %s", adminauth.RoleWord(role), group)
			out = append(out, caller{name, group, role, a.token(group, role)})
		}
	}
	return out
}

// want says what a caller of a method on group a gets, from the descriptor alone: OK stands for anything the handler says.
func want(m protoreflect.MethodDescriptor, c caller) codes.Code {
	perm, _ := proto.GetExtension(m.Options(), optionsv1.E_Permission).(*optionsv1.Permission)
	known := c.role != 0
	switch {
	case c.token != "" && !known:
		return codes.Unauthenticated
	case perm.GetRole() == optionsv1.Role_ROLE_ANYONE:
		return codes.OK
	case !known:
		return codes.Unauthenticated
	case perm.GetRole() == optionsv1.Role_ROLE_IDENTIFIED:
		return codes.OK
	case perm.GetScope() == optionsv1.Scope_SCOPE_GROUP && c.group == "a" && c.role >= perm.GetRole(),
		c.group == "*" && c.role >= perm.GetRole():
		return codes.OK
	default:
		return codes.PermissionDenied
	}
}

func methods() []protoreflect.MethodDescriptor {
	var out []protoreflect.MethodDescriptor
	protoregistry.GlobalFiles.RangeFilesByPackage("keyward.admin.v1", func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Services().Len() {
			for j := range fd.Services().Get(i).Methods().Len() {
				out = append(out, fd.Services().Get(i).Methods().Get(j))
			}
		}
		return true
	})
	return out
}

// dialer gives each cell its own client address, so that failed attempts of one do not throttle another.
func dialer(n int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, byte(n>>8), byte(n))}}
	return d.DialContext
}

func TestAuthorisationMatrixOverGRPC(t *testing.T) {
	t.Parallel()
	a := serve(t)
	n := 0
	for _, m := range methods() {
		for _, c := range callers(a) {
			n++
			conn, err := a.dial(dialer(n))
			if err != nil {
				t.Fatal(err)
			}
			before := a.written()
			got := status.Code(invoke(t.Context(), conn, m, request(m, "a"), c.token))
			check(t, m.FullName(), c, got, want(m, c))
			if want(m, c) != codes.OK && a.written() != before {
				t.Errorf("%s by %s was refused but wrote", m.FullName(), c.name)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if n < 25*12 {
		t.Errorf("only %d cells", n)
	}
}

// check compares, taking for OK whatever a handler answers.
func check(t *testing.T, what any, c caller, got, want codes.Code) {
	t.Helper()
	if got != codes.Unauthenticated && got != codes.PermissionDenied {
		got = codes.OK
	}
	if got != want {
		t.Errorf("%v by %s: %v, want %v", what, c.name, got, want)
	}
}

// request makes a request about a group.
func request(m protoreflect.MethodDescriptor, group string) proto.Message {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	if err != nil {
		panic(err)
	}
	if m.Name() == "Apply" {
		return &adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Header{Header: &adminv1.ApplyHeader{Group: group, ContentType: "application/yaml"}}}
	}
	msg := mt.New()
	if fd := m.Input().Fields().ByName("group"); fd != nil {
		msg.Set(fd, protoreflect.ValueOfString(group))
	}
	return msg.Interface()
}

func invoke(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, in proto.Message, token string) error {
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	ot, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		return err
	}
	out := ot.New().Interface()
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, adminauth.FullMethod(m), in, out)
	}
	desc := &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}
	stream, err := conn.NewStream(ctx, desc, adminauth.FullMethod(m))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(out); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func TestAuthorisationMatrixOverREST(t *testing.T) {
	t.Parallel()
	a := serve(t)
	ops, err := operation.List(a.catalog.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	n, reached := 1<<15, map[protoreflect.FullName]bool{}
	for i := range ops {
		op := &ops[i]
		reached[op.RPC.FullName()] = true
		for _, c := range callers(a) {
			n++
			before := a.written()
			got := a.rest(n, op, "a", c.token)
			code := map[int]codes.Code{401: codes.Unauthenticated, 403: codes.PermissionDenied}[got.status]
			check(t, op.ID, c, code, want(op.RPC, c))
			if code == codes.Unauthenticated && got.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s by %s: 401 without a challenge", op.ID, c.name)
			}
			if want(op.RPC, c) != codes.OK && a.written() != before {
				t.Errorf("%s by %s was refused but wrote", op.ID, c.name)
			}
		}
	}
	if left := a.checker.Uncovered(); len(left) > 0 {
		t.Errorf("operations of the OpenAPI document that REST does not have: %v", left)
	}
	for _, m := range methods() {
		if !reached[m.FullName()] {
			t.Errorf("%s has no REST operation", m.FullName())
		}
	}
}

// rest calls an operation on a group from client address n.
func (a *api) rest(n int, op *operation.Operation, group, token string) *answer {
	transport, _ := a.plain.Transport.(*http.Transport)
	own := transport.Clone()
	own.DialContext = dialer(n)
	defer own.CloseIdleConnections()
	from := *a
	from.http = &http.Client{Transport: a.checker.Transport(own)}
	path := op.Path.Expand(map[string]string{"group": group, "parent": "alice", "name": "n", "route": "r", "id": "x", "revision": "1"})
	body, contentType := "", "application/json"
	switch {
	case op.Form == operation.PatchResource:
		body, contentType = "{}", "application/merge-patch+json"
	case op.Form == operation.PutResource && op.Kind.Name == "routes":
		body = `{"service": "s"}`
	case op.Form == operation.PutResource && op.Kind.Name == "credentials":
		body = `{"type": "key-auth", "config": {"key": "k"}}`
	case op.Form == operation.PutResource && op.Kind.Name == "certificates":
		body = `{"current": "x"}`
	case op.Form == operation.PutResource && op.Kind.Name == "ca-certificates":
		body = `{"certificates": "x"}`
	case op.Form == operation.PutResource && op.Kind.Name == "acme-issuers":
		body = `{"directory": "https://ca.test/directory"}`
	case op.Form == operation.PutResource && op.Kind.Name == "redis-stores":
		body = `{"addresses": ["redis.test:6379"]}`
	case op.Form == operation.PutResource && op.Kind.Name == "credential-stores":
		body = `{"provider": "x"}`
	case op.Body, op.Form == operation.PutResource, op.Form == operation.Apply:
		body = "{}"
	}
	return from.call(op.Method, path, token, body, "Content-Type: "+contentType)
}

func TestARefusalDoesNotTellWhetherAGroupExists(t *testing.T) {
	t.Parallel()
	a := serve(t)
	ops, err := operation.List(a.catalog.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	token := a.token("b", optionsv1.Role_ROLE_ADMIN)
	for i := range ops {
		op := &ops[i]
		if op.RPC.Input().Fields().ByName("group") == nil && op.Form != operation.Apply {
			continue
		}
		there, absent := a.rest(1, op, "a", token), a.rest(1, op, "absent", token)
		if there.status != 403 || absent.status != 403 || !bytes.Equal(there.body, absent.body) {
			t.Errorf("%s: %d %s\nabsent: %d %s", op.ID, there.status, there.body, absent.status, absent.body)
		}
	}
}

func TestSystemAuditNeedsARoleEverywhere(t *testing.T) {
	t.Parallel()
	a := serve(t)
	for _, tc := range []struct {
		token string
		want  int
	}{
		{a.token("system", optionsv1.Role_ROLE_ADMIN), 403},
		{a.token("a", optionsv1.Role_ROLE_ADMIN), 403},
		{a.token("*", optionsv1.Role_ROLE_OPERATOR), 403},
		{a.admin(), 200},
	} {
		if got := a.call("GET", "/v1/groups/system/audit-events", tc.token, ""); got.status != tc.want {
			t.Errorf("status %d, want %d", got.status, tc.want)
		}
	}
}

func TestForgedPeerDoesNotMatter(t *testing.T) {
	t.Parallel()
	a := serve(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), adminauth.PeerKey, "198.51.100.1:1", "authorization", "Bearer nonsense")
	var err error
	for range 30 {
		_, err = adminv1.NewSystemServiceClient(a.conn).WhoAmI(ctx, &adminv1.WhoAmIRequest{})
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("after 30 failures: %v, want ResourceExhausted", err)
	}
	if got := a.call("GET", "/v1/whoami", "nonsense", ""); got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("over REST from the same address: %d, want 429: both count together", got.status)
	}
}
