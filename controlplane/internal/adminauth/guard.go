package adminauth

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
)

const (
	// LocalNetwork is the network name of connections from inside the process. Only on these is PeerKey believed.
	LocalNetwork = "bufconn"
	// PeerKey carries the address of the REST client.
	PeerKey = "keyward-peer"
)

// TokenSource finds tokens.
type TokenSource interface {
	// Token may ask the store; it returns an error only if it cannot know.
	Token(ctx context.Context, id string) (Token, bool, error)
	// Known answers from memory.
	Known(id string) (Token, bool)
}

// Guard holds every RPC to its permission.
type Guard struct {
	// Set once.
	source      TokenSource
	permissions Permissions
	throttle    *throttle
	now         func() time.Time
	log         *slog.Logger
}

// NewGuard returns a guard for the methods in permissions; all others are refused.
func NewGuard(source TokenSource, permissions Permissions, log *slog.Logger) *Guard {
	return &Guard{source: source, permissions: permissions, throttle: newThrottle(maxPeers), now: time.Now, log: log}
}

// Unary guards RPCs with one request and one answer.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	perm, id, err := g.enter(ctx, info.FullMethod)
	if err != nil {
		return nil, g.refuse(ctx, err)
	}
	msg, ok := req.(proto.Message)
	if !ok {
		return nil, refusal(problem.Internal, "request is no message")
	}
	group, _ := groupOf(msg)
	if err := authorise(perm, id, group); err != nil {
		return nil, err
	}
	return next(NewContext(ctx, id), req)
}

// Stream guards streaming RPCs. What is about a group is decided on the first message, before the handler sees it.
func (g *Guard) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	perm, id, err := g.enter(ss.Context(), info.FullMethod)
	if err != nil {
		return g.refuse(ss.Context(), err)
	}
	guarded := &guardedStream{ServerStream: ss, ctx: NewContext(ss.Context(), id), perm: perm, id: id}
	if perm.GetScope() != optionsv1.Scope_SCOPE_GROUP {
		if err := authorise(perm, id, ""); err != nil {
			return err
		}
		guarded.admitted = true
	}
	return next(srv, guarded)
}

// enter finds what the method asks for and who calls. A method that needs nobody to be known still refuses a bad token, so
// that a typing error is noticed.
func (g *Guard) enter(ctx context.Context, method string) (*optionsv1.Permission, *Identity, error) {
	perm, ok := g.permissions[method]
	if !ok {
		return nil, nil, refusal(problem.Forbidden, "this method declares no permission")
	}
	id, err := g.authenticate(ctx)
	if err != nil {
		return nil, nil, err
	}
	if id == nil && perm.GetRole() != optionsv1.Role_ROLE_ANYONE {
		return nil, nil, unauthenticated("a bearer token is needed")
	}
	return perm, id, nil
}

// authenticate returns nil and no error if no token was presented.
func (g *Guard) authenticate(ctx context.Context) (*Identity, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return nil, nil
	}
	if len(values) > 1 {
		return nil, unauthenticated("more than one authorization was presented")
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	id, secret, wellFormed := Parse(strings.TrimSpace(text))
	if !strings.EqualFold(scheme, "Bearer") {
		id, secret, wellFormed = "", "", false
	}
	from := PeerAddr(ctx)
	if wait, over := g.throttle.exhausted(from, g.now()); over {
		return g.knownOnly(id, secret, wait)
	}
	if !wellFormed {
		g.throttle.failed(from, g.now())
		return nil, unauthenticated("the authorization is no bearer token of this installation")
	}
	token, found, err := g.source.Token(ctx, id)
	if err != nil {
		return nil, refusal(problem.Unavailable, "tokens cannot be checked now")
	}
	if !found || !g.good(&token, secret) {
		g.throttle.failed(from, g.now())
		return nil, unauthenticated("the token is not valid")
	}
	return identity(&token), nil
}

// knownOnly serves peers that failed too often: a good token passes as ever (others may share the address), everything
// else is told to wait.
func (g *Guard) knownOnly(id, secret string, wait time.Duration) (*Identity, error) {
	if token, found := g.source.Known(id); found && g.good(&token, secret) {
		return identity(&token), nil
	}
	return nil, grpcstatus.FromProblemAfter(problem.New(problem.RateLimited, "too many failed attempts"), wait)
}

func (g *Guard) good(t *Token, secret string) bool {
	matches := t.Matches(secret)
	return matches && (t.Expires.IsZero() || g.now().Before(t.Expires))
}

func identity(t *Token) *Identity {
	return &Identity{Name: t.Name, TokenID: t.ID, Grants: t.Grants}
}

// refuse adds the challenge RFC 9110 asks for to an answer that says who calls is not known.
func (g *Guard) refuse(ctx context.Context, err error) error {
	if status.Code(err) == codes.Unauthenticated {
		if setErr := grpc.SetHeader(ctx, metadata.Pairs("www-authenticate", `Bearer realm="keyward"`)); setErr != nil {
			g.log.DebugContext(ctx, "challenge not sent", "err", setErr)
		}
	}
	return err
}

// authorise decides. The answer for a group the caller has no role in is the same whether or not the group exists,
// because it is given before anybody looks.
func authorise(perm *optionsv1.Permission, id *Identity, group string) error {
	need := perm.GetRole()
	if need <= optionsv1.Role_ROLE_IDENTIFIED {
		return nil // enter has seen to it that identified callers are
	}
	var have Role
	if perm.GetScope() == optionsv1.Scope_SCOPE_GROUP {
		have = id.RoleIn(group)
	} else {
		have = id.RoleEverywhere()
	}
	if have < need {
		return refusal(problem.Forbidden, "the token does not permit this")
	}
	return nil
}

// PeerAddr returns the address of the client, also of one that came by REST; the zero Addr if there is none.
func PeerAddr(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return netip.Addr{}
	}
	text := p.Addr.String()
	if p.Addr.Network() == LocalNetwork {
		values := metadata.ValueFromIncomingContext(ctx, PeerKey)
		if len(values) != 1 {
			return netip.Addr{}
		}
		text = values[0]
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr()
}

func unauthenticated(message string) error {
	return refusal(problem.Unauthenticated, message)
}

func refusal(code problem.Code, detail string) error {
	return grpcstatus.FromProblem(problem.New(code, detail))
}
