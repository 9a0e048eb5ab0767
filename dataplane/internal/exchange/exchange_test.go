package exchange_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
)

func withQuery(q string) *exchange.Exchange {
	x := &exchange.Exchange{}
	if q != "" {
		x.Request.Query = []byte(q)
	}
	return x
}

func queryValues(x *exchange.Exchange, name string) []string {
	var out []string
	for from := 0; ; {
		v, next, ok := x.NextQuery(name, from)
		if !ok {
			return out
		}
		out, from = append(out, string(v)), next
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	tests := []struct {
		query string
		want  []string
		left  string
	}{
		{"", nil, ""},
		{"a=1&key=v&b=2", []string{"v"}, "a=1&b=2"},
		{"key=v", []string{"v"}, ""},
		{"key=1&key=2", []string{"1", "2"}, ""},
		{"%6Bey=%41+b%2Bc", []string{"A b+c"}, ""},
		{"k%65y", []string{""}, ""},
		{"key=a=b&x", []string{"a=b"}, "x"},
		{"key=%zz%4", []string{"%zz%4"}, ""},
		{"Key=1&keys=2&a;key=3", nil, "Key=1&keys=2&a;key=3"},
		{"&&key=1&", []string{"1"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			t.Parallel()
			x := withQuery(tt.query)
			if diff := cmp.Diff(tt.want, queryValues(x, "key")); diff != "" {
				t.Errorf("values of key (-want +got):\n%s", diff)
			}
			var among []string
			for name, value := range x.QueryPairs() {
				if string(name) == "key" {
					among = append(among, string(value))
				}
			}
			if diff := cmp.Diff(tt.want, among); diff != "" {
				t.Errorf("values of key among all pairs (-want +got):\n%s", diff)
			}
			x.RemoveQuery("key")
			if got := string(x.Request.Query); got != tt.left {
				t.Errorf("query after RemoveQuery = %q, want %q", got, tt.left)
			}
			if (x.Request.Query == nil) != (tt.left == "") {
				t.Errorf("Query == nil is %v with %q left", x.Request.Query == nil, tt.left)
			}
		})
	}
}

func TestRemoveQueryLeavesTheRawTarget(t *testing.T) {
	t.Parallel()
	raw := []byte("/p?a=1&key=v&b=2")
	x := &exchange.Exchange{}
	x.Request.RawTarget, x.Request.Query = raw, raw[3:]
	x.RemoveQuery("key")
	if got := string(x.Request.RawTarget); got != "/p?a=1&key=v&b=2" {
		t.Errorf("RawTarget = %q after RemoveQuery, want it unchanged", got)
	}
}

func TestCookies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		cookies []string
		want    []string
		left    []string
	}{
		{"none", []string{"a=1"}, nil, []string{"Cookie: a=1"}},
		{"between others", []string{"a=1; s=x; b=2"}, []string{"x"}, []string{"Cookie: a=1; b=2"}},
		{"alone", []string{"s=x"}, []string{"x"}, nil},
		{"quoted", []string{`s="x"`}, []string{"x"}, nil},
		{"several fields", []string{"s=1; a=1", "b=2", "s=2"}, []string{"1", "2"}, []string{"Cookie: a=1", "Cookie: b=2"}},
		{"twice", []string{"s=1;s=2"}, []string{"1", "2"}, nil},
		{"case matters", []string{"S=1"}, nil, []string{"Cookie: S=1"}},
		{"empty pairs", []string{"; s=1;; a=1;"}, []string{"1"}, []string{"Cookie: a=1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := &exchange.Exchange{}
			for _, c := range tt.cookies {
				x.Request.Header.Add(exchange.Field("Cookie", c))
			}
			var got []string
			for pos, v, ok := (exchange.CookiePos{}), []byte(nil), true; ; {
				if v, pos, ok = x.NextCookie("s", pos); !ok {
					break
				}
				got = append(got, string(v))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("values of s (-want +got):\n%s", diff)
			}
			x.RemoveCookie("s")
			if diff := cmp.Diff(tt.left, lines(x.Request.Header)); diff != "" {
				t.Errorf("fields after RemoveCookie (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswerIsAProblemWithTheExchangesID(t *testing.T) {
	t.Parallel()
	x := &exchange.Exchange{}
	x.Response.Status, x.Response.Header = 200, headers("X-Upstream: 1")
	x.Answer(exchange.NewRefusal(401, "unauthenticated", `say "please"`, exchange.Field("WWW-Authenticate", "ApiKey")))
	var got map[string]any
	if err := json.Unmarshal(x.Response.Body, &got); err != nil {
		t.Fatalf("body %s: %v", x.Response.Body, err)
	}
	want := map[string]any{
		"type": "about:blank", "title": "Unauthorized", "status": 401.0, "code": "unauthenticated",
		"detail": `say "please"`, "instance": "urn:uuid:" + x.ID().String(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	wantHead := []string{"Content-Type: application/problem+json", "Cache-Control: no-store", "WWW-Authenticate: ApiKey"}
	if diff := cmp.Diff(wantHead, lines(x.Response.Header)); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if x.Response.Status != 401 || !x.Response.Local {
		t.Errorf("status %d local %v, want 401 true", x.Response.Status, x.Response.Local)
	}
}

func TestSaveAndRestoreUndoEverything(t *testing.T) {
	t.Parallel()
	x := withQuery("a=1&b=2")
	x.Request.Header = headers("A: 1", "B: 2", "C: 3")
	x.Principal = &exchange.Principal{Consumer: "alice"}
	x.Save()
	x.Request.Header.Del("B")
	x.Request.Header.Add(exchange.Field("D", "4"))
	x.RemoveQuery("a")
	x.Principal, x.Response.Status = nil, 204
	x.Response.Header.Add(exchange.Field("E", "5"))
	x.Restore()
	if diff := cmp.Diff([]string{"A: 1", "B: 2", "C: 3"}, lines(x.Request.Header)); diff != "" {
		t.Errorf("request fields (-want +got):\n%s", diff)
	}
	if q := string(x.Request.Query); q != "a=1&b=2" || x.Principal == nil || x.Response.Status != 0 || len(x.Response.Header) != 0 {
		t.Errorf("after Restore: query %q, principal %v, response %+v", q, x.Principal, x.Response)
	}
}

func TestResetLeavesNothingOfTheLastRequest(t *testing.T) {
	t.Parallel()
	x := withQuery("a=1")
	x.Request.Header, x.Principal = headers("A: 1"), &exchange.Principal{}
	x.Progress[0] = exchange.Progress{Ran: 1, Slots: []exchange.Slot{{N: 7}}}
	x.Reports = append(x.Reports, exchange.Report{})
	x.Save()
	x.Answer(exchange.NewRefusal(403, "forbidden", "no"))
	first := x.ID()
	head := x.Request.Header
	x.Reset()
	if x.Request.Query != nil || len(x.Request.Header) != 0 || x.Principal != nil || x.Refusal() != nil || len(x.Reports) != 0 ||
		x.Response.Status != 0 || x.Response.Body != nil || x.Progress[0].Ran != 0 || x.ID() == first {
		t.Errorf("after Reset: %+v", x)
	}
	if head[:1][0].Name != nil || x.Progress[0].Slots[:1][0].N != 0 {
		t.Error("memory kept for reuse still holds the last request")
	}
}

func TestCredentialValidity(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	c := exchange.Credential{NotBefore: noon, Principal: &exchange.Principal{Expires: noon.Add(time.Hour)}}
	for offset, want := range map[time.Duration]bool{-1: false, 0: true, time.Hour - 1: true, time.Hour: false} {
		if got := c.ValidAt(noon.Add(offset)); got != want {
			t.Errorf("ValidAt(noon%+v) = %v, want %v", offset, got, want)
		}
	}
	if !(&exchange.Credential{Principal: &exchange.Principal{}}).ValidAt(noon) {
		t.Error("a credential without bounds is not valid")
	}
}

func TestWarmExchangeDoesNotAllocate(t *testing.T) {
	h := headers("Host: a", "Cookie: a=1; s=x; b=2", "X-API-Key: v")
	query := []byte("a=%41&key=%42&b")
	refusal := exchange.NewRefusal(429, "rate_limited", "slow down")
	x := &exchange.Exchange{}
	pass := func() {
		x.Reset()
		x.Request.Header = append(x.Request.Header, h...)
		x.Request.Query = query
		x.NextQuery("key", 0)
		x.RemoveQuery("key")
		x.NextCookie("s", exchange.CookiePos{})
		x.RemoveCookie("s")
		x.Request.Header.Del("X-API-Key")
		x.Save()
		x.Restore()
		x.Answer(refusal)
	}
	pass()
	pass()
	if n := testing.AllocsPerRun(200, pass); n != 0 {
		t.Errorf("a warm exchange allocates %v times", n)
	}
}
