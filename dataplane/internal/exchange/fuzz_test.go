package exchange_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
)

// FuzzQuery holds query parameters against net/url: the same values are found, and after a removal net/url finds none,
// while everything else is as before.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "key=1", "a=1&key=%41+b&b", "key&key=", "%6bey=1&&x=%zz", "a;key=1", "=&key=a=b"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		x := withQuery(q)
		want, err := url.ParseQuery(q)
		if got := queryValues(x, "key"); err == nil && !slices.Equal(got, want["key"]) {
			t.Errorf("values of key in %q = %q, net/url has %q", q, got, want["key"])
		}
		x.RemoveQuery("key")
		left, leftErr := url.ParseQuery(string(x.Request.Query))
		if left.Has("key") || queryValues(x, "key") != nil {
			t.Errorf("%q without key is %q", q, x.Request.Query)
		}
		want.Del("key")
		if err == nil && (leftErr != nil || left.Encode() != want.Encode()) {
			t.Errorf("%q without key is %q: other parameters changed", q, x.Request.Query)
		}
	})
}

// FuzzCookie asks that nobody finds a removed cookie, and that net/http finds the others unchanged.
func FuzzCookie(f *testing.F) {
	for _, c := range []string{"", "s=1", "a=1; s=2;b=3", `s="x"; s=y`, " s = 1 ", "S=1;;s", "\ts=1;a"} {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, c string) {
		if strings.ContainsAny(c, "\r\n\x00") {
			return // never in a field value
		}
		if strings.Count(c, ";") >= 3000 {
			return // of so many net/http, which is asked what there is, sees none
		}
		x := &exchange.Exchange{}
		x.Request.Header.Add(exchange.Field("Cookie", c))
		before := cookies(c)
		x.RemoveCookie("s")
		if _, _, ok := x.NextCookie("s", exchange.CookiePos{}); ok {
			t.Errorf("a removed cookie is found in %q", x.Request.Header.Get("Cookie"))
		}
		after := cookies(string(x.Request.Header.Get("Cookie")))
		if !slices.Equal(after, slices.DeleteFunc(before, func(s string) bool { return strings.HasPrefix(s, "s=") })) {
			t.Errorf("cookies of %q without s are %q, had %q", c, after, before)
		}
	})
}

func cookies(field string) []string {
	r := http.Request{Header: http.Header{"Cookie": {field}}}
	var out []string
	for _, c := range r.Cookies() {
		out = append(out, c.Name+"="+c.Value)
	}
	return out
}
