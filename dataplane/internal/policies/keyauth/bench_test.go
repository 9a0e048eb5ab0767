package keyauth_test

import (
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policies/keyauth"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// anybody knows one credential, so that what is measured is the policy and not the table.
type anybody struct {
	exchange.Directory
	credential exchange.Credential
}

func (a *anybody) Credential(string, []byte) *exchange.Credential { return &a.credential }

// body is one that has come.
type body string

// in returns what makes it the body of a request, as one of that type.
func (b body) in(contentType string) func(x *exchange.Exchange) {
	field, r := exchange.Field("Content-Type", contentType), &received{[]byte(b)}
	return func(x *exchange.Exchange) {
		x.Request.Header.Add(field)
		x.Request.ContentLength, x.Bodies = int64(len(b)), r
	}
}

type received struct{ b []byte }

func (r *received) ReadBody(int64) ([]byte, *exchange.Refusal) { return r.b, nil }

// request presents its key where the policy looks.
type request struct {
	name   string
	config *policyv1.KeyAuth
	fill   func(x *exchange.Exchange)
}

func requests() []request {
	form := body("a=b&c=d&key=kwk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	object := body(`{"a":"b","key":"kwk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ","c":[{"d":1.5},null,"e"]}`)
	key := exchange.Field("X-API-Key", "kwk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	cookie := exchange.Field("Cookie", "a=b; key=kwk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	query := []byte("a=b&key=kwk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	return []request{
		{"header", &policyv1.KeyAuth{}, func(x *exchange.Exchange) { x.Request.Header.Add(key) }},
		{"query", &policyv1.KeyAuth{Query: []string{"key"}}, func(x *exchange.Exchange) { x.Request.Query = query }},
		{"cookie", &policyv1.KeyAuth{Cookie: []string{"key"}}, func(x *exchange.Exchange) { x.Request.Header.Add(cookie) }},
		{"form", &policyv1.KeyAuth{Body: []string{"key"}}, form.in("application/x-www-form-urlencoded")},
		{"JSON", &policyv1.KeyAuth{Body: []string{"key"}}, object.in("application/json")},
	}
}

// warm returns what a server does with the same request over and over.
func (r *request) warm(t testing.TB) func() {
	t.Helper()
	p, err := keyauth.Build(r.config)
	if err != nil {
		t.Fatal(err)
	}
	hider, ok := p.(policy.Hider)
	if !ok {
		t.Fatal("the policy hides nothing")
	}
	x, fields := &exchange.Exchange{}, exchange.Headers{exchange.Field("Host", "a.test"), exchange.Field("User-Agent", "bench"), exchange.Field("Accept", "*/*")}
	d, now := &anybody{credential: exchange.Credential{Principal: &exchange.Principal{Consumer: "alice"}}}, time.Now()
	return func() {
		x.Reset()
		x.Request.Header = append(x.Request.Header, fields...)
		x.Directory, x.Timings.Received = d, now
		r.fill(x)
		if p.Request(x) != policy.Next {
			t.Fatal("refused")
		}
		hider.Hide(x)
	}
}

func BenchmarkWarm(b *testing.B) {
	for _, r := range requests() {
		b.Run(r.name, func(b *testing.B) {
			once := r.warm(b)
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}
