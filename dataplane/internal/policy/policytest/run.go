package policytest

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/shared/check/match"
)

var update = flag.Bool("update", false, "rewrite the want sections of cases")

// Outcome is what a request of a case came to.
type Outcome struct {
	// StoppedBy is the type of the policy that refused or answered it; empty if it passed.
	StoppedBy string
	Status    int
	// ReadBody: a policy asked for the whole body.
	ReadBody bool
	// Set are the parameters that the case sets, by name and not by default.
	Set Parameters
}

// Run runs every case that matches the pattern, e.g. "testdata/*.txtar", and returns all outcomes.
func Run(t *testing.T, pattern string, factories []policy.Factory) []Outcome {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob(%q) = %v, %v; want cases", pattern, files, err)
	}
	var all []Outcome
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			all = append(all, runFile(t, f, factories)...)
		})
	}
	return all
}

func runFile(t *testing.T, file string, factories []policy.Factory) []Outcome {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	comment, sections := parseArchive(raw)
	if len(sections) == 0 || sections[0].name != "config.yaml" {
		t.Fatalf("%s: the first section is not config.yaml", file)
	}
	w := newWorld(t, sections[0].data, factories)
	x := &exchange.Exchange{} // one for all: what is left of a request would show in the next
	var outcomes []Outcome
	begin := 1
	if len(sections) > 1 && sections[1].name == "stored" {
		w.stored(t, sections[1].data)
		begin = 2
	}
	for i := begin; i < len(sections); i++ {
		if !strings.HasPrefix(sections[i].name, "request") {
			t.Fatalf("%s: unexpected section %q", file, sections[i].name)
		}
		req, upstream := sections[i], []byte("HTTP/1.1 200\n")
		if i+1 < len(sections) && sections[i+1].name == "upstream" {
			i++
			upstream = sections[i].data
		}
		i++
		if i >= len(sections) || sections[i].name != "want" {
			t.Fatalf("%s: request without want", file)
		}
		x.Reset()
		x.SetID(exchange.ID{15: byte(len(outcomes) + 1)})
		got, outcome := w.serve(t, x, req, upstream)
		outcome.Set = w.parameters
		outcomes = append(outcomes, outcome)
		if *update {
			sections[i].data = got
		} else if diff := cmp.Diff(string(sections[i].data), string(got)); diff != "" {
			t.Errorf("%s: request %d (-want +got):\n%s", file, len(outcomes), diff)
		}
	}
	if out := formatArchive(comment, sections); *update && !bytes.Equal(out, raw) {
		if err := os.WriteFile(file, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return outcomes
}

// serve does what a server does with one request, without a network.
func (w *world) serve(t testing.TB, x *exchange.Exchange, req section, upstream []byte) ([]byte, Outcome) {
	t.Helper()
	body := w.receive(t, x, req)
	x.Bodies = body
	var log bytes.Buffer
	overlay := policy.NewOverlay(nil, nil)
	v := w.routeChain.Request(x)
	if v == policy.Next {
		name := ""
		if x.Principal != nil {
			name = x.Principal.Consumer
		}
		overlay = w.compileOverlay(t, name)
		v = overlay.Request(x)
	}
	if v == policy.Next {
		v = body.pass(x, w.routeChain, overlay)
	}
	if v == policy.Next {
		writeRequest(&log, x, body)
		answer(t, x, upstream)
	}
	policy.Unwind(x)
	o := outcome(x, v)
	o.ReadBody = body.asked
	return w.unfill(w.noted(w.read(t, w.describe(x, v, log.Bytes())))), o
}

func outcome(x *exchange.Exchange, v policy.Verdict) Outcome {
	o := Outcome{Status: x.Response.Status}
	if v == policy.Stop && x.StoppedBy != nil {
		o.StoppedBy = x.StoppedBy.Type
	}
	return o
}

func (w *world) describe(x *exchange.Exchange, v policy.Verdict, seen []byte) []byte {
	var b bytes.Buffer
	if v == policy.Stop {
		by := x.StoppedBy
		fmt.Fprintf(&b, "stop %s by %s/%s of %s/%s\n", x.Refusal().Code(), by.Type, by.Name, by.OwnerKind, by.OwnerName)
	} else {
		b.WriteString("next\n")
	}
	for _, r := range x.Reports {
		fmt.Fprintf(&b, "report %d %s by %s/%s\n", r.Refusal.Status(), r.Refusal.Code(), r.By.Type, r.By.Name)
	}
	if p := x.Principal; p != nil {
		fmt.Fprintf(&b, "principal %s/%s %s\n", p.Consumer, p.Credential, strings.Join(p.Groups, ","))
		if p.Claims() != nil {
			fmt.Fprintf(&b, "subject %s scopes %s\n", p.Subject(), strings.Join(p.Scopes(), ","))
		}
	}
	b.Write(seen)
	fmt.Fprintf(&b, "< %d\n", x.Response.Status)
	for _, h := range x.Response.Header {
		fmt.Fprintf(&b, "< %s: %s\n", h.Name, h.Value)
	}
	if len(x.Response.Body) > 0 {
		fmt.Fprintf(&b, "< %s\n", bytes.TrimSpace(x.Response.Body))
	}
	return b.Bytes()
}

func writeRequest(b *bytes.Buffer, x *exchange.Exchange, body *body) {
	fmt.Fprintf(b, "> %s %s", x.Request.Method, x.Request.Path)
	if x.Request.Query != nil {
		fmt.Fprintf(b, "?%s", x.Request.Query)
	}
	b.WriteString("\n")
	for _, h := range x.Request.Header {
		fmt.Fprintf(b, "> %s: %s\n", h.Name, h.Value)
	}
	if replaced, ok := x.ReplacedBody(); ok {
		fmt.Fprintf(b, "> (%d bytes) %s\n", len(replaced), replaced)
	} else if len(body.data) > 0 {
		fmt.Fprintf(b, "> (%d bytes)\n", len(body.data))
	}
}

// answer fills the response from the upstream section.
func answer(t testing.TB, x *exchange.Exchange, upstream []byte) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(upstream)), "\n")
	status, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(lines[0], "HTTP/1.1 ")))
	if err != nil {
		t.Fatalf("upstream section: %v", err)
	}
	x.Response.Status = status
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ": ")
		x.Response.Header.Add(exchange.Field(name, value))
	}
}

