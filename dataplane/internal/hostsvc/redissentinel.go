package hostsvc

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"
)

// dialMaster connects to what sentinels say is the master. All are asked at once: one that hangs keeps nobody. The library would
// ask them, too, but trusts them to answer as they should.
func (s *RedisServer) dialMaster(ctx context.Context, network, _ string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		at  string
		err error
	}
	answers := make(chan answer, len(s.Addresses))
	for _, sentinel := range s.Addresses {
		go func() {
			at, err := s.askSentinel(ctx, sentinel)
			answers <- answer{at, err}
		}()
	}
	var errs []error
	for range s.Addresses {
		a := <-answers
		if a.err == nil {
			var conn net.Conn
			if conn, a.err = s.dial(ctx, network, a.at); a.err == nil {
				return conn, nil
			}
		}
		errs = append(errs, a.err)
	}
	return nil, errors.Join(errs...)
}

// askSentinel answers the address of the master, by one sentinel.
func (s *RedisServer) askSentinel(ctx context.Context, at string) (string, error) {
	c := redis.NewClient(&redis.Options{
		Addr: at, Dialer: s.dial, Protocol: 2, Username: s.SentinelUsername, Password: s.SentinelPassword, DisableIdentity: true,
		MaxRetries: -1, DialTimeout: s.DialTimeout, DialerRetries: 1, ReadTimeout: s.DialTimeout, WriteTimeout: s.DialTimeout, ContextTimeoutEnabled: true,
		PoolSize: 1, PipelinePoolSize: -1,
	})
	defer func() { _ = c.Close() }()
	said, err := c.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Master).StringSlice()
	switch {
	case errors.Is(err, redis.Nil):
		return "", fmt.Errorf("sentinel %s knows no master of that name", at)
	case err != nil:
		return "", fmt.Errorf("ask sentinel %s: %w", at, err)
	case len(said) != 2:
		return "", fmt.Errorf("sentinel %s answers something else than an address", at)
	}
	return net.JoinHostPort(said[0], said[1]), nil
}
