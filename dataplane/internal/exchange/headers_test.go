package exchange_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
)

func headers(lines ...string) exchange.Headers {
	var h exchange.Headers
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(exchange.Field(name, value))
	}
	return h
}

func lines(h exchange.Headers) []string {
	var out []string
	for _, f := range h {
		out = append(out, string(f.Name)+": "+string(f.Value))
	}
	return out
}

func TestHeadersMatchWithoutRegardToCaseAndKeepOrder(t *testing.T) {
	t.Parallel()
	h := headers("Host: a", "x-one: 1", "Accept: *", "X-ONE: 2")
	if got := string(h.Get("X-One")); got != "1" {
		t.Errorf("Get(X-One) = %q, want the first, 1", got)
	}
	if h.Get("X-Two") != nil || h.Has("X-Two") || !h.Has("hOST") {
		t.Error("Get or Has is wrong about presence")
	}
	var values []string
	for v := range h.Values("X-One") {
		values = append(values, string(v))
	}
	if !slices.Equal(values, []string{"1", "2"}) {
		t.Errorf("Values(X-One) = %q, want 1 and 2", values)
	}
}

func TestHeadersChange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(h *exchange.Headers)
		want   []string
	}{
		{"set replaces all in the place of the first", func(h *exchange.Headers) { h.Set(exchange.Field("X-One", "9")) }, []string{"A: 1", "X-One: 9", "B: 2"}},
		{"set adds", func(h *exchange.Headers) { h.Set(exchange.Field("C", "9")) }, []string{"A: 1", "x-one: 1", "B: 2", "X-ONE: 2", "C: 9"}},
		{"del removes all", func(h *exchange.Headers) { h.Del("X-One") }, []string{"A: 1", "B: 2"}},
		{"del of nothing", func(h *exchange.Headers) { h.Del("C") }, []string{"A: 1", "x-one: 1", "B: 2", "X-ONE: 2"}},
		{"del at", func(h *exchange.Headers) { h.DelAt(0) }, []string{"x-one: 1", "B: 2", "X-ONE: 2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := headers("A: 1", "x-one: 1", "B: 2", "X-ONE: 2")
			tt.change(&h)
			if diff := cmp.Diff(tt.want, lines(h)); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHasToken(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"Origin": true, "accept, oRIGIN": true, " Origin\t,x": true, "Origins": false, "": false, "x,,y": false, "Origin x": false,
	} {
		if got := exchange.HasToken([]byte(value), "Origin"); got != want {
			t.Errorf("HasToken(%q, Origin) = %v, want %v", value, got, want)
		}
	}
}
