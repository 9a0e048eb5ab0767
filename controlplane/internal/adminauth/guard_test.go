package adminauth

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// fixedSource knows some tokens; err is what it says about others.
type fixedSource struct {
	tokens map[string]Token
	err    error
}

func (s *fixedSource) Token(_ context.Context, id string) (Token, bool, error) {
	if t, ok := s.tokens[id]; ok {
		return t, true, nil
	}
	return Token{}, false, s.err
}

func (s *fixedSource) Known(id string) (Token, bool) {
	t, ok := s.tokens[id]
	return t, ok
}

type fixture struct {
	guard  *Guard
	source *fixedSource
	text   string
}

func newFixture(t *testing.T, grants ...Grant) *fixture {
	t.Helper()
	token, text, err := Issue("tester", grants)
	if err != nil {
		t.Fatal(err)
	}
	perms, err := PermissionsOf(adminv1.File_keyward_admin_v1_admin_proto, adminv1.File_keyward_admin_v1_authority_proto, adminv1.File_keyward_admin_v1_keyring_proto, adminv1.File_keyward_admin_v1_resource_proto)
	if err != nil {
		t.Fatal(err)
	}
	source := &fixedSource{tokens: map[string]Token{token.ID: token}}
	return &fixture{guard: NewGuard(source, perms, slog.New(slog.DiscardHandler)), source: source, text: text}
}

func (f *fixture) call(authorization, method string, req proto.Message) error {
	ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}})
	if authorization != "" {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", authorization))
	}
	_, err := f.guard.Unary(ctx, req, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) { return nil, nil })
	return err
}

