// Package syncclient is the gateway's side towards the control plane: it gets and renews the gateway's identity, receives
// the configuration, hands each verified set to Apply and reports what came of it. It keeps on trying for as long as it
// runs; whatever happens to it, the gateway serves the last applied set. It compiles nothing and decides nothing about
// requests. The app package runs it.
package syncclient

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/run"
)

// Fault is a resource that this gateway cannot run.
type Fault struct{ Kind, UID, Name, Reason string }

// Config is what a Client needs.
type Config struct {
	// Addresses of control-plane replicas, host:port.
	Addresses   []string
	TrustDomain string
	// JoinToken lets an unknown gateway enrol. It also names the control plane's root.
	JoinToken string
	// ServiceAccountTokenFile does so with the token a Kubernetes cluster projects into the pod; read at each use.
	ServiceAccountTokenFile string
	// RootPin is the hash of the root's public key; not needed with a join token.
	RootPin *mtls.SPKI
	// Group is the group to join; may be empty with evidence that names one.
	Group string
	// IdentityDir keeps the identity over restarts; empty keeps it in memory only.
	IdentityDir string
	Labels      map[string]string
	Version     string
	PolicyTypes []string
	// Contract is the newest contract of which every field and value is known.
	Contract uint32
	// Apply puts a set into force and returns what of it does not work. It is called with one set at a time; sets that
	// come meanwhile are left out but for the newest.
	Apply func(ctx context.Context, set *state.Set) []Fault
	// Again asks for the newest set to be put into force again: what it names outside of itself has changed. nil: never.
	Again <-chan struct{}
	// Cache keeps sets over restarts; may be nil.
	Cache Cache
	// Fallback is what a start uses if there is nothing in the cache either; may be nil. Group must be set with it.
	Fallback Fallback
	// Responses counts answered requests by class since the start; may be nil.
	Responses func() map[string]uint64
	// Uses answers some of the uses of credentials that are to be reported; may be nil. It is called by one goroutine at a time.
	Uses   func() []lastuse.Use
	Limits state.Limits
	// Share is what this client folds together with others of its process; nil: it is alone.
	Share *state.Share
	// Dial connects; nil means TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Log  *slog.Logger
}

// Status is how the client does.
type Status struct {
	// Connected: there is a stream.
	Connected bool
	Address   string
	Gateway   string
	Group     string
	// Epoch, Revision and Digest are those of the set in force; revision 0 of epoch 0 before the first.
	Epoch    uint64
	Revision int64
	Digest   [digest.Size]byte
	// LastApplied is when it was put into force.
	LastApplied time.Time
	// Lost is when the last stream ended, and the start before the first one; of no meaning while Connected.
	Lost time.Time
	// LastHeard is when the control plane last said something.
	LastHeard time.Time
	Faults    []Fault
	// CertificateExpires is zero before enrolment.
	CertificateExpires time.Time
	// Distrusted: sets do not add up to their digest, repeatedly; the last good one stays in force.
	Distrusted bool
	// Rewound counts sets that were refused because they were older than the one in force.
	Rewound int
	// Epochs counts how often the control plane began its history anew, which may go back: it was restored.
	Epochs int
	// Misfits counts changes that did not fit or did not add up, Resyncs how often the whole set was asked for because of
	// that, Resets how often it came, whatever for.
	Misfits, Resyncs, Resets int
	// Connects counts sessions in which the control plane was heard, Refused those that ended before that although there
	// was a connection (a handshake that failed, mostly), Unreachable attempts that had none.
	Connects, Refused, Unreachable int
}

// Client keeps one gateway in touch with the control plane.
type Client struct {
	cfg   Config
	files files
	start time.Time

	identity  atomic.Pointer[identity]
	replacing sync.Mutex // held while identity is replaced
	// unkept says that the identity is another one than the one that was kept.
	unkept atomic.Bool

	starting *starting

	folding sync.Mutex    // held while a message is folded and its set offered, and by whoever starts without a control plane
	folder  *state.Folder // guarded by folding

	// Of the connecting goroutine.
	misfits  misfits
	reported map[string]uint64
	// unsure are the uses that were reported last.
	unsure []lastuse.Use
	// enrolling is the key of an enrolment that has not succeeded yet.
	enrolling crypto.Signer
	// dialled says that there was a connection since the last attempt began.
	dialled atomic.Bool

	// fresh holds one signal that there is a set to apply; newest is that set.
	fresh  chan struct{}
	newest atomic.Pointer[state.Set]

	mu      sync.Mutex // guards what follows
	status  Status
	applied *state.Set
	acked   chan struct{} // closed and replaced when a set was applied
}

