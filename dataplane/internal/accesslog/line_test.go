package accesslog_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policies/keyauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/runtime"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// TestMembers is the list of members: names and order stay, because others read them.
func TestMembers(t *testing.T) {
	t.Parallel()
	x := refused()
	x.Request.Header.Add(exchange.Field("X-Tenant", "t1"))
	s := &runtime.AccessLog{Headers: []string{"x-tenant"}}
	o := accesslog.Outcome{Status: 403, Code: "forbidden", BytesIn: 3, BytesOut: 7, Aborted: true, Settings: s, Route: open(t)}
	got := strings.Replace(string(accesslog.Append(nil, x, o)), x.ID().String(), "<id>", 1)
	want := `{"time":"2026-01-02T03:04:05.006Z","id":"from-the-proxy","instance":"<id>",` +
		`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","client_ip":"192.0.2.1","peer":"192.0.2.1","scheme":"https",` +
		`"protocol":"HTTP/1.1","method":"GET","host":"api.test","path":"/a\"\u000a` + "\ufffd" + `\u2028","status":403,"bytes_in":3,` +
		`"bytes_out":7,"duration_us":1500,"upstream_us":1000,"route":"orders","service":"shop","consumer":"alice",` +
		`"credential":"a1","user_agent":"curl/8.5.0","code":"forbidden","policy":"acl","binding":"routes/r/acl",` +
		`"would_refuse":[{"policy":"acl","binding":"routes/r/acl","status":403},{"policy":"cors","binding":"services/s/c","status":405}],` +
		`"headers":{"x-tenant":"t1"},"aborted":true}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
	parse(t, []byte(got))
}

func TestALineOfNothingIsJSON(t *testing.T) {
	t.Parallel()
	got := parse(t, accesslog.Append(nil, &exchange.Exchange{}, accesslog.Outcome{}))
	for _, member := range []string{"time", "id", "status", "bytes_in", "bytes_out", "duration_us"} {
		if got[member] == nil {
			t.Errorf("%s is missing", member)
		}
	}
	if len(got) != 6 {
		t.Errorf("line has more than is known: %v", got)
	}
}

func TestTheIDIsThatOfTheRequest(t *testing.T) {
	t.Parallel()
	x := request()
	if got := parse(t, accesslog.Append(nil, x, accesslog.Outcome{})); got["id"] != x.ID().String() || got["instance"] != nil {
		t.Errorf("id %v instance %v, want %s alone", got["id"], got["instance"], x.ID())
	}
	x.Trace = exchange.Trace{}
	if got := parse(t, accesslog.Append(nil, x, accesslog.Outcome{})); got["id"] != x.ID().String() || got["trace_id"] != nil {
		t.Errorf("id %v trace %v before a request id was chosen, want %s and none", got["id"], got["trace_id"], x.ID())
	}
}

func TestEveryMemberCanBeRedacted(t *testing.T) {
	t.Parallel()
	x := refused()
	x.Request.Header.Add(exchange.Field("X-Tenant", "t1"))
	line := func(redact ...string) map[string]any {
		s := &runtime.AccessLog{Headers: []string{"x-tenant"}, Redact: map[string]struct{}{"no-member": {}}}
		for _, m := range redact {
			s.Redact[m] = struct{}{}
		}
		return parse(t, accesslog.Append(nil, x, accesslog.Outcome{Status: 403, Code: "c", Aborted: true, Settings: s, Route: open(t)}))
	}
	whole := line()
	for member := range whole {
		got := line(member)
		if got[member] != "[redacted]" {
			t.Errorf("%s = %v, want it redacted", member, got[member])
		}
		got[member] = whole[member]
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Errorf("to redact %s changed others (-want +got):\n%s", member, diff)
		}
	}
}

// guarded makes a route that asks for a key in a header field, open one that asks for nothing.
func guarded(t *testing.T, header string, hide bool) *runtime.Route {
	t.Helper()
	p, err := keyauth.Build(&policyv1.KeyAuth{Header: []string{header}, HideCredentials: &hide})
	if err != nil {
		t.Fatal(err)
	}
	return &runtime.Route{Chain: policy.NewRoute(nil, [][]policy.Link{{{Policy: p}}}, nil)}
}

func open(t *testing.T) *runtime.Route {
	t.Helper()
	return &runtime.Route{Chain: policy.NewRoute(nil, nil, nil)}
}

// anyKey is a directory in which every key belongs to alice.
type anyKey struct{}

func (anyKey) Credential(string, []byte) *exchange.Credential {
	return &exchange.Credential{Principal: &exchange.Principal{Consumer: "alice", ConsumerUID: "a"}}
}
func (anyKey) Complete(string) bool { return true }

func (anyKey) Knows(string) bool { return true }

func (anyKey) Identified(string, *[32]byte) (*exchange.Credential, bool) { return nil, false }

func (anyKey) Consumer(exchange.ConsumerBy, []byte) *exchange.Principal { return nil }

func TestHeadersThatCarryCredentialsAreNeverLogged(t *testing.T) {
	t.Parallel()
	s := &runtime.AccessLog{Headers: []string{
		"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "X-Key", "x-tenant", "x-absent", "x-tenant",
	}}
	tests := []struct {
		name  string
		route *runtime.Route
		dir   exchange.Directory
		want  map[string]any
	}{
		{"the route asks for a key and hides it", guarded(t, "x-KEY", true), anyKey{}, map[string]any{"x-tenant": "a, b"}},
		{"the route asks for a key and passes it on", guarded(t, "X-Key", false), anyKey{}, map[string]any{"x-tenant": "a, b"}},
		{"the key is refused, so that it is still there", guarded(t, "X-Key", true), nil, map[string]any{"x-tenant": "a, b"}},
		{"the route asks for a key elsewhere", guarded(t, "X-Other", true), nil, map[string]any{"x-tenant": "a, b", "x-key": "secret"}},
		{"the route asks for nothing", open(t), nil, map[string]any{"x-tenant": "a, b", "x-key": "secret"}},
		{"the route is closed, nobody knows what it asks for", &runtime.Route{}, nil, nil},
		{"no route, nobody knows", nil, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := request()
			x.Directory = tt.dir
			for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Key"} {
				x.Request.Header.Add(exchange.Field(name, "secret"))
			}
			x.Request.Header.Add(exchange.Field("X-Tenant", "a"))
			x.Request.Header.Add(exchange.Field("x-tenant", "b"))
			if tt.route != nil && tt.route.Chain != nil {
				tt.route.Chain.Request(x)
			}
			line := accesslog.Append(nil, x, accesslog.Outcome{Status: 200, Settings: s, Route: tt.route})
			got, _ := parse(t, line)["headers"].(map[string]any)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if strings.Contains(string(line), "top-secret") {
				t.Errorf("line shows a key: %s", line)
			}
		})
	}
}

func TestTokensOfTheGatewayAreNotShown(t *testing.T) {
	t.Parallel()
	x := request()
	x.Request.Header.Add(exchange.Field("X-Gateway-Token", "signed"))
	x.Request.Header.Add(exchange.Field("X-Tenant", "t1"))
	s := &runtime.AccessLog{Headers: []string{"x-gateway-token", "x-tenant"}}
	for minted, want := range map[string]int{"": 2, "X-Gateway-Token": 1} {
		x.Minted = minted
		got, _ := parse(t, accesslog.Append(nil, x, accesslog.Outcome{Settings: s, Route: open(t)}))["headers"].(map[string]any)
		if len(got) != want || got["x-tenant"] != "t1" {
			t.Errorf("with %q minted: %v", minted, got)
		}
	}
}

func TestHeaderValuesAreBounded(t *testing.T) {
	t.Parallel()
	x := request()
	for range 10 {
		x.Request.Header.Add(exchange.Field("X-Long", strings.Repeat("v", 1000)))
	}
	s := &runtime.AccessLog{Headers: []string{"x-long"}}
	for i := range 100 {
		s.Headers = append(s.Headers, "x-"+strings.Repeat("n", i))
		x.Request.Header.Add(exchange.Field(s.Headers[i+1], "v"))
	}
	got, _ := parse(t, accesslog.Append(nil, x, accesslog.Outcome{Settings: s, Route: open(t)}))["headers"].(map[string]any)
	if n := len(got["x-long"].(string)); n < 2000 || n > 2100 || len(got) != 32 {
		t.Errorf("%d fields, the long one has %d characters; want 32 and about 2048", len(got), n)
	}
}

func TestHowMuchOfAnAddressIsShown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		form   runtime.ClientIPForm
		client string
		want   string
	}{
		{"full", runtime.ClientIPFull, "192.0.2.77", "192.0.2.77"},
		{"full, IPv6", runtime.ClientIPFull, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"},
		{"full, mapped", runtime.ClientIPFull, "::ffff:192.0.2.77", "192.0.2.77"},
		{"truncated", runtime.ClientIPTruncated, "192.0.2.77", "192.0.2.0"},
		{"truncated, IPv6", runtime.ClientIPTruncated, "2001:db8:1:2:3:4:5:6", "2001:db8:1::"},
		{"truncated, mapped", runtime.ClientIPTruncated, "::ffff:192.0.2.77", "192.0.2.0"},
		{"truncated, with zone", runtime.ClientIPTruncated, "fe80::1:2:3%eth0", "fe80::"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := request()
			x.Request.ClientIP = netip.MustParseAddr(tt.client)
			for _, peer := range []netip.Addr{x.Request.ClientIP, netip.MustParseAddr("::ffff:10.1.2.3")} {
				x.Request.RemoteAddr = netip.AddrPortFrom(peer, 1)
				got := parse(t, accesslog.Append(nil, x, accesslog.Outcome{Settings: &runtime.AccessLog{ClientIP: tt.form}}))
				wantPeer := tt.want
				if peer != x.Request.ClientIP {
					wantPeer = map[bool]string{true: "10.1.2.3", false: "10.1.2.0"}[tt.form == runtime.ClientIPFull]
				}
				if got["client_ip"] != tt.want || got["peer"] != wantPeer {
					t.Errorf("client_ip %v peer %v, want %s and %s", got["client_ip"], got["peer"], tt.want, wantPeer)
				}
			}
		})
	}
}

func TestHashedAddressesAreAlikeWithinAProcess(t *testing.T) {
	t.Parallel()
	s := &runtime.AccessLog{Sample: 1_000_000, ClientIP: runtime.ClientIPHashed}
	of := func(ips ...string) []map[string]any {
		return logged(t, func(l *accesslog.Log) {
			for i, ip := range ips {
				x := request()
				x.Request.ClientIP = netip.MustParseAddr(ip)
				l.Observe(x, accesslog.Outcome{BytesIn: int64(i), Settings: s})
			}
		})
	}
	one, other := of("192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1"), of("192.0.2.1")
	hash := one[0]["client_ip"].(string)
	if len(hash) != 16 || one[2]["client_ip"] != hash || one[0]["peer"] != hash {
		t.Errorf("hashes of one address: %v %v, peer %v", hash, one[2]["client_ip"], one[0]["peer"])
	}
	if one[1]["client_ip"] == hash || other[0]["client_ip"] == hash {
		t.Errorf("hash %v is that of another address, or that of another process", hash)
	}
}

func TestFieldsDoNotShowTheAddressThatIsHidden(t *testing.T) {
	t.Parallel()
	x := request()
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-IP", "X-Tenant"} {
		x.Request.Header.Add(exchange.Field(name, "v"))
	}
	for form, want := range map[runtime.ClientIPForm]int{runtime.ClientIPFull: 4, runtime.ClientIPTruncated: 1, runtime.ClientIPHashed: 1} {
		s := &runtime.AccessLog{Headers: []string{"forwarded", "x-forwarded-for", "x-real-ip", "x-tenant"}, ClientIP: form}
		got, _ := parse(t, accesslog.Append(nil, x, accesslog.Outcome{Settings: s, Route: open(t)}))["headers"].(map[string]any)
		if len(got) != want || got["x-tenant"] != "v" {
			t.Errorf("form %d shows fields %v", form, got)
		}
	}
}

func TestTimesAreThoseOfTheirSecond(t *testing.T) {
	t.Parallel()
	x := request()
	begin := x.Timings.Received
	got := logged(t, func(l *accesslog.Log) {
		for i, ms := range []int{0, 993, 994, 1994, 0} {
			x.Timings.Received = begin.Add(time.Duration(ms) * time.Millisecond)
			l.Observe(x, accesslog.Outcome{BytesIn: int64(i)})
		}
	})
	want := []string{"05.006Z", "05.999Z", "06.000Z", "07.000Z", "05.006Z"}
	for i, line := range got {
		if line["time"] != "2026-01-02T03:04:"+want[i] {
			t.Errorf("time %v, want …%s", line["time"], want[i])
		}
	}
}

func TestValuesAreEscapedAndBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "/a/b?c", `/a/b?c`},
		{"quotes and backslashes", `a"b\c`, `a\"b\\c`},
		{"after eight plain ones", `12345678"`, `12345678\"`},
		{"in the first eight", `1234567"`, `1234567\"`},
		{"line ends", "a\r\nb", `a\u000d\u000ab`},
		{"nul and delete", "\x00\x7f", `\u0000\u007f`},
		{"text", "größe 日本", `größe 日本`},
		{"no UTF-8", "a\xff\xc3(", "a\ufffd\ufffd("},
		{"cut off UTF-8", "a\xe6\x97", "a\ufffd\ufffd"},
		{"a surrogate", "\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
		{"what a terminal obeys", "\x1b[2J\u009b2J", `\u001b[2J\u009b2J`},
		{"what turns text around", "a\u202eb", `a\u202eb`},
		{"no character above 16 bits", "\U000e0041", `\udb40\udc41`},
		{"line separators", "\u2028\u2029\u0085", `\u2028\u2029\u0085`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := &exchange.Exchange{}
			x.Request.Path = []byte(tt.in)
			x.Route.Name = tt.in // a string goes the same way
			line := accesslog.Append(nil, x, accesslog.Outcome{})
			if !strings.Contains(string(line), `"path":"`+tt.want+`"`) || !strings.Contains(string(line), `"route":"`+tt.want+`"`) {
				t.Errorf("%q is written %s", tt.in, line)
			}
		})
	}
	x := &exchange.Exchange{}
	x.Request.Path = []byte(strings.Repeat("a", 2047) + "ä")
	if got := parse(t, accesslog.Append(nil, x, accesslog.Outcome{}))["path"]; got != strings.Repeat("a", 2047)+"\ufffd" {
		t.Errorf("a long path is not cut after 2048 bytes: %d", len(got.(string)))
	}
}

