package hostsvc_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/ldaptest"
)

// verify asks about alice and returns how long it took.
func verify(p *hostsvc.LDAPPool, within time.Duration) (ok bool, took time.Duration, err error) {
	begun := time.Now()
	ok, err = p.Verify(alice, "wonderland", begun.Add(within), nil)
	return ok, time.Since(begun), err
}

func reason(err error) string {
	if o, ok := errors.AsType[*hostsvc.LDAPOutage](err); ok {
		return o.Reason
	}
	return fmt.Sprint(err)
}

func TestADirectoryThatCrashedIsFoundAgain(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	p := open(t, directory(s))
	if ok, _, err := verify(p, 10*time.Second); !ok || err != nil {
		t.Fatal(ok, err)
	}
	// Its connections are dead, and nobody has noticed: the one request that does is answered all the same.
	s.Stop()
	s.Restart()
	if ok, _, err := verify(p, 10*time.Second); !ok || err != nil {
		t.Errorf("on a connection that had died: %v, %v", ok, err)
	}
	s.Stop()
	if ok, _, err := verify(p, 10*time.Second); ok || reason(err) != "ldap_unreachable" {
		t.Errorf("down: %v, %v", ok, err)
	}
	if ok, took, err := verify(p, 10*time.Second); ok || reason(err) != "ldap_down" || took > 100*time.Millisecond {
		t.Errorf("known to be down: %v, %v after %s", ok, err, took)
	}
	s.Restart()
	testkit.Await(t, testkit.Deadline, func() error {
		if ok, _, err := verify(p, 10*time.Second); !ok {
			return fmt.Errorf("not again: %w", err)
		}
		return nil
	})
}

// TestADirectoryThatHangsKeepsNobodyLongerThanTheLimit asks by many at once. Those who come later are told without waiting.
func TestADirectoryThatHangsKeepsNobodyLongerThanTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 700 * time.Millisecond
	s := ldaptest.Start(t)
	p := open(t, directory(s))
	if ok, _, err := verify(p, 10*time.Second); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.Pause()
	var wg sync.WaitGroup
	var longest atomic.Int64
	for range 40 {
		wg.Go(func() {
			ok, took, err := verify(p, limit)
			if ok || err == nil {
				t.Errorf("it hangs: %v, %v", ok, err)
			}
			for old := longest.Load(); int64(took) > old && !longest.CompareAndSwap(old, int64(took)); old = longest.Load() {
			}
		})
	}
	wg.Wait()
	if took := time.Duration(longest.Load()); took > limit+2*time.Second {
		t.Errorf("somebody waited %s", took)
	}
	quick := 0
	for range 20 {
		if _, took, err := verify(p, limit); reason(err) == "ldap_down" && took < limit/2 {
			quick++
		}
	}
	if quick < 15 { // one at a time sees whether it is back
		t.Errorf("%d of 20 were told at once", quick)
	}
	s.Resume()
	testkit.Await(t, testkit.Deadline, func() error {
		if ok, _, err := verify(p, limit); !ok {
			return fmt.Errorf("not again: %w", err)
		}
		return nil
	})
}

func TestAPoolIsTheSameAcrossPushesAndClosesWhatIsIdle(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	services, log := hostsvc.New(hostsvc.Config{}), testkit.Logger(t)
	short := func(c *hostsvc.LDAPServer) { c.IdleTimeout = 50 * time.Millisecond }
	p := services.LDAPPool(directory(s, short), log)
	if services.LDAPPool(directory(s, short), log) != p {
		t.Error("the same server has another pool")
	}
	for name, change := range map[string]func(*hostsvc.LDAPServer){
		"address":   func(c *hostsvc.LDAPServer) { c.Addresses = []string{"127.0.0.1:1"} },
		"account":   func(c *hostsvc.LDAPServer) { c.BindDN = "" },
		"password":  func(c *hostsvc.LDAPServer) { c.BindPassword = "another" },
		"authority": func(c *hostsvc.LDAPServer) { c.Authorities = nil },
		"name":      func(c *hostsvc.LDAPServer) { c.ServerName = "localhost" },
		"security":  func(c *hostsvc.LDAPServer) { c.Security = hostsvc.LDAPStartTLS },
		"networks":  func(c *hostsvc.LDAPServer) { c.Egress = egress(t, "10.0.0.0/8") },
	} {
		if services.LDAPPool(directory(s, short, change), log) == p {
			t.Errorf("another %s has the same pool", name)
		}
	}
	if ok, _, err := verify(p, 10*time.Second); !ok || err != nil || p.Idle() != 1 {
		t.Fatalf("%v, %v, %d idle", ok, err, p.Idle())
	}
	testkit.Await(t, testkit.Deadline, func() error {
		if n := p.Idle(); n > 0 {
			return fmt.Errorf("%d connections are idle", n)
		}
		return nil
	})
	runtime.KeepAlive(p)
}

func TestWhatNobodyUsesIsForgotten(t *testing.T) {
	t.Parallel()
	services := hostsvc.New(hostsvc.Config{})
	for i := range 10 {
		services.LDAPPool(hostsvc.LDAPServer{Addresses: []string{fmt.Sprint("127.0.0.1:", i+1)}}, nil)
	}
	used := services.LDAPPool(hostsvc.LDAPServer{Addresses: []string{"127.0.0.1:99"}}, nil)
	testkit.Await(t, testkit.Deadline, func() error {
		runtime.GC()
		if n := services.Kept.Len(); n != 1 {
			return fmt.Errorf("%d are held, want that one that is used", n)
		}
		return nil
	})
	if services.LDAPPool(hostsvc.LDAPServer{Addresses: []string{"127.0.0.1:99"}}, nil) != used {
		t.Error("what is used is not found again")
	}
}

// TestConnectionsAreBounded counts those that a proxy sees.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	var now, most atomic.Int64
	address := proxy(t, s.Address, &now, &most)
	p := open(t, hostsvc.LDAPServer{
		Addresses: []string{address}, Security: hostsvc.LDAPPlain, ConnectTimeout: 5 * time.Second, MaxConnections: 3, IdleTimeout: time.Minute,
	})
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			if ok, _, err := verify(p, 20*time.Second); !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > 3 || p.Idle() > 3 || p.Idle() == 0 {
		t.Errorf("%d connections at once, %d idle, want at most 3", n, p.Idle())
	}
}

// proxy passes connections on and counts them.
func proxy(t *testing.T, to string, open, most *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			go func() {
				defer open.Add(-1)
				defer in.Close()
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); out.Close() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}