// Epoch is the time at which cases begin.
func Epoch() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

// receive parses the request section into the exchange and returns its body.
func (w *world) receive(t testing.TB, x *exchange.Exchange, s section) *body {
	t.Helper()
	head, rest, _ := bytes.Cut(s.data, []byte("\n\n"))
	wire := bytes.ReplaceAll(w.fill(t, append(bytes.TrimRight(head, "\n"), "\n\n"...)), []byte("\n"), []byte("\r\n"))
	var h httpwire.Head
	if _, err := httpwire.ParseHead(wire, &h, httpwire.Limits{Head: 64 << 10, Target: 16 << 10, Fields: 200}); err != nil {
		t.Fatalf("section %q: %v", s.name, err)
	}
	r := &x.Request
	r.Method, r.RawTarget, r.Proto, r.ContentLength = h.Method, h.Target, 10+h.Minor, h.ContentLength
	r.Header = append(r.Header, h.Fields...)
	r.Authority = h.Host
	var err error
	if r.Path, r.Query, err = match.Target(nil, h.Target, true); err != nil {
		t.Fatalf("section %q: %v", s.name, err)
	}
	if r.Host, err = match.Host(nil, h.Host); err != nil {
		t.Fatalf("section %q: %v", s.name, err)
	}
	x.Timings.Received, r.ClientIP, r.Scheme = Epoch(), netip.MustParseAddr("192.0.2.1"), "http"
	x.Directory = w.directory
	x.Route = exchange.RouteInfo{Name: w.route.GetName(), UID: uid("routes", w.route.GetName()), Service: w.route.GetService()}
	for _, attr := range strings.Fields(s.name)[1:] {
		w.attribute(t, x, attr)
	}
	return newBody(t, w.fill(t, bytes.TrimSuffix(rest, []byte("\n"))), x.Request.ContentLength)
}

func (w *world) attribute(t testing.TB, x *exchange.Exchange, attr string) {
	t.Helper()
	key, value, _ := strings.Cut(attr, "=")
	switch key {
	case "client":
		a, err := netip.ParseAddr(value)
		if err != nil {
			t.Fatalf("attribute %q: %v", attr, err)
		}
		x.Request.ClientIP = a
	case "at":
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatalf("attribute %q: %v", attr, err)
		}
		x.Timings.Received = Epoch().Add(d)
	case "tls":
		x.Request.TLS, x.Request.Scheme = true, "https"
	case "cert":
		w.client(x).names = value
		x.Request.TLS, x.Request.Scheme = true, "https"
	case "issuer":
		w.client(x).issuer = value
	case "no-directory":
		x.Directory = nil
	default:
		t.Fatalf("unknown attribute %q", attr)
	}
}
