package resilience_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
)

// manyRoutes is a document that takes a gateway a while: n routes and consumers with a key each. What of it differs between
// two rounds is in each of them, so that a mixture shows.
func manyRoutes(upstream string, n, round int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "group: default\nsettings: {require_https: false}\nservices: [{name: hello, url: \"http://%s\"}]\nroutes:\n", upstream)
	for i := range n {
		fmt.Fprintf(&b, "  - {name: r%d, service: hello, hosts: [r%d.test], paths: [/round-%d], policies: [{type: key-auth}]}\n", i, i, round)
	}
	fmt.Fprintf(&b, "consumers:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: c%d, labels: {round: \"%d\"}, credentials: [{name: k, type: key-auth, config: {key: %q}}]}\n", i, round, changeKey(i))
	}
	return b.String()
}

// TestAGatewayKilledWhileItFoldsComesBackWhole kills a gateway at random moments of taking in a large set, and of writing it to
// its cache. It starts again from a whole set, an old one or the new one, and ends at what the database has.
func TestAGatewayKilledWhileItFoldsComesBackWhole(t *testing.T) {
	t.Parallel()
	rounds, n := 4, 1000
	if harness.Full() {
		rounds, n = 60, 5000
	}
	c := harness.New(t, harness.Options{})
	upstream := harness.Nginx(t)
	dir := t.TempDir()
	c.Apply(manyRoutes(upstream, n, 0))
	g := c.StartGateway("default", "--identity-dir", filepath.Join(dir, "identity"), "--sealed-cache", filepath.Join(dir, "cache"))
	converges(t, c, g, 20*time.Second)
	for round := 1; round <= rounds; round++ {
		c.Apply(manyRoutes(upstream, n, round))
		<-time.After(rand.N(300 * time.Millisecond))
		g.Kill()
		g.Start()
		g.AwaitReady()
		oneRound(t, g, n, round)
		converges(t, c, g, 20*time.Second)
		if code, body := g.Get(t, "r0.test", fmt.Sprintf("/round-%d", round), "X-API-Key", changeKey(0)); code != http.StatusOK {
			t.Errorf("round %d: %d %s", round, code, body)
		}
	}
	if out := string(g.Output()); strings.Contains(out, "level=error") {
		t.Errorf("a crash left something that was refused:\n%s", firstError(out))
	}
}

// oneRound holds that a gateway enforces one round for all routes: whatever answers 404 for one must for all.
func oneRound(t *testing.T, g *harness.Gateway, n, round int) {
	t.Helper()
	before, err := g.State()
	if err != nil {
		t.Fatal(err)
	}
	codes := map[int]bool{}
	for i := 0; i < n; i += n / 20 {
		code, _ := g.Get(t, fmt.Sprintf("r%d.test", i), fmt.Sprintf("/round-%d", round), "X-API-Key", changeKey(i))
		codes[code] = true
	}
	after, err := g.State()
	if err != nil {
		t.Fatal(err)
	}
	if before.Digest == after.Digest && len(codes) != 1 {
		t.Errorf("round %d: a mixture of sets: %v", round, codes)
	}
}

func firstError(out string) string {
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, "level=error") {
			return line
		}
	}
	return ""
}