// New returns a client. Nothing moves before Run.
func New(cfg Config) (*Client, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("no address of a control plane")
	}
	if cfg.JoinToken != "" {
		pin, err := pinOf(cfg.JoinToken)
		if err != nil {
			return nil, err
		}
		cfg.RootPin = &pin
	}
	if cfg.Dial == nil {
		d := &net.Dialer{Timeout: 5 * time.Second}
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	c := &Client{
		cfg: cfg, files: files{dir: cfg.IdentityDir}, start: time.Now(), folder: state.NewFolder(state.Empty(), cfg.Limits),
		reported: map[string]uint64{}, fresh: make(chan struct{}, 1), acked: make(chan struct{}), starting: newStarting(),
	}
	if cfg.Share != nil {
		c.folder.ShareWith(cfg.Share)
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	c.starting.with = c.identity.Load()
	if c.identity.Load() == nil && !c.mayJoin() {
		return nil, errors.New("there is no identity, and neither a join token nor a service-account token to get one")
	}
	if c.identity.Load() == nil && cfg.RootPin == nil {
		return nil, errors.New("the hash of the root's public key is needed to join with a service-account token")
	}
	return c, nil
}

// Run stays in touch until the context ends.
func (c *Client) Run(ctx context.Context) error {
	return run.Group(ctx, c.applyLoop, c.connectLoop, c.startAlone)
}

// Status returns how the client does.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	if s.Lost.IsZero() {
		s.Lost = c.start
	}
	if id := c.identity.Load(); id != nil {
		s.Gateway, s.Group, s.CertificateExpires = id.id.Gateway, id.id.Group, id.leaf().NotAfter
	}
	return s
}

func (c *Client) update(f func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

// connectLoop holds one connection after the other, with pauses that grow until something good is heard.
func (c *Client) connectLoop(ctx context.Context) error {
	at, pauses := rand.IntN(len(c.cfg.Addresses)), pauses{}
	for ctx.Err() == nil {
		address := c.cfg.Addresses[at%len(c.cfg.Addresses)]
		good, err := c.connect(ctx, address)
		at++
		if good {
			pauses.reset()
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errDrained) {
			c.cfg.Log.InfoContext(ctx, "reconnecting as asked", "address", address)
			continue
		}
		c.starting.missed(err, len(c.cfg.Addresses))
		wait := pauses.after(err)
		c.cfg.Log.WarnContext(ctx, "no connection to the control plane; the last configuration stays in force", "address", address, "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil //nolint:nilerr // the end was asked for
}

// connect gets an identity if need be and holds a stream. It says whether the control plane was heard.
func (c *Client) connect(ctx context.Context, address string) (good bool, err error) {
	c.dialled.Store(false)
	if err := c.identify(ctx, address); err != nil {
		c.missed()
		return false, err
	}
	s := &session{client: c, address: address}
	began := time.Now()
	err = s.run(ctx)
	c.folding.Lock()
	c.folder.Abandon()
	c.folding.Unlock()
	c.update(func(st *Status) {
		if st.Connected {
			st.Connected, st.Lost = false, time.Now()
		}
	})
	if !s.heard && ctx.Err() == nil {
		c.missed()
	}
	return s.committed || (s.heard && time.Since(began) > maxPause), err
}

// missed counts an attempt in which the control plane was not heard.
func (c *Client) missed() {
	c.update(func(st *Status) {
		if c.dialled.Load() {
			st.Refused++
		} else {
			st.Unreachable++
		}
	})
}

// applyLoop puts sets into force, one at a time.
func (c *Client) applyLoop(ctx context.Context) error {
	news := news{log: c.cfg.Log}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.fresh:
		case <-c.cfg.Again:
		}
		set := c.newest.Load()
		if set == nil {
			continue
		}
		faults := c.cfg.Apply(ctx, set)
		c.mu.Lock()
		c.applied = set
		st := &c.status
		st.Epoch, st.Revision, st.Digest = set.Epoch, set.Revision, set.Digest
		st.LastApplied, st.Faults = time.Now(), faults
		close(c.acked)
		c.acked = make(chan struct{})
		c.mu.Unlock()
		c.keep()
		news.applied(ctx, set.Revision, len(faults))
	}
}

// offer makes the set the next to be applied.
func (c *Client) offer(set *state.Set) {
	c.newest.Store(set)
	select {
	case c.fresh <- struct{}{}:
	default:
	}
}
