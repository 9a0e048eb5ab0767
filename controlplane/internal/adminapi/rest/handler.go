// Package rest is the REST side of the admin API: it finds the operation for a method and path, turns the HTTP request
// into the RPC's request, calls the RPC over an in-memory connection to the same gRPC server that gRPC clients talk to,
// and renders the answer. So it decides nothing: who may call, what is valid and what is stored is said behind the RPC.
// Bodies are read by the catalog's decoder only, and every error is an RFC 9457 problem.
package rest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminapi/operation"
	"keyward.dev/controlplane/internal/adminauth"
)

const (
	// maxBody bounds requests about one resource; admission bounds the resource itself to 1 MiB.
	maxBody = 2 << 20
	// maxDocument bounds an applied document.
	maxDocument = 64 << 20
	// chunk is how much of a document goes into one message.
	chunk = 64 << 10

	// callTimeout bounds an RPC; waitTimeout one that waits for gateways or moves a whole document.
	callTimeout  = 30 * time.Second
	waitTimeout  = 11 * time.Minute
	defaultStall = 30 * time.Second

	// RevisionHeader tells the revision an answer was made at, or that a write made.
	RevisionHeader = "Keyward-Revision"
	// WarningHeader carries what is not wrong but worth knowing about a written resource.
	WarningHeader = "Keyward-Warning"
)

// Config is what a Handler needs.
type Config struct {
	// Conn leads to the gRPC server.
	Conn       grpc.ClientConnInterface
	Operations []operation.Operation
	Catalog    *catalog.Catalog
	// OpenAPI is the document served at /openapi.json.
	OpenAPI []byte
	Log     *slog.Logger
	// Stall bounds the time a client may take to send or receive the next piece; 0: 30 seconds.
	Stall time.Duration
}

// Handler serves REST.
type Handler struct {
	cfg Config
}

// New returns a handler. It fails if an operation's request cannot be read from a document.
func New(cfg Config) (*Handler, error) {
	requests := []protoreflect.MessageDescriptor{(&adminv1.DeleteRequest{}).ProtoReflect().Descriptor(), (&adminv1.ApplyHeader{}).ProtoReflect().Descriptor()}
	for _, op := range cfg.Operations {
		switch op.Form {
		case operation.PutResource, operation.PatchResource, operation.Apply: // their bodies are no messages
		default:
			requests = append(requests, op.RPC.Input())
		}
	}
	cat, err := cfg.Catalog.With(requests...)
	if err != nil {
		return nil, err
	}
	cfg.Catalog = cat
	if cfg.Stall == 0 {
		cfg.Stall = defaultStall
	}
	return &Handler{cfg: cfg}, nil
}

// call is one request on its way.
type call struct {
	*Handler
	w    http.ResponseWriter
	r    *http.Request
	rc   *http.ResponseController
	op   *operation.Operation
	vars map[string]string // request fields the path fills
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	c := &call{Handler: h, w: w, r: r, rc: http.NewResponseController(w)}
	c.extend() // also replaces what an earlier request on the connection left
	if r.URL.Path == "/openapi.json" {
		c.serveOpenAPI()
		return
	}
	allowed := c.match()
	switch {
	case c.op != nil:
		c.run() //nolint:contextcheck // the request carries it
	case len(allowed) > 0:
		c.refuseMethod(allowed)
	default:
		c.fail(problem.Errorf(problem.NotFound, "there is nothing at this path"))
	}
}

// match finds the operation. If only the method does not fit, it returns the methods that would.
func (c *call) match() (allowed []string) {
	segments, verb, ok := operation.Split(c.r.URL.Path)
	if !ok {
		return nil
	}
	best := -1
	for i := range c.cfg.Operations {
		op := &c.cfg.Operations[i]
		vars, specific, ok := op.Path.Match(segments, verb)
		if !ok || specific < best {
			continue
		}
		if specific > best {
			best, allowed, c.op = specific, nil, nil
		}
		allowed = append(allowed, op.Method)
		if op.Method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
		if op.Method == c.r.Method || op.Method == http.MethodGet && c.r.Method == http.MethodHead {
			c.op, c.vars = op, vars
		}
	}
	return allowed
}

