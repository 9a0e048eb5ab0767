package presented_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/presented"
)

// source is a body that has come.
type source string

func (s source) ReadBody(limit int64) ([]byte, *exchange.Refusal) {
	if int64(len(s)) > limit {
		return nil, exchange.RefuseBodyTooLong
	}
	return []byte(s), nil
}

// request makes an exchange: a query, fields as "Name: value", and a body of that type.
func request(query string, fields []string, contentType, body string) *exchange.Exchange {
	x := &exchange.Exchange{}
	if query != "" {
		x.Request.Query = []byte(query)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.Request.Header.Add(exchange.Field(name, value))
	}
	if contentType != "" {
		x.Request.Header.Add(exchange.Field("Content-Type", contentType))
	}
	if x.Request.ContentLength = int64(len(body)); body != "" {
		x.Bodies = source(body)
	}
	return x
}

// found is what a test wants to be found: an outcome with the credential and its scheme, or the refusal's status.
type found struct {
	Outcome       presented.Outcome
	Value, Scheme string
	Status        int
}

func find(p *presented.Places, x *exchange.Exchange) found {
	f := p.Find(x)
	out := found{Outcome: f.Outcome}
	if f.Outcome == presented.One {
		out.Value, out.Scheme = string(f.Value), f.Scheme
	}
	if r := x.Refusal(); r != nil {
		out.Status = r.Status()
	}
	return out
}

func one(v string) found { return found{Outcome: presented.One, Value: v} }

var (
	none    = found{Outcome: presented.None}
	several = found{Outcome: presented.Several}
)

func unread(status int) found { return found{Outcome: presented.Unread, Status: status} }

