package hostsvc

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
)

const (
	// A store that failed is left alone for so long, and twice as long each time that it fails again.
	redisPauseMin = 250 * time.Millisecond
	redisPauseMax = 4 * time.Second
)

// errRedisDown says that a store is left alone for now.
var errRedisDown = errors.New("the store did not answer lately")

// RedisPool is the connections to one store. While the store does not answer nobody waits for it: what looks whether it is back
// is no request.
type RedisPool struct {
	server RedisServer
	client redis.UniversalClient
	use    *RedisUse
	log    *slog.Logger
	// self is what this process writes as the value of what it takes.
	self string
	down atomic.Bool
	// tried is the name that failed last, to see whether that works again: another one may be on another node.
	tried  atomic.Pointer[string]
	failed atomic.Int64 // when it failed last, in nanoseconds of Unix time
}

// RedisUse is what becomes of the use of a store, by the name that the configuration has for it. It stays what it is when the
// store's addresses or password change.
type RedisUse struct {
	Name string
	// First and Again count what was taken, and what had been before. Failed counts what the store did not answer in time or
	// otherwise than it should; Skipped what it was not asked, because it did not answer lately.
	First, Again, Failed, Skipped atomic.Uint64

	down atomic.Int64 // since when, in nanoseconds of Unix time; 0: it is not
}

// DownSince is since when the store does not answer; zero: it does, as far as is known.
func (u *RedisUse) DownSince() time.Time {
	if at := u.down.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

func newRedisPool(s RedisServer, self string, use *RedisUse, log *slog.Logger) *RedisPool {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &RedisPool{server: s, use: use, log: log, self: self}
	p.client = s.client() // which must not keep p: it is closed when nobody uses p any more
	use.down.Store(0)
	tag := rand.Text()
	p.tried.Store(&tag)
	// So that the first request finds a connection.
	time.AfterFunc(0, probing(weak.Make(p), redisPauseMin))
	return p
}

// take reports whether each of the names is taken by this process now, and by no other before. What this process has taken is
// found again by its value: a request that was answered before the store had, or that the library has sent to a second node.
func (p *RedisPool) take(names []string, ttl time.Duration) (first bool, err error) {
	if p.down.Load() {
		p.use.Skipped.Add(1)
		return false, errRedisDown
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.server.Timeout) // a request has no context; its time is what counts
	defer cancel()
	if first, err = p.set(ctx, names, max(ttl.Milliseconds(), 1)); err != nil {
		p.use.Failed.Add(1)
		p.fail(names[0], err)
		return false, err
	}
	if first {
		p.use.First.Add(1)
	} else {
		p.use.Again.Add(1)
	}
	return first, nil
}

func (p *RedisPool) set(ctx context.Context, names []string, ttl int64) (first bool, err error) {
	first = true
	for _, name := range names { // of which there are two only while the pepper changes
		err := p.client.Do(ctx, "SET", redisPrefix+"{"+name+"}", p.self, "NX", "PX", ttl).Err()
		if errors.Is(err, redis.Nil) {
			var by string
			if by, err = p.client.Get(ctx, redisPrefix+"{"+name+"}").Result(); errors.Is(err, redis.Nil) {
				by, err = "", nil // it has ended meanwhile
			}
			first = first && by == p.self
		}
		if err != nil {
			return false, err
		}
	}
	return first, nil
}

// redisPrefix is how the names of all keys begin.
const redisPrefix = "keyward:once:"

// fail notes that the store does not answer.
func (p *RedisPool) fail(name string, cause error) {
	if !p.down.CompareAndSwap(false, true) {
		return
	}
	now := time.Now()
	p.tried.Store(&name)
	p.use.down.Store(now.UnixNano())
	p.log.Warn("store does not answer", "store", p.server.Name, "err", p.server.told(cause))
	pause := redisPauseMin
	if now.Sub(time.Unix(0, p.failed.Swap(now.UnixNano()))) > redisPauseMax {
		pause = 0 // it may have been a moment of this machine's
	}
	time.AfterFunc(pause, probing(weak.Make(p), redisPauseMin))
}

// probing looks whether a store answers, and comes again until it does or nobody uses it any more.
func probing(of weak.Pointer[RedisPool], pause time.Duration) func() {
	return func() {
		p := of.Value()
		if p == nil {
			return
		}
		err := p.probe()
		switch {
		case err == nil:
			if p.down.CompareAndSwap(true, false) {
				p.use.down.Store(0)
				p.log.Info("store answers again", "store", p.server.Name)
			}
			return
		case p.down.CompareAndSwap(false, true): // nobody has used it yet
			p.use.down.Store(time.Now().UnixNano())
			p.log.Warn("store does not answer", "store", p.server.Name, "err", p.server.told(err))
		}
		time.AfterFunc(pause, probing(of, min(2*pause, redisPauseMax)))
	}
}

// probe writes beside what failed: a store that takes connections and is full, or a replica, does not work either. It has the time
// to make a connection, and then no more than a request has.
func (p *RedisPool) probe() error {
	name := redisPrefix + "probe:{" + *p.tried.Load() + "}"
	ctx, cancel := context.WithTimeout(context.Background(), p.server.DialTimeout+p.server.Timeout)
	defer cancel()
	if err := p.client.Get(ctx, name).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	ctx, cancel = context.WithTimeout(context.Background(), p.server.Timeout)
	defer cancel()
	return p.client.Do(ctx, "SET", name, p.self, "PX", 1000).Err()
}