func TestUnary(t *testing.T) {
	t.Parallel()
	get, audit := adminv1.ResourceService_Get_FullMethodName, adminv1.AuditService_ListAuditEvents_FullMethodName
	f := newFixture(t, Grant{"a", optionsv1.Role_ROLE_ADMIN}, Grant{"b", optionsv1.Role_ROLE_VIEWER})
	good := "Bearer " + f.text
	for _, tc := range []struct {
		name, auth, method string
		req                proto.Message
		want               codes.Code
	}{
		{"own group", good, get, &adminv1.GetRequest{Group: "a"}, codes.OK},
		{"scheme in lower case", "bearer " + f.text, get, &adminv1.GetRequest{Group: "a"}, codes.OK},
		{"other group", good, get, &adminv1.GetRequest{Group: "c"}, codes.PermissionDenied},
		{"no group", good, get, &adminv1.GetRequest{}, codes.PermissionDenied},
		{"role too low", good, adminv1.ResourceService_Put_FullMethodName, &adminv1.PutRequest{Group: "b"}, codes.PermissionDenied},
		{"system scope needs all groups", good, adminv1.TokenService_ListTokens_FullMethodName, &adminv1.ListTokensRequest{}, codes.PermissionDenied},
		{"system audit needs all groups", good, audit, &adminv1.ListAuditEventsRequest{Group: System}, codes.PermissionDenied},
		{"own audit", good, audit, &adminv1.ListAuditEventsRequest{Group: "a"}, codes.OK},
		{"no token", "", get, &adminv1.GetRequest{Group: "a"}, codes.Unauthenticated},
		{"no token where none is needed", "", adminv1.SystemService_GetVersion_FullMethodName, &adminv1.GetVersionRequest{}, codes.OK},
		{"bad token where none is needed", "Bearer x", adminv1.SystemService_GetVersion_FullMethodName, &adminv1.GetVersionRequest{}, codes.Unauthenticated},
		{"no token where any would do", "", adminv1.SystemService_WhoAmI_FullMethodName, &adminv1.WhoAmIRequest{}, codes.Unauthenticated},
		{"other scheme", "Basic " + f.text, get, &adminv1.GetRequest{Group: "a"}, codes.Unauthenticated},
		{"wrong secret", good[:len(good)-4] + "zzzz", get, &adminv1.GetRequest{Group: "a"}, codes.Unauthenticated},
		{"unlisted method", good, "/keyward.admin.v1.Hidden/Do", &adminv1.GetRequest{Group: "a"}, codes.PermissionDenied},
	} {
		if got := status.Code(f.call(tc.auth, tc.method, tc.req)); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestOutageIsNeverUnauthenticated(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, other, err := Issue("other", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.source.err = ErrUnavailable
	err = f.call("Bearer "+other, adminv1.SystemService_WhoAmI_FullMethodName, &adminv1.WhoAmIRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("unknown token during an outage: %v, want Unavailable", err)
	}
}

func TestExpiredTokenIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for id, token := range f.source.tokens {
		token.Expires = time.Now().Add(-time.Second)
		f.source.tokens[id] = token
	}
	err := f.call("Bearer "+f.text, adminv1.SystemService_WhoAmI_FullMethodName, &adminv1.WhoAmIRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("expired token: %v, want Unauthenticated", err)
	}
}

func TestFailuresAreThrottledButGoodTokensPass(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	whoami := func(auth string) codes.Code {
		return status.Code(f.call(auth, adminv1.SystemService_WhoAmI_FullMethodName, &adminv1.WhoAmIRequest{}))
	}
	for i := range failuresAllowed {
		if got := whoami("Bearer nonsense"); got != codes.Unauthenticated {
			t.Fatalf("attempt %d: %v", i, got)
		}
	}
	if got := whoami("Bearer nonsense"); got != codes.ResourceExhausted {
		t.Errorf("attempt over the limit: %v, want ResourceExhausted", got)
	}
	if got := whoami("Bearer " + f.text); got != codes.OK {
		t.Errorf("good token from the same address: %v, want OK", got)
	}
	later := time.Now().Add(failureRegain + time.Second)
	f.guard.now = func() time.Time { return later }
	if got := whoami("Bearer nonsense"); got != codes.Unauthenticated {
		t.Errorf("after the pause: %v, want Unauthenticated", got)
	}
}

func TestThrottleIsBounded(t *testing.T) {
	t.Parallel()
	th, now := newThrottle(8), time.Now()
	for i := range 1000 {
		th.failed(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now)
	}
	if len(th.spent) > 8 {
		t.Errorf("%d peers kept, want at most 8", len(th.spent))
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff")
	if network(a) != network(b) {
		t.Error("addresses of one /64 are counted apart")
	}
}

// script is a stream that delivers messages.
type script struct {
	grpc.ServerStream
	ctx  context.Context
	msgs []proto.Message
	sent int
}

func (s *script) Context() context.Context { return s.ctx }

func (s *script) RecvMsg(m any) error {
	proto.Merge(m.(proto.Message), s.msgs[0])
	s.msgs = s.msgs[1:]
	return nil
}

func (s *script) SendMsg(any) error { s.sent++; return nil }

func applyHeader(group string) proto.Message {
	return &adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Header{Header: &adminv1.ApplyHeader{Group: group}}}
}

func TestApplyIsCheckedOnItsHeader(t *testing.T) {
	t.Parallel()
	chunk := &adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Chunk{Chunk: []byte("group: a")}}
	for _, tc := range []struct {
		name string
		msgs []proto.Message
		want codes.Code
		seen int // messages the handler may see
	}{
		{"own group", []proto.Message{applyHeader("a"), chunk}, codes.OK, 2},
		{"other group", []proto.Message{applyHeader("b"), chunk}, codes.PermissionDenied, 0},
		{"no group", []proto.Message{applyHeader(""), chunk}, codes.PermissionDenied, 0},
		{"no header", []proto.Message{chunk, applyHeader("a")}, codes.InvalidArgument, 0},
		{"second header", []proto.Message{applyHeader("a"), applyHeader("b")}, codes.InvalidArgument, 1},
	} {
		f := newFixture(t, Grant{"a", optionsv1.Role_ROLE_OPERATOR})
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+f.text))
		ss, seen := &script{ctx: ctx, msgs: tc.msgs}, 0
		err := f.guard.Stream(nil, ss, &grpc.StreamServerInfo{FullMethod: adminv1.ResourceService_Apply_FullMethodName},
			func(_ any, s grpc.ServerStream) error {
				for range 2 {
					if err := s.RecvMsg(&adminv1.ApplyRequest{}); err != nil {
						return err
					}
					seen++
				}
				return s.SendMsg(&adminv1.ApplyResponse{})
			})
		if status.Code(err) != tc.want || seen != tc.seen {
			t.Errorf("%s: %v after %d messages, want %v after %d", tc.name, err, seen, tc.want, tc.seen)
		}
	}
}

func TestPeerKeyIsBelievedOnlyFromInside(t *testing.T) {
	t.Parallel()
	md := metadata.Pairs(PeerKey, "198.51.100.7:9")
	outside := metadata.NewIncomingContext(peer.NewContext(t.Context(),
		&peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}}), md)
	if got := PeerAddr(outside).String(); got != "192.0.2.1" {
		t.Errorf("PeerAddr(outside) = %s, want the connection's address", got)
	}
	inside := metadata.NewIncomingContext(peer.NewContext(t.Context(), &peer.Peer{Addr: localAddr{}}), md)
	if got := PeerAddr(inside).String(); got != "198.51.100.7" {
		t.Errorf("PeerAddr(inside) = %s, want the REST client's address", got)
	}
}

type localAddr struct{}

func (localAddr) Network() string { return LocalNetwork }
func (localAddr) String() string  { return LocalNetwork }
