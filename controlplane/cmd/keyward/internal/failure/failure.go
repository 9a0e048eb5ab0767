// Package failure turns errors into what a person reads and a script tests: a text that says what to do next, every
// violation with its path, and an exit code. Only main calls Report; commands return errors.
package failure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
)

// Exit codes.
const (
	OK       = 0
	Failed   = 1
	Usage    = 2
	NotFound = 3
	Conflict = 4
)

// Error is an error with an exit code and, if there is one, a hint what to do next.
type Error struct {
	Code int
	Err  error
	Hint string
}

// Error says what went wrong, without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Usagef is for a command line that cannot be understood.
func Usagef(format string, args ...any) error {
	return &Error{Code: Usage, Err: fmt.Errorf(format, args...)}
}

// Hint adds what to do next to an error.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Code: Code(err), Err: err, Hint: fmt.Sprintf(format, args...)}
}

// DefaultHint adds what to do next unless the error says so itself or has said everything.
func DefaultHint(err error, format string, args ...any) error {
	var exit Exit
	var own *Error
	if errors.As(err, &exit) || errors.As(err, &own) && own.Hint != "" {
		return err
	}
	return Hint(err, format, args...)
}

// Exit is a bare exit code: everything has been said already.
type Exit int

// Error is not shown.
func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Code answers the exit code of an error.
func Code(err error) int {
	var exit Exit
	var own *Error
	switch {
	case err == nil:
		return OK
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &own):
		return own.Code
	}
	remote := fromServer(err)
	if remote == nil {
		return Failed
	}
	switch status.Code(remote) {
	case codes.NotFound:
		return NotFound
	case codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition:
		return Conflict
	default:
		return Failed
	}
}

// Report writes an error for a person and answers the exit code.
func Report(w io.Writer, err error) int {
	code := Code(err)
	var exit Exit
	if code == OK || errors.As(err, &exit) {
		return code
	}
	fmt.Fprintf(w, "keyward: %s\n", strings.TrimSpace(text(err)))
	for _, line := range violations(err) {
		fmt.Fprintf(w, "  %s\n", line)
	}
	if hint := hint(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}

// text is the error as it was wrapped, with the server's own words instead of gRPC's ("rpc error: code = … desc = …").
func text(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	remote := fromServer(err)
	if remote == nil {
		return err.Error()
	}
	return strings.Replace(err.Error(), remote.Error(), status.Convert(remote).Message(), 1)
}

// fromServer finds the gRPC error inside err.
func fromServer(err error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, ok := e.(interface{ GRPCStatus() *status.Status }); ok {
			return e
		}
	}
	return nil
}

// violations lists what the server found wrong with a document, one line each. A single one is the error's text already.
func violations(err error) []string {
	remote := fromServer(err)
	if remote == nil {
		return nil
	}
	p := grpcstatus.ToProblem(remote)
	var lines []string
	for _, v := range p.Violations {
		if line := v.String(); line != p.Detail {
			lines = append(lines, line)
		}
	}
	return lines
}

func hint(err error) string {
	var own *Error
	if errors.As(err, &own) && own.Hint != "" {
		return own.Hint
	}
	remote := fromServer(err)
	if remote == nil {
		return ""
	}
	return serverHint(status.Convert(remote))
}

func serverHint(st *status.Status) string {
	switch st.Code() {
	case codes.Unauthenticated:
		return "set KEYWARD_TOKEN, or give --token-file, with a token that is still valid"
	case codes.PermissionDenied:
		return "keyward whoami shows what the token may do"
	case codes.Unavailable:
		return unavailableHint(st.Message())
	case codes.Aborted:
		return "somebody else changed it meanwhile: look at it again (keyward get), then repeat"
	default:
		return ""
	}
}

func unavailableHint(message string) string {
	switch {
	case strings.Contains(message, "unknown authority"):
		return "set KEYWARD_CACERT, or give --cacert, with the file of the authority that signed the control plane's certificate"
	case strings.Contains(message, "certificate is valid for"), strings.Contains(message, "doesn't contain any IP SANs"):
		return "use a name in KEYWARD_ADDR that the control plane's certificate carries"
	case strings.Contains(message, "connection error"), strings.Contains(message, "dial tcp"):
		return "is the control plane running, and is KEYWARD_ADDR (or --addr) its address?"
	default:
		return "try again in a moment"
	}
}
