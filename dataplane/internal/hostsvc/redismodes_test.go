package hostsvc_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/redistest"
)

// TestANodeOfAClusterThatIsGone takes its keys along, until it is back.
func TestANodeOfAClusterThatIsGone(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t)
	server := at(nodes...)
	server.Timeout = 500 * time.Millisecond
	g := gatewayAt(t, server)
	r := g.replays(true)
	wantTake(t, r, "first", hostsvc.ReplayFirst)
	nodes[0].Stop()
	n := 0
	testkit.Await(t, testkit.Deadline, func() error {
		n++
		if got, _ := used(r, fmt.Sprint("name ", n)); got == hostsvc.ReplayAgain {
			t.Fatal("what was never taken is told to have been")
		} else if got == hostsvc.ReplayFirst {
			return fmt.Errorf("name %d is on another node", n)
		}
		return nil
	})
	lost := fmt.Sprint("name ", n)
	nodes[0].Restart()
	awaitUp(t, g, true)
	wantTake(t, r, lost, hostsvc.ReplayFirst)
	wantTake(t, gatewayAt(t, server).replays(true), lost, hostsvc.ReplayAgain)
}

// secureSentinel asks a sentinel for a master without its password, or for another one.
func secureSentinel(t *testing.T, master string) hostsvc.RedisServer {
	sentinel, redis, _ := redistest.StartSentinel(t)
	server := bySentinel(at(redis), sentinel)
	if server.Master = master; master == redistest.Master {
		server.SentinelPassword = "guessed"
	}
	return server
}

// bySentinel is a store whose master sentinels know.
func bySentinel(s hostsvc.RedisServer, sentinels ...string) hostsvc.RedisServer {
	s.Addresses, s.Master, s.SentinelPassword = sentinels, redistest.Master, redistest.Password
	return s
}

// TestAReplicaTakesOver has the master crash. What was taken before is known to who comes after it.
func TestAReplicaTakesOver(t *testing.T) {
	t.Parallel()
	sentinel, master, replica := redistest.StartSentinel(t)
	server := bySentinel(at(master), sentinel)
	g := gatewayAt(t, server)
	wantTake(t, g.replays(true), "before", hostsvc.ReplayFirst)
	testkit.Await(t, testkit.Deadline, func() error {
		if !slices.ContainsFunc(replica.Keys(), func(k string) bool { return strings.HasPrefix(k, "keyward:once:{") }) {
			return fmt.Errorf("it has not heard of it: %v", replica.Keys())
		}
		return nil
	})
	master.Stop()
	n := 0
	testkit.Await(t, testkit.Deadline, func() error {
		n++
		switch got, _ := used(g.replays(true), fmt.Sprint("after ", n)); got {
		case hostsvc.ReplayFirst:
			return nil
		case hostsvc.ReplayAgain:
			t.Fatal("what was never taken is told to have been")
		}
		return fmt.Errorf("nobody has taken over: %d", n)
	})
	wantTake(t, gatewayAt(t, server).replays(true), "before", hostsvc.ReplayAgain)
	wantTake(t, gatewayAt(t, server).replays(true), fmt.Sprint("after ", n), hostsvc.ReplayAgain)
}

// TestLogsDoNotRepeatPasswords has something answer that knows no command and says what it was told.
func TestLogsDoNotRepeatPasswords(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					words := strings.Fields(string(b[:n]))
					fmt.Fprintf(c, "-ERR unknown command '%s', with args beginning with: '%s'\r\n", words[2], strings.Join(words[3:], "' '"))
				}
			}()
		}
	}()
	var said lockedBuffer
	services := hostsvc.New(hostsvc.Config{})
	server := hostsvc.RedisServer{
		Name: "x", Addresses: []string{l.Addr().String()}, Plain: true, Username: "u", Password: "hush-hush",
		DialTimeout: time.Second, Timeout: time.Second, MaxConnections: 1, IdleTimeout: time.Minute,
	}
	store, err := hostsvc.NewSharedStore(services.RedisPool(server, slog.New(slog.NewTextHandler(&said, nil))), [][]byte{pepper})
	if err != nil {
		t.Fatal(err)
	}
	wantTake(t, services.Replays.Bind("x").Through(store.Uses(true)), "a", hostsvc.ReplayOutage)
	testkit.Await(t, testkit.Deadline, func() error {
		if !strings.Contains(said.String(), "unknown command") {
			return fmt.Errorf("it has said %q", said.String())
		}
		return nil
	})
	if text := said.String(); strings.Contains(text, "hush") {
		t.Errorf("it says %s", text)
	}
}

// lockedBuffer is written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
