package secretsource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"keyward.dev/controlplane/internal/awssecrets"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/controlplane/internal/vaultclient"
)

// discreet says what went wrong in words of our own.
func discreet(err error) error {
	for _, plain := range []error{errNothing, errNoText, errNoObject, errNotIssued, errNoNames, errNoKey} {
		if errors.Is(err, plain) {
			return plain
		}
	}
	if errors.Is(err, errDown) {
		return fmt.Errorf("%w: %s", errDown, cause(err))
	}
	return errors.New(cause(err))
}

func cause(err error) string {
	for _, known := range []error{
		vaultclient.ErrSealed, vaultclient.ErrForbidden, vaultclient.ErrRejected, vaultclient.ErrFailed, vaultclient.ErrNotFound,
		awssecrets.ErrRefused, egress.ErrRedirect, egress.ErrTooLarge,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if errors.Is(err, egress.ErrDenied) {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			return op.Err.Error() // with the address, which is ours to tell
		}
		return egress.ErrDenied.Error()
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "its name is not found"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not believed"
	}
	timeout, ok := errors.AsType[net.Error](err)
	if errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return "it takes too long"
	}
	return "nobody answers there, or not as was to be expected"
}
