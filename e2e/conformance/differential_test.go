package conformance_test

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
)

// upstreams puts the same bytes through a gateway to servers of different make. Whatever comes, what the gateway forwards
// is the same requests to all of them, and nothing that it refuses reaches any.
func upstreams(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	w := harness.NewWitness(t)
	peers := present(&harness.Peer{Name: "witness", Addr: w.Addr, Take: w.Take}, harness.GoPeer(t), harness.NginxPeer(t), harness.HAProxyPeer(t))
	names := []string{"w", "g", "n", "p"}
	for i, p := range peers {
		s.serve(names[i], p.Addr, "", "")
		s.forbid(names[i], "/canary")
	}
	return func(t *testing.T) {
		benches := make([]*bench, len(peers))
		for i, p := range peers {
			benches[i] = &bench{addr: s.HTTP, host: names[i] + ".test", take: p.Take}
		}
		for _, tr := range slices.Concat(sentOnly(), smuggling()) {
			differ(t, peers, benches, tr)
			if harness.Full() && len(tr.send) < 1000 {
				tr.pieces = true
				differ(t, peers, benches, tr)
			}
		}
	}
}

// present are the peers that this machine has.
func present(peers ...*harness.Peer) []*harness.Peer {
	return slices.DeleteFunc(peers, func(p *harness.Peer) bool { return p == nil })
}

// sentOnly are the trials of the tables that need no answer of the upstream's but the usual one.
func sentOnly() []trial {
	var out []trial
	for _, requirements := range tables() {
		for _, r := range requirements {
			for _, tr := range slices.Concat(r.accept, r.reject) {
				// A client that ends its side may be taken for gone, at any moment.
				if tr.send != "" && tr.reply == "" && tr.then == "" && !tr.half && tr.asked == "" {
					out = append(out, tr)
				}
			}
		}
	}
	return out
}

// differ runs a trial with every upstream and compares.
func differ(t *testing.T, peers []*harness.Peer, benches []*bench, tr trial) {
	t.Helper()
	outcomes, failures := make([]*outcome, len(benches)), make([]error, len(benches))
	var running sync.WaitGroup
	for i, b := range benches {
		running.Go(func() { outcomes[i], failures[i] = b.observe(tr) })
	}
	running.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatalf("%s: %v", tr.name, err)
	}
	for i, o := range outcomes {
		err := errors.Join(noCanary(o), o.after)
		if err == nil && !alike(o.essence(), outcomes[0].essence(), tr.pieces) && !slices.Contains(tr.unlike, peers[i].Name) {
			err = fmt.Errorf("%s has seen something else than %s", peers[i].Name, peers[0].Name)
		}
		if err != nil {
			t.Errorf("%s: %v\n    sent     %.600q\n    %s: %v\n    %s: %v", tr.name, err, tr.send, peers[0].Name, outcomes[0], peers[i].Name, o)
		}
	}
}

// patience is how long a client waits for an answer before it ends its side: what was sent may be no whole message.
const patience = time.Second

// observe runs a trial that is followed by another request on the same connection, and reads all there is to read.
func (b *bench) observe(tr trial) (*outcome, error) {
	conn, o, err := b.send(tr, strings.Replace(nextRequest(b.host), "/next", "/last", 1))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	impatient := time.AfterFunc(patience, o.done)
	defer impatient.Stop()
	o.read(bufio.NewReader(conn), conn, math.MaxInt, strings.HasPrefix(tr.send, "HEAD "))
	o.after = b.follow()
	o.seen = b.seen()
	return o, nil
}

// alike compares two essences. What comes in pieces may be refused while it comes, or when it is there: then the connection
// ends with the refusal or goes on, and one outcome is the beginning of the other.
func alike(a, b essence, pieces bool) bool {
	same := func(a, b []string) bool {
		if pieces {
			n := min(len(a), len(b))
			a, b = a[:n], b[:n]
		}
		return slices.Equal(a, b)
	}
	return same(a.requests, b.requests) && same(a.answers, b.answers)
}

// essence is what has to be the same with every upstream.
type essence struct{ requests, answers []string }

func (o *outcome) essence() essence {
	var out essence
	for _, s := range o.seen {
		if s.Err == nil { // what broke off is no request to anybody
			out.requests = append(out.requests, strings.ReplaceAll(strings.ToLower(s.Get("Host"))+" "+s.String(), o.host[:3], host[:3]))
		}
	}
	for _, a := range o.answers {
		// A refusal of the gateway's own may be lost: the connection ends with it while bytes are still coming.
		if own := a.Get("Server") == "keyward" || a.Get("Content-Type") == "text/plain; charset=utf-8" && a.Closes(); a.Status() < 400 || !own {
			out.answers = append(out.answers, strconv.Itoa(a.Status()))
		}
	}
	return out
}

// noCanary is that the upstream got no canary, nor anything that it reads as one, nor what is no request.
func noCanary(o *outcome) error {
	for _, s := range o.seen {
		path, _, _ := strings.Cut(s.Target(), "?")
		if s.Has("Path") {
			path = s.Get("Path") // as the upstream reads it
		}
		if path == "/canary" || strings.HasPrefix(path, "/canary/") || s.Has("X-Canary") {
			return fmt.Errorf("the canary got through: %v", s)
		}
	}
	return o.malformed()
}

// malformed is that whatever reached the upstream was a request, or the beginning of one that was cut off.
func (o *outcome) malformed() error {
	for _, s := range o.seen {
		if s.Err != nil && !s.Cut() {
			return fmt.Errorf("the upstream got what is no request: %w", s.Err)
		}
	}
	return nil
}