// FuzzLine asks that whatever clients send, a line is one line, printable JSON, and says what was sent.
func FuzzLine(f *testing.F) {
	f.Add("GET", "api.test", "/a\"\n\xff\u2028", "curl", "from-a-proxy", "v")
	f.Add("", "\x00\x1b[2J", `12345678\`, "\u202e\U000e0041", `{"a":1}`, "\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, method, host, path, agent, id, value string) {
		x := request()
		x.Request.Method, x.Request.Host, x.Request.Path = []byte(method), []byte(host), []byte(path)
		x.Request.Header.Set(exchange.Field("User-Agent", agent))
		x.Request.Header.Add(exchange.Field("X-Value", value))
		x.Route.Name = path
		x.Trace.RequestID, x.Trace.Foreign = []byte(id), true
		s := &runtime.AccessLog{Headers: []string{"x-value"}}
		line := accesslog.Append(nil, x, accesslog.Outcome{Status: 200, Settings: s, Route: open(t)})
		if !json.Valid(line) || !utf8.Valid(line) || strings.Count(string(line), "\n") != 1 {
			t.Fatalf("line is not one line of JSON: %q", line)
		}
		if i := strings.IndexFunc(string(line[:len(line)-1]), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("line is not printable from %d: %q", i, line)
		}
		got := parse(t, line)
		headers, _ := got["headers"].(map[string]any)
		for member, sent := range map[string]string{"method": method, "host": host, "path": path, "user_agent": agent, "id": id, "route": path} {
			say(t, member, got[member], sent)
		}
		if headers["x-value"] == nil {
			t.Error("headers lack x-value")
		}
		if value != "" {
			say(t, "x-value", headers["x-value"], value)
		}
	})
}

func say(t *testing.T, member string, got any, sent string) {
	t.Helper()
	want := string([]rune(sent[:min(len(sent), 2048)]))
	if want == "" && got == nil {
		return
	}
	if got != want {
		t.Errorf("%s = %q, sent was %q", member, got, sent)
	}
}
