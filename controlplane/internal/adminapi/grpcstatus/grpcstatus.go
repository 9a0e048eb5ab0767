// Package grpcstatus turns problems into gRPC status errors and back, without losing anything: the code travels as
// google.rpc.ErrorInfo, every violation as google.rpc.BadRequest, their places beside it, a pause as google.rpc.RetryInfo.
// The admin API server writes them; its REST side and the command line read them. It knows no other kind of error.
package grpcstatus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/problem"
)

const (
	// Domain is the domain of ErrorInfo details.
	Domain = "keyward.dev"
	// maxViolations bounds the trailers an answer needs; 1,000 × ~200 bytes. What is left out is counted.
	maxViolations = 1000
	// retryAfter is what callers are told to wait when nobody knows better.
	retryAfter = 2 * time.Second
)

// Of returns the status error for err: as it is if it has a status already, else from the problem inside it. The text of
// an error without a problem stays here.
func Of(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err
	}
	if _, ok := errors.AsType[*problem.Error](err); !ok {
		switch {
		case errors.Is(err, context.Canceled):
			return status.Error(codes.Canceled, "the call was cancelled")
		case errors.Is(err, context.DeadlineExceeded):
			return FromProblem(problem.New(problem.Unavailable, "not finished in time"))
		}
	}
	return FromProblem(problem.Of(err))
}

// FromProblem returns the status error for a problem.
func FromProblem(p *problem.Problem) error {
	var wait time.Duration
	if p.Code == problem.Unavailable {
		wait = retryAfter
	}
	return FromProblemAfter(p, wait)
}

// FromProblemAfter does that and tells the caller how long to wait before another try.
func FromProblemAfter(p *problem.Problem, wait time.Duration) error {
	st := status.New(grpcCode(p.Code), p.Detail)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: string(p.Code), Domain: Domain}}
	if len(p.Violations) > 0 {
		bad, places := violations(p.Violations)
		details = append(details, bad, protoadapt.MessageV1Of(places))
	}
	if wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	if with, err := st.WithDetails(details...); err == nil {
		st = with
	}
	return st.Err()
}

func violations(vs []problem.Violation) (*errdetails.BadRequest, *adminv1.Places) {
	var more int
	if len(vs) > maxViolations {
		more = len(vs) - maxViolations
		vs = vs[:maxViolations]
	}
	bad, places := &errdetails.BadRequest{}, &adminv1.Places{}
	for _, v := range vs {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Path, Description: v.Reason})
		places.Places = append(places.Places, &adminv1.Place{Resource: v.Resource, Line: int32(v.Line), Column: int32(v.Column)})
	}
	if more > 0 {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Description: fmt.Sprintf("and %d more", more)})
		places.Places = append(places.Places, &adminv1.Place{})
	}
	return bad, places
}

// ToProblem reads a status error, as a client gets it; nil for nil.
func ToProblem(err error) *problem.Problem {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	p := problem.New(problemCode(st), st.Message())
	var places []*adminv1.Place
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				p.Violations = append(p.Violations, problem.Violation{Path: v.GetField(), Reason: v.GetDescription()})
			}
		case *adminv1.Places:
			places = d.GetPlaces()
		}
	}
	for i, place := range places {
		if i < len(p.Violations) {
			v := &p.Violations[i]
			v.Resource, v.Line, v.Column = place.GetResource(), int(place.GetLine()), int(place.GetColumn())
		}
	}
	return p
}

// RetryAfter returns how long the status error asks to wait, 0 if it does not.
func RetryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// grpcCode maps a problem code to the gRPC code generic clients understand.
func grpcCode(c problem.Code) codes.Code {
	switch c {
	case problem.Malformed, problem.Invalid, problem.UnsupportedMediaType:
		return codes.InvalidArgument
	case problem.Unauthenticated:
		return codes.Unauthenticated
	case problem.Forbidden:
		return codes.PermissionDenied
	case problem.NotFound:
		return codes.NotFound
	case problem.Conflict:
		return codes.FailedPrecondition
	case problem.PreconditionFailed:
		return codes.Aborted
	case problem.TooLarge, problem.RateLimited:
		return codes.ResourceExhausted
	case problem.Unavailable:
		return codes.Unavailable
	default:
		return codes.Internal
	}
}

// problemCode prefers what the server said; a status that gRPC made by itself is mapped by its code.
func problemCode(st *status.Status) problem.Code {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return problem.Code(info.GetReason())
		}
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		return problem.Malformed
	case codes.Unauthenticated:
		return problem.Unauthenticated
	case codes.PermissionDenied:
		return problem.Forbidden
	case codes.NotFound:
		return problem.NotFound
	case codes.AlreadyExists, codes.FailedPrecondition:
		return problem.Conflict
	case codes.Aborted:
		return problem.PreconditionFailed
	case codes.ResourceExhausted:
		return problem.TooLarge // the only limit gRPC itself sets is the size of a message
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return problem.Unavailable
	default:
		return problem.Internal
	}
}
