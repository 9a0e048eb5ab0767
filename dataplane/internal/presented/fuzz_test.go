package presented_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/presented"
)

// FuzzObject asks that what is found in JSON is what encoding/json finds, and that of what is forwarded only that is missing.
func FuzzObject(f *testing.F) {
	for _, s := range []string{
		`{"key":"k"}`, ` { "a" : [1,{"key":"]"}] , "\u006bey":"\ud83d\ude00\/\b\f\n\r\t\"\\" } `, `{"key":"\ud800x","b":-1e9}`, `[]`, `"key"`, `{}`,
		`{"key":{"key":"k"}}`, `{"a":"key","key":null}`, "{\"key\":\"\xff\"}", `{"key":"a","key":"b"}`, `{`, `1`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		x := request("", nil, "application/json", body)
		p := presented.New(presented.Config{Body: []string{"key"}})
		got := p.Find(x)
		if body == "" {
			return
		}
		if !json.Valid([]byte(body)) || !utf8.ValidString(body) {
			if got.Outcome != presented.Unread {
				t.Fatalf("%q is no JSON, but %v", body, got)
			}
			return
		}
		var members map[string]any
		_ = json.Unmarshal([]byte(body), &members)
		if v, ok := members["key"].(string); got.Outcome != presented.Several {
			if got.Outcome == presented.One != (v != "") || got.Outcome == presented.One && string(got.Value) != v {
				t.Fatalf("of %q found %d %q, want %q %v", body, got.Outcome, got.Value, v, ok)
			}
		}
		p.Hide(x)
		var left map[string]any
		rest, _ := x.Body(1 << 20)
		if !json.Valid(rest) {
			t.Fatalf("of %q is left %q", body, rest)
		}
		_ = json.Unmarshal(rest, &left)
		delete(members, "key")
		if diff := cmp.Diff(members, left); diff != "" && len(members)+len(left) > 0 {
			t.Fatalf("of %q is left %q (-want +got):\n%s", body, rest, diff)
		}
	})
}

// FuzzForm asks the same of forms and net/url.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"key=k", "a=b&%6bey=%2b+&c", "key", "&&key=&", "key=%", "key=a&key=b", "a=%zz", "=k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		x := &exchange.Exchange{}
		if !strings.Contains(body, ";") { // net/url refuses them
			x = request("", nil, "application/x-www-form-urlencoded", body)
		}
		p := presented.New(presented.Config{Body: []string{"key"}})
		got := p.Find(x)
		want, err := url.ParseQuery(body)
		if x.Request.ContentLength == 0 {
			return
		}
		if err != nil || !utf8.ValidString(body) {
			if got.Outcome != presented.Unread {
				t.Fatalf("%q is no form, but %v", body, got)
			}
			return
		}
		switch vs := want["key"]; {
		case len(vs) > 1:
			if got.Outcome != presented.Several {
				t.Fatalf("of %q found %v, want several", body, got)
			}
		case got.Outcome == presented.One != (want.Get("key") != ""), got.Outcome == presented.One && string(got.Value) != vs[0]:
			t.Fatalf("of %q found %v, want %q", body, got, vs)
		}
		p.Hide(x)
		rest, _ := x.Body(1 << 20)
		left, err := url.ParseQuery(string(rest))
		delete(want, "key")
		if diff := cmp.Diff(want, left); diff != "" || err != nil {
			t.Fatalf("of %q is left %q, %v (-want +got):\n%s", body, rest, err, diff)
		}
	})
}
