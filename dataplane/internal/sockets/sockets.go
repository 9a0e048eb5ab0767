// Package sockets listens: on addresses, or on sockets that a service manager holds and hands to the gateway, as systemd
// does (sd_listen_fds(3)). Such a socket goes on queueing connections while one process ends and another takes over, and
// two may have it at once: gateways are replaced on one machine without a connection refused. It serves nothing.
package sockets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// scheme stands before the name of a socket where the address to listen on would be.
const scheme = "fd:"

// IsInherited says whether the address names a socket that is handed over.
func IsInherited(address string) bool { return strings.HasPrefix(address, scheme) }

// Sockets are those that were handed over and not yet taken.
type Sockets struct {
	byName map[string][]net.Listener
}

// Inherit takes what the service manager has handed over, which may be nothing. It removes the variables that say so from
// the environment, and is called once.
func Inherit() (*Sockets, error) {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take over sockets: %w", err)
	}
	return &Sockets{byName: byName}, nil
}

// Listen listens on host:port, or takes the socket of fd:name, which is the FileDescriptorName= of a systemd socket unit.
func (s *Sockets) Listen(ctx context.Context, address string) (net.Listener, error) {
	name, inherited := strings.CutPrefix(address, scheme)
	if !inherited {
		var lc net.ListenConfig
		return lc.Listen(ctx, "tcp", address)
	}
	switch found := s.byName[name]; len(found) {
	case 0:
		return nil, fmt.Errorf("no socket %q was handed over; there are %s", name, s.names())
	case 1:
		if _, ok := found[0].(*net.TCPListener); !ok {
			return nil, fmt.Errorf("socket %q is no TCP socket", name)
		}
		delete(s.byName, name)
		return found[0], nil
	default:
		return nil, fmt.Errorf("%d sockets named %q were handed over", len(found), name)
	}
}

// Unused is an error if there are sockets that nobody took: connections to them would wait without an end.
func (s *Sockets) Unused() error {
	if len(s.byName) == 0 {
		return nil
	}
	return fmt.Errorf("sockets %s were handed over and no listener takes them", s.names())
}

func (s *Sockets) names() string {
	if len(s.byName) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(s.byName)), ", ")
}

// Close closes what nobody took.
func (s *Sockets) Close() error {
	var errs []error
	for _, ls := range s.byName {
		for _, l := range ls {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// TellReady tells the service manager, if it wants to know (sd_notify(3)), that the gateway is ready.
func TellReady() error { return tell(daemon.SdNotifyReady) }

// TellStopping tells it that the gateway is about to end.
func TellStopping() error { return tell(daemon.SdNotifyStopping) }

func tell(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	return nil
}
