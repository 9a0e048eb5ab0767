package ports

import (
	"net"
	"runtime"
)

// Claims keeps other instances from drawing the ports that this one has drawn and that its processes do not listen on
// yet. A claim is a socket in Linux's abstract namespace: it is seen by everybody who shares our ports, leaves no file,
// and ends with our process however that ends. Elsewhere nothing is claimed, and two instances that start in the same
// second can draw the same port; the later one then says so and ends.
//
// The zero value holds nothing; a nil one claims nothing.
type Claims struct {
	held []net.Listener
}

// add claims an address; false if another has claimed it.
func (c *Claims) add(addr string) bool {
	if c == nil || runtime.GOOS != "linux" {
		return true
	}
	l, err := net.Listen("unix", "@keyward/dev/"+addr)
	if err != nil {
		return false
	}
	c.held = append(c.held, l)
	return true
}

// Release gives all claims back.
func (c *Claims) Release() {
	for _, l := range c.held {
		_ = l.Close()
	}
	c.held = nil
}
