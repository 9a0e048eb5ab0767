// Package ports chooses the addresses on which `keyward dev` and its processes listen: fixed ones that people can
// remember, or free ones; on a second run with the same state directory the same ones where they are still free.
package ports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// Plan is every address that is listened on.
type Plan struct {
	Admin         string   `json:"admin"`
	Sync          string   `json:"sync"`
	ControlStatus string   `json:"control_status"`
	Upstream      string   `json:"upstream"`
	Database      string   `json:"database"`
	HTTP          []string `json:"http"`
	HTTPS         []string `json:"https"`
	Status        []string `json:"status"`
}

// Wish is what the command line says.
type Wish struct {
	// Admin, HTTP, HTTPS and Upstream are host:port; of HTTP and HTTPS the following gateways take the following ports.
	Admin, HTTP, HTTPS, Upstream string
	Gateways                     int
	// Auto takes free ports for everything that is not given.
	Auto bool
}

// The addresses taken when nothing is said.
const (
	DefaultAdmin    = "127.0.0.1:7443"
	DefaultHTTP     = "127.0.0.1:8080"
	DefaultHTTPS    = "127.0.0.1:8443"
	DefaultUpstream = "127.0.0.1:9000"

	defaultSync          = "127.0.0.1:7444"
	defaultControlStatus = "127.0.0.1:7445"
	defaultStatus        = "127.0.0.1:8100"
)

// Choose makes a plan and checks that everything in it is free. remembered is the file of an earlier plan, "" for none;
// the new plan is kept there. What it draws from the free ports is added to claims.
func Choose(w Wish, remembered string, claims *Claims) (Plan, error) {
	old, err := load(remembered)
	if err != nil {
		return Plan{}, err
	}
	c := &chooser{auto: w.Auto, taken: map[string]net.Listener{}, claims: claims}
	defer c.release()
	p := Plan{
		Admin:         c.one(w.Admin, old.Admin, DefaultAdmin),
		Sync:          c.prefer(old.Sync, defaultSync),
		ControlStatus: c.prefer(old.ControlStatus, defaultControlStatus),
		Upstream:      c.one(w.Upstream, old.Upstream, DefaultUpstream),
		Database:      c.any(old.Database),
		HTTP:          c.row(w.Gateways, w.HTTP, old.HTTP, DefaultHTTP),
		HTTPS:         c.row(w.Gateways, w.HTTPS, old.HTTPS, DefaultHTTPS),
	}
	for i := range w.Gateways {
		p.Status = append(p.Status, c.prefer(at(old.Status, i), c.next(defaultStatus, i)))
	}
	if len(c.faults) > 0 {
		return Plan{}, errors.Join(c.faults...)
	}
	return p, save(remembered, p)
}

// chooser holds a listener on every chosen address until all are chosen, so that no two are the same.
type chooser struct {
	auto   bool
	taken  map[string]net.Listener
	claims *Claims
	faults []error
}

// one chooses an address: the given one; in auto mode the old one if it is free, else any free one; else the default.
func (c *chooser) one(given, old, fallback string) string {
	switch {
	case given != "":
		return c.hold(given)
	case !c.auto:
		return c.hold(fallback)
	}
	return c.any(old)
}

// any takes the old address if it is free, else any free one.
func (c *chooser) any(old string) string {
	if old != "" && c.draw(old) {
		return old
	}
	return c.free()
}

func (c *chooser) row(n int, given string, old []string, fallback string) []string {
	row := make([]string, n)
	for i := range row {
		first := given
		if first != "" {
			first = c.next(given, i)
		}
		row[i] = c.one(first, at(old, i), c.next(fallback, i))
	}
	return row
}

// at answers an element, "" if there is none.
func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// prefer is for addresses that nobody needs to remember: the old one, else, unless in auto mode, the default, else any.
func (c *chooser) prefer(old, fallback string) string {
	if !c.auto && (old == "" || c.taken[old] != nil) && c.try(fallback) == nil {
		return fallback
	}
	return c.any(old)
}

// next answers the address i ports after addr.
func (c *chooser) next(addr string, i int) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr // hold reports it
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(host, strconv.FormatUint(n+uint64(i), 10))
}

func (c *chooser) hold(addr string) string {
	if err := c.try(addr); err != nil {
		c.faults = append(c.faults, fmt.Errorf("cannot listen on %s: %w", addr, err))
	}
	return addr
}

func (c *chooser) try(addr string) error {
	if _, ok := c.taken[addr]; ok {
		return errors.New("it is wanted twice")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			return op.Err
		}
		return err
	}
	c.taken[addr] = l
	return nil
}

// Free ports are drawn from below the range that systems use for outgoing connections, so that none of those takes one
// between our choosing it and the process's listening.
const (
	lowest = 20000
	span   = 12000
)

func (c *chooser) free() string {
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(span)))
		if c.draw(addr) {
			return addr
		}
	}
	c.faults = append(c.faults, errors.New("no free port found on 127.0.0.1"))
	return ""
}

// draw takes an address that is free and that no other instance has drawn.
func (c *chooser) draw(addr string) bool {
	if c.try(addr) != nil {
		return false
	}
	if c.claims.add(addr) {
		return true
	}
	_ = c.taken[addr].Close()
	delete(c.taken, addr)
	return false
}

func (c *chooser) release() {
	for _, l := range c.taken {
		_ = l.Close()
	}
}

func load(path string) (Plan, error) {
	var p Plan
	if path == "" {
		return p, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read ports: %w", err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

func save(path string, p Plan) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("keep ports: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep ports: %w", err)
	}
	return nil
}
