// Package demo is `keyward dev demo`: it shows, with real requests to real gateways, what Keyward does, and checks every
// answer. It uses what users use: the keyward command, the admin API, HTTP.
package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// Options of one run.
type Options struct {
	File  string
	Check bool
	// Dir is the state directory of the running `keyward dev`.
	Dir string
	// Program is the keyward command itself.
	Program string
	Getenv  func(string) string
	Now     func() time.Time
	IO      *terminal.Streams
	Conn    grpc.ClientConnInterface
}

// host is the name of the route in the quick-start document.
const host = "hello.test"

// limit is how many requests the quick-start document allows a consumer in a minute on each gateway.
const limit = 5

// tour is one run of the demo.
type tour struct {
	Options
	gateways []string
	client   *http.Client
	keys     map[string]string
}

// Run shows everything and, unless it only checks, stays until ctx ends.
func Run(ctx context.Context, o Options) error {
	t := &tour{Options: o, client: &http.Client{Timeout: 10 * time.Second}, keys: map[string]string{}}
	if t.gateways = strings.Split(o.Getenv("KEYWARD_HTTP"), ","); t.gateways[0] == "" || o.Dir == "" {
		return errors.New("the demo runs inside keyward dev: keyward dev --gateways 2 --exec 'keyward dev demo'")
	}
	for _, step := range []func(context.Context) error{
		t.configure, t.authenticate, t.limitRate, t.withoutControlPlane, t.change,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	t.tell("\nAll of it was as it should be.")
	if o.Check {
		return nil
	}
	t.next()
	<-ctx.Done()
	return nil
}

// tell writes a line of the story.
func (t *tour) tell(format string, args ...any) {
	fmt.Fprintf(t.IO.Out, format+"\n", args...)
}

// heading starts a chapter.
func (t *tour) heading(format string, args ...any) {
	t.tell("\n"+t.IO.Paint(terminal.Yellow, "== ")+format, args...)
}

// next says what to try while everything is up.
func (t *tour) next() {
	t.tell(`
Everything stays up until Ctrl-C. Try, in another terminal:

  export PATH=%s:$PATH
  export KEYWARD_ADDR=%s KEYWARD_CACERT=%s KEYWARD_DEV_DIR=%s
  export KEYWARD_TOKEN=$(cat %s/secrets/admin-token)
  curl -i -H 'Host: %s' -H 'X-API-Key: %s' http://%s/anything
  keyward get routes
  keyward gateways list
  keyward explain route hello --consumer alice
  keyward route test GET http://%s/ --as bob
  keyward export > group.yaml    # then change it, and:
  keyward diff -f group.yaml
  keyward apply -f group.yaml --wait
  keyward dev stop gateway-1; keyward dev start gateway-1`,
		filepath.Dir(t.Program), t.Getenv("KEYWARD_ADDR"), t.Getenv("KEYWARD_CACERT"), t.Dir, t.Dir, host, t.keys["carol"], t.gateways[0], host)
}

// request is what one request is to show.
type request struct {
	who  string // consumer whose key is sent; empty: no key
	want int
	why  string
}

// show makes a request to every gateway and checks the answers.
func (t *tour) show(ctx context.Context, r request) error {
	for i, addr := range t.gateways {
		res, err := t.get(ctx, addr, r.who) //nolint:bodyclose // get has read and closed it
		if err != nil {
			return err
		}
		who := r.who
		if who == "" {
			who = "no key"
		}
		if res.StatusCode != r.want {
			t.tell("  %s  gateway %d  %-8s %d, not %d", t.IO.Paint(terminal.Red, "✗"), i+1, who, res.StatusCode, r.want)
			return fmt.Errorf("%s: gateway %d (%s) answered %d to %s, not %d", r.why, i+1, addr, res.StatusCode, who, r.want)
		}
		t.tell("  %s  gateway %d  %-8s %d %s", t.IO.Paint(terminal.Green, "✓"), i+1, who, res.StatusCode, r.why)
	}
	return nil
}

// get makes one request. Its answer's body is read and dropped.
func (t *tour) get(ctx context.Context, addr, who string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Host = host
	if who != "" {
		req.Header.Set("X-API-Key", t.keys[who])
	}
	res, err := t.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("request to gateway %s: %w", addr, err)
	}
	defer res.Body.Close()
	return res, drain(res.Body)
}
