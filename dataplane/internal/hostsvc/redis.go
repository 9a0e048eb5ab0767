package hostsvc

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyward.dev/shared/check/address"
)

// RedisServer says where a store is, who answers there and as whom it is spoken to.
type RedisServer struct {
	// Name is what the configuration calls it.
	Name string
	// Addresses are host:port; of a cluster some nodes, which name the others. Cluster says that they are.
	Addresses []string
	Cluster   bool
	// Master is what sentinels call it, which are at the addresses then; empty: there are none. They have accounts of their own.
	Master, SentinelUsername, SentinelPassword string
	// Plain is without TLS, on loopback only unless Anywhere.
	Plain, Anywhere bool
	// ServerName is what its certificate has to be for; empty: the host of the address.
	ServerName string
	// Authorities vouch for its certificate; none: those of the system.
	Authorities []*x509.Certificate
	Egress      *EgressRules
	// Username and Password log in; an empty Username is the default user, an empty Password nobody.
	Username, Password string
	Database           int
	// DialTimeout bounds making a connection, for which requests do not wait longer than Timeout, as for everything.
	DialTimeout, Timeout time.Duration
	// MaxConnections bounds the connections, of a cluster those to each node.
	MaxConnections int
	// IdleTimeout is how long a connection is kept that nobody uses.
	IdleTimeout time.Duration
}

// key is equal for servers that are the same in everything.
func (s *RedisServer) key() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "redis %q %q %t %q %q %q %t %t %q %q %q %d %d %d %d %d", s.Name, s.Addresses, s.Cluster,
		s.Master, s.SentinelUsername, s.SentinelPassword, s.Plain, s.Anywhere, s.ServerName,
		s.Username, s.Password, s.Database, s.DialTimeout, s.Timeout, s.MaxConnections, s.IdleTimeout)
	for _, c := range s.Authorities {
		fmt.Fprintf(sum, " %x", sha256.Sum256(c.Raw))
	}
	if s.Egress != nil {
		fmt.Fprintf(sum, " within %v %v", s.Egress.allow, s.Egress.deny)
	}
	return string(sum.Sum(nil))
}

// RedisPool returns the connections to a store: the same as long as somebody uses them, whatever is pushed meanwhile. Another
// password or another authority is another pool, so that each connection is what the configuration says.
func (s *Services) RedisPool(server RedisServer, log *slog.Logger) *RedisPool {
	use := Keep(&s.Kept, "use of redis "+server.Name, func() *RedisUse { return &RedisUse{Name: server.Name} })
	return Keep(&s.Kept, server.key(), func() *RedisPool {
		p := newRedisPool(server, s.self, use, log)
		runtime.AddCleanup(p, func(c redis.UniversalClient) { _ = c.Close() }, p.client)
		return p
	})
}

var errPlain = errors.New("without TLS it may only be on loopback, and the address is not")

// dial connects to a node, with TLS begun. A node that a cluster names is not another matter than one that the configuration
// does.
func (s *RedisServer) dial(ctx context.Context, _, to string) (net.Conn, error) {
	plain, err := NewDialer(s.Egress, 0).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	if s.Plain {
		if at, ok := plain.RemoteAddr().(*net.TCPAddr); !s.Anywhere && (!ok || !at.IP.IsLoopback()) {
			plain.Close()
			return nil, errPlain
		}
		return plain, nil
	}
	conn := tls.Client(plain, verifying(to, s.ServerName, s.Authorities))
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, &tlsError{err}
	}
	return conn, nil
}

// client makes what speaks to the store. It does nothing twice by itself: what comes twice is what it is there to find.
func (s RedisServer) client() redis.UniversalClient {
	redis.SetLogger(silent{}) // it would write to the process's output; what matters is in the errors
	if s.Egress == nil {
		s.Egress = &EgressRules{unsafe: address.Unsafe()}
	}
	// With one and the same deadline for connecting and logging in; operations have one of their own.
	slow := s.DialTimeout + s.Timeout
	if s.Cluster {
		// The library appends to the addresses it is given.
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: slices.Clone(s.Addresses), Dialer: s.dial, Protocol: 2, Username: s.Username, Password: s.Password, DisableIdentity: true,
			MaxRedirects: 3, MaxRetries: -1, DialTimeout: s.DialTimeout, DialerRetries: 1, ReadTimeout: slow, WriteTimeout: slow, ContextTimeoutEnabled: true,
			PoolSize: s.MaxConnections, PoolTimeout: s.Timeout, PipelinePoolSize: -1, ConnMaxIdleTime: s.IdleTimeout, ConnMaxLifetime: redisLife,
			ConnMaxLifetimeJitter: redisLife / 5,
		})
	}
	dial, life := s.dial, redisLife
	if s.Master != "" {
		dial, life = s.dialMaster, masterLife
	}
	return redis.NewClient(&redis.Options{
		Addr: s.Addresses[0], Dialer: dial, Protocol: 2, Username: s.Username, Password: s.Password, DB: s.Database, DisableIdentity: true,
		MaxRetries: -1, DialTimeout: s.DialTimeout, DialerRetries: 1, ReadTimeout: slow, WriteTimeout: slow, ContextTimeoutEnabled: true,
		PoolSize: s.MaxConnections, PoolTimeout: s.Timeout, PipelinePoolSize: -1, ConnMaxIdleTime: s.IdleTimeout, ConnMaxLifetime: life,
		ConnMaxLifetimeJitter: life / 5,
	})
}

// told is an error for a log. A server that does not know a command repeats what it was told, which may be a password.
func (s *RedisServer) told(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", with args")
	for _, password := range []string{s.Password, s.SentinelPassword} {
		if password != "" {
			text = strings.ReplaceAll(text, password, "…")
		}
	}
	return text
}

// redisLife is how long a connection is used at most, so that what changes behind a name is noticed.
const redisLife = 10 * time.Minute

// masterLife is that of connections to what sentinels say is the master: so long one may be written to that is none any more and
// has not heard of it.
const masterLife = 30 * time.Second

// silent writes nothing.
type silent struct{}

// Printf implements the logger of the library.
func (silent) Printf(context.Context, string, ...any) {}
