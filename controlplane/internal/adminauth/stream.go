package adminauth

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"
)

// guardedStream lets nothing through in either direction before the caller's right to the group of the first message is
// established, and no second group after that.
type guardedStream struct {
	grpc.ServerStream
	ctx      context.Context // the stream's own, with the identity
	perm     *optionsv1.Permission
	id       *Identity
	admitted bool // used by the receiving goroutine; the handler sends only after its first receive
}

func (s *guardedStream) Context() context.Context { return s.ctx }

// RecvMsg receives and checks.
func (s *guardedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if s.perm.GetScope() != optionsv1.Scope_SCOPE_GROUP {
		return nil
	}
	msg, ok := m.(proto.Message)
	if !ok {
		return refusal(problem.Internal, "request is no message")
	}
	group, named := groupOf(msg)
	switch {
	case s.admitted && named:
		return refusal(problem.Malformed, "the header may come only once, first")
	case s.admitted:
		return nil
	case !named:
		return refusal(problem.Malformed, "the first message must be the header")
	}
	if err := authorise(s.perm, s.id, group); err != nil {
		return err
	}
	s.admitted = true
	return nil
}

// SendMsg refuses to answer before the caller is admitted.
func (s *guardedStream) SendMsg(m any) error {
	if !s.admitted {
		return refusal(problem.Forbidden, "the token does not permit this")
	}
	return s.ServerStream.SendMsg(m)
}