func (c *call) run() {
	ctx, cancel := context.WithTimeout(c.outgoing(), c.timeout())
	defer cancel()
	err := c.authenticate(ctx)
	if err != nil {
		c.fail(err)
		return
	}
	switch c.op.Form {
	case operation.GetResource:
		err = c.getResource(ctx)
	case operation.ListResources:
		err = c.listResources(ctx)
	case operation.PutResource:
		err = c.putResource(ctx)
	case operation.PatchResource:
		err = c.patchResource(ctx)
	case operation.DeleteResource:
		err = c.deleteResource(ctx)
	case operation.Apply:
		err = c.apply(ctx)
	case operation.Export:
		err = c.export(ctx)
	default:
		err = c.message(ctx)
	}
	if err != nil {
		c.fail(err)
	}
}

// authenticate asks who calls before a body is read: nobody who is not known makes the server decode anything. What the
// caller may do is decided where the RPC is.
func (c *call) authenticate(ctx context.Context) error {
	switch c.op.Form {
	case operation.PutResource, operation.PatchResource, operation.Apply:
	default:
		if !c.op.Body {
			return nil
		}
	}
	var header metadata.MD
	_, err := adminv1.NewSystemServiceClient(c.cfg.Conn).WhoAmI(ctx, &adminv1.WhoAmIRequest{}, grpc.Header(&header))
	c.header(header)
	return err
}

// timeout is long for what may wait or move much; the RPC has its own, narrower bounds.
func (c *call) timeout() time.Duration {
	if c.op == nil {
		return callTimeout
	}
	waits := c.op.Form == operation.Apply || c.op.Form == operation.Export || strings.HasPrefix(string(c.op.RPC.Name()), "Wait")
	if waits {
		return waitTimeout
	}
	return callTimeout
}

// outgoing hands on who calls. Nothing else of the request's header reaches the RPC.
func (c *call) outgoing() context.Context {
	md := metadata.Pairs(adminauth.PeerKey, c.r.RemoteAddr)
	md["authorization"] = slices.Clone(c.r.Header.Values("Authorization"))
	return metadata.NewOutgoingContext(c.r.Context(), md)
}

// extend gives the client another while to send and receive.
func (c *call) extend() {
	c.deadlines(time.Now().Add(c.cfg.Stall), time.Now().Add(c.timeout()+c.cfg.Stall))
}

// received ends the limit on sending once the whole request is here. If it stayed, it would cancel the request of an
// HTTP/1.1 client that waits longer for its answer.
func (c *call) received() {
	c.deadlines(time.Time{}, time.Now().Add(c.timeout()+c.cfg.Stall))
}

// deadlines sets both limits. Servers that cannot (tests) have none.
func (c *call) deadlines(read, write time.Time) {
	if err := errors.Join(c.rc.SetReadDeadline(read), c.rc.SetWriteDeadline(write)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		c.cfg.Log.Debug("deadline not set", "err", err)
	}
}

// invoke calls the operation's RPC.
func (c *call) invoke(ctx context.Context, in, out proto.Message) error {
	return c.invokeMethod(ctx, adminauth.FullMethod(c.op.RPC), in, out)
}

// invokeMethod calls an RPC and takes over what its answer's header says.
func (c *call) invokeMethod(ctx context.Context, method string, in, out proto.Message) error {
	c.received()
	var header metadata.MD
	err := c.cfg.Conn.Invoke(ctx, method, in, out, grpc.Header(&header))
	c.header(header)
	return err
}

func (c *call) header(md metadata.MD) {
	for _, name := range []string{RevisionHeader, "WWW-Authenticate"} {
		if values := md.Get(name); len(values) > 0 {
			c.w.Header().Set(name, values[0])
		}
	}
}

func (c *call) serveOpenAPI() {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.refuseMethod([]string{http.MethodGet, http.MethodHead})
		return
	}
	c.answer(http.StatusOK, c.cfg.OpenAPI)
}
