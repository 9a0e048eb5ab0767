package redistest

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"keyward.dev/shared/testkit"
)

// slots is how many parts the keys of a cluster are divided into.
const slots = 16384

// StartCluster starts three Redis that divide the keys among each other, without replicas. They need ports of their own to talk
// to each other, and name each other by address.
func StartCluster(t testing.TB) []*Server {
	t.Helper()
	nodes := make([]*Server, 3)
	for i := range nodes {
		nodes[i] = Start(t, "cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-require-full-coverage no",
			"cluster-port "+port(testkit.Addr(t)))
	}
	for i, n := range nodes {
		n.must("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*slots/3), fmt.Sprint((i+1)*slots/3-1))
		bus := strings.TrimPrefix(n.more[3], "cluster-port ")
		nodes[0].must("CLUSTER", "MEET", "127.0.0.1", port(n.Address), bus)
	}
	for _, n := range nodes {
		testkit.Await(t, testkit.Deadline, func() error {
			said, err := n.Do("CLUSTER", "INFO")
			whole := strings.Contains(said, "cluster_state:ok") && strings.Contains(said, fmt.Sprintf("cluster_slots_ok:%d", slots))
			if err == nil && !whole {
				err = fmt.Errorf("not yet: %s", said)
			}
			return err
		})
	}
	return nodes
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func (s *Server) must(words ...string) {
	s.t.Helper()
	if _, err := s.Do(words...); err != nil {
		s.t.Fatalf("%s: %v", strings.Join(words, " "), err)
	}
}