func TestFindInHead(t *testing.T) {
	t.Parallel()
	everywhere := presented.Config{Header: []string{"X-Key", "X-Other"}, Query: []string{"key"}, Cookie: []string{"key"}}
	bearer := presented.Config{Header: []string{"Authorization", "X-Token"}, Schemes: []string{"Bearer", "DPoP"}}
	tests := []struct {
		name   string
		config presented.Config
		query  string
		fields []string
		want   found
	}{
		{"nowhere", everywhere, "a=b", []string{"Host: a", "Cookie: a=b"}, none},
		{"in a field", everywhere, "", []string{"x-key: k"}, one("k")},
		{"empty", everywhere, "", []string{"X-Key: "}, none},
		{"in the query", everywhere, "a=b&key=%6b", nil, one("k")},
		{"in a cookie", everywhere, "", []string{`Cookie: a=b; key="k"`}, one("k")},
		{"the same everywhere", everywhere, "key=k", []string{"X-Key: k", "X-Other: k", "Cookie: key=k"}, one("k")},
		{"different ones", everywhere, "key=l", []string{"X-Key: k"}, several},
		{"an empty one beside another", everywhere, "key=", []string{"X-Key: k"}, several},
		{"twice in fields", everywhere, "", []string{"X-Key: k", "X-Key: k"}, several},
		{"twice in the query", everywhere, "key=k&key=k", nil, several},
		{"twice in cookies", everywhere, "", []string{"Cookie: key=k", "Cookie: key=k"}, several},
		{"of a scheme", bearer, "", []string{"Authorization: bearer  k"}, found{presented.One, "k", "Bearer", 0}},
		{"of another of its schemes", bearer, "", []string{"Authorization: DPoP k"}, found{presented.One, "k", "DPoP", 0}},
		{"of a foreign scheme", bearer, "", []string{"Authorization: Basic k"}, none},
		{"of no scheme", bearer, "", []string{"Authorization: k"}, none},
		{"nothing but the scheme", bearer, "", []string{"Authorization: Bearer"}, none},
		{"a scheme that only begins alike", bearer, "", []string{"Authorization: Bearers k"}, none},
		{"another field needs no scheme", bearer, "", []string{"X-Token: k"}, one("k")},
		{"another field may have one", bearer, "", []string{"X-Token: Bearer k"}, found{presented.One, "k", "Bearer", 0}},
		{"beside a foreign scheme", bearer, "", []string{"Authorization: Basic x", "Authorization: Bearer k"}, several},
		{"two of a foreign scheme", bearer, "", []string{"Authorization: Basic x", "Authorization: Basic y"}, none},
		{"two of them", bearer, "", []string{"Authorization: Bearer k", "Authorization: Bearer k"}, several},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, find(presented.New(tt.config), request(tt.query, tt.fields, "", ""))); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindInBody(t *testing.T) {
	t.Parallel()
	const form, object = "application/x-www-form-urlencoded", "application/json"
	tests := []struct {
		name, contentType, body string
		fields                  []string
		want                    found
	}{
		{"in a form", form, "a=b&key=k%2b+", nil, one("k+ ")},
		{"in a form with a name written otherwise", form, "%6bey=k", nil, one("k")},
		{"in a form twice", form, "key=k&%6bey=k", nil, several},
		{"in a form and a field", form, "key=k", []string{"X-Key: k"}, one("k")},
		{"in a form and another in a field", form, "key=l", []string{"X-Key: k"}, several},
		{"two in fields", form, "key=%", []string{"X-Key: k", "X-Key: k"}, several},
		{"in a form that is broken", form, "key=k&a=%4", nil, unread(400)},
		{"in a form with a charset", form + "; charset=\"UTF-8\"", "key=k", nil, one("k")},
		{"in a form with a foreign charset", form + ";a=b; Charset=utf-16", "key=k", nil, unread(415)},
		{"in a form that is compressed", form, "key=k", []string{"Content-Encoding: gzip"}, unread(415)},
		{"in a form that is not", form, "key=k", []string{"Content-Encoding: identity"}, one("k")},
		{"not in a form", form, "a=key", nil, none},
		{"empty in a form", form, "key=", nil, none},
		{"no body", form, "", nil, none},
		{"in JSON", object, `{"a": [1, {"key": "no"}, "]"], "key" : "k", "b": null}`, nil, one("k")},
		{"in JSON of another type", "Application/Problem+JSON; x=y", `{"key":"k"}`, nil, one("k")},
		{"in JSON with a name written otherwise", object, `{"\u006bey":"\ud83d\ude00\n"}`, nil, one("😀\n")},
		{"in JSON twice", object, `{"key":"k","\u006bey":"k"}`, nil, several},
		{"in JSON, then a number", object, `{"key":"k","key":1}`, nil, several},
		{"a number in JSON", object, `{"key":1}`, nil, none},
		{"not in JSON", object, `{"a":"key","KEY":"k"}`, nil, none},
		{"below an object of JSON", object, `{"a":{"key":"k"}}`, nil, none},
		{"a list of JSON", object, `[{"key":"k"}]`, nil, none},
		{"in JSON that is broken", object, `{"key":"k"`, nil, unread(400)},
		{"in JSON that is not UTF-8", object, "{\"key\":\"k\xff\"}", nil, unread(400)},
		{"in JSON that is compressed", object, `{"key":"k"}`, []string{"Content-Encoding: br"}, unread(415)},
		{"longer than is looked into", object, `{"key":"k","a":"` + strings.Repeat("x", presented.DefaultMaxBody) + `"}`, nil, unread(413)},
		{"of a type that is not looked into", "text/plain", "key=k", nil, none},
		{"of no type", "", "key=k", nil, none},
		{"of two types", form, "key=k", []string{"Content-Type: text/plain"}, unread(400)},
	}
	p := presented.New(presented.Config{Header: []string{"X-Key"}, Body: []string{"other", "key"}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, find(p, request("", tt.fields, tt.contentType, tt.body))); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHide(t *testing.T) {
	t.Parallel()
	all := presented.Config{
		Header: []string{"Authorization", "X-Key"}, Query: []string{"key"}, Cookie: []string{"key"}, Body: []string{"key", "token"}, Schemes: []string{"Bearer"},
	}
	kept := all
	kept.Keep = true
	const form, object = "application/x-www-form-urlencoded", "application/json"
	tests := []struct {
		name, query, contentType, body string
		config                         presented.Config
		fields                         []string
		wantQuery, wantBody            string
		wantFields                     []string
	}{
		{name: "in the head", query: "a=b&key=k", config: all, fields: []string{"Authorization: Bearer k", "X-Key: k", "Cookie: a=b; key=k", "Host: a"}, wantQuery: "a=b", wantFields: []string{"Cookie: a=b", "Host: a"}},
		{name: "not of other schemes", config: all, fields: []string{"Authorization: Basic a", "Authorization: Bearer k", "Authorization: Basic b"}, wantFields: []string{"Authorization: Basic a", "Authorization: Basic b"}},
		{name: "kept", query: "key=k", config: kept, contentType: form, body: "key=k", wantQuery: "key=k", wantBody: "key=k", fields: []string{"X-Key: k"}, wantFields: []string{"X-Key: k"}},
		{name: "in a form", config: all, contentType: form, body: "a=b&key=k&c=d&%74oken=t", wantBody: "a=b&c=d"},
		{name: "all of a form", config: all, contentType: form, body: "key=k", wantBody: ""},
		{name: "not in a form", config: all, contentType: form, body: "a=b&&", wantBody: "a=b&&"},
		{name: "first in JSON", config: all, contentType: object, body: ` { "key" : "k" , "a" : [1, 2] } `, wantBody: ` {"a" : [1, 2]} `},
		{name: "in the middle of JSON", config: all, contentType: object, body: `{"a":1,"key":{"x":"}"},"b":2}`, wantBody: `{"a":1,"b":2}`},
		{name: "last in JSON", config: all, contentType: object, body: `{"a":"\"",   "token":"t","\u006bey":"k"}`, wantBody: `{"a":"\""}`},
		{name: "all of JSON", config: all, contentType: object, body: `{"key":"k"}`, wantBody: `{}`},
		{name: "not in JSON", config: all, contentType: object, body: `{ "a" : {"key":1} }`, wantBody: `{ "a" : {"key":1} }`},
		{name: "not in JSON that is broken", config: all, contentType: object, body: `{"key":"k"`, wantBody: `{"key":"k"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := request(tt.query, tt.fields, tt.contentType, tt.body)
			presented.New(tt.config).Hide(x)
			body, ok := x.Body(1 << 20)
			if string(body) != tt.wantBody || !ok || string(x.Request.Query) != tt.wantQuery || x.Refusal() != nil {
				t.Errorf("left are the query %q and the body %q (refused: %v), want %q and %q", x.Request.Query, body, x.Refusal(), tt.wantQuery, tt.wantBody)
			}
			if _, replaced := x.ReplacedBody(); replaced != (tt.body != tt.wantBody) {
				t.Errorf("the body is replaced: %v", replaced)
			}
			var fields []string
			for _, f := range x.Request.Header {
				if !exchange.EqualFold(f.Name, "Content-Type") {
					fields = append(fields, string(f.Name)+": "+string(f.Value))
				}
			}
			if diff := cmp.Diff(tt.wantFields, fields); diff != "" {
				t.Errorf("fields left (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	names := []string{"Authorization", "X-Key"}
	if diff := cmp.Diff(names, presented.New(presented.Config{Header: names}).Fields()); diff != "" {
		t.Errorf("Fields() (-want +got):\n%s", diff)
	}
}
