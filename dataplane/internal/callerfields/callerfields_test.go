package callerfields_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/callerfields"
	"keyward.dev/dataplane/internal/exchange"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

func all() *configv1.IdentityHeaders {
	return &configv1.IdentityHeaders{
		Consumer: "X-Consumer-Name", ConsumerId: "X-Consumer-ID", Username: "X-Consumer-Username", CustomId: "X-Consumer-Custom-ID", Kind: "X-Kind",
		CredentialName: "X-Credential", Groups: "X-Groups", Scopes: "X-Scopes", Subject: "X-Subject", How: "X-How", Anonymous: "X-Anonymous-Consumer",
	}
}

func lines(h exchange.Headers) (out []string) {
	for _, f := range h {
		out = append(out, string(f.Name)+": "+string(f.Value))
	}
	return out
}

// TestRemove is the forgery table: what any server may take for one of the fields goes, and nothing else.
func TestRemove(t *testing.T) {
	t.Parallel()
	long := "X-" + strings.Repeat("a", 100)
	m := all()
	m.How = long
	fields := callerfields.New(m)
	tests := []struct {
		name string
		gone bool
	}{
		{"X-Consumer-Name", true},
		{"x-consumer-name", true},
		{"X-CONSUMER-NAME", true},
		{"X_Consumer_Name", true},
		{"x_consumer-name", true},
		{"X.Consumer.Name", true},
		{"X~Consumer!Name", true},
		{"X-Groups", true},
		{"x_groups", true},
		{"X_Anonymous_Consumer", true},
		{long, true},
		{strings.ToUpper(long), true},
		{long + "a", false},
		{"X-Consumer-Name2", false},
		{"X-Consumer-Nam", false},
		{"XX-Consumer-Name", false},
		{"X-Consumer-Nama", false},
		{"Xx-onsumer-Name", false},
		{"Consumer-Name", false},
		{"", false},
	}
	for _, tt := range tests {
		h := exchange.Headers{
			exchange.Field("Accept", "*/*"), exchange.Field(tt.name, "forged"), exchange.Field(tt.name, "twice"), exchange.Field("X-Last", "1"),
		}
		want := lines(h)
		if tt.gone {
			want = []string{"Accept: */*", "X-Last: 1"}
		}
		if fields.Remove(&h); fields.Claims([]byte(tt.name)) != tt.gone {
			t.Errorf("Claims(%q) = %v, want %v", tt.name, !tt.gone, tt.gone)
		}
		if diff := cmp.Diff(want, lines(h)); diff != "" {
			t.Errorf("Remove() of %q (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("g", 3000)
	tests := []struct {
		name      string
		principal *exchange.Principal
		want      []string
	}{
		{"nobody was asked for", nil, nil},
		{
			"everything",
			&exchange.Principal{
				Kind: exchange.KindMachine, Consumer: "alice", ConsumerUID: "u-1", Credential: "k1",
				Groups: []string{"gold", "staff"}, How: "key-auth",
				Attributes: &exchange.Attributes{Username: "alice@x.test", CustomID: "42", Scopes: []string{"read", "a:write"}, Subject: "auth0|7"},
			},
			[]string{
				"X-Consumer-Name: alice", "X-Consumer-ID: u-1", "X-Consumer-Username: alice@x.test", "X-Consumer-Custom-ID: 42", "X-Kind: machine",
				"X-Credential: k1", "X-Groups: gold,staff", "X-Scopes: read a:write", "X-Subject: auth0|7", "X-How: key-auth",
			},
		},
		{"little", &exchange.Principal{Kind: exchange.KindUser, Attributes: &exchange.Attributes{Subject: "s"}}, []string{"X-Kind: user", "X-Subject: s"}},
		{
			"anonymous", &exchange.Principal{Consumer: "guest", How: "anonymous"},
			[]string{"X-Consumer-Name: guest", "X-Kind: anonymous", "X-How: anonymous", "X-Anonymous-Consumer: true"},
		},
		{
			"what would be more than a value",
			&exchange.Principal{
				Kind: exchange.KindUser, Groups: []string{"a,root", "", "b c"},
				Attributes: &exchange.Attributes{Username: " Zoë\r\nX-Groups: root", Subject: "100%\x00\x7f", Scopes: []string{"a b", "c,d"}},
			},
			[]string{
				"X-Consumer-Username: %20Zo%C3%AB%0D%0AX-Groups:%20root", "X-Kind: user", "X-Groups: a%2Croot,b%20c", "X-Scopes: a%20b c,d", "X-Subject: 100%25%00%7F",
			},
		},
		{
			"what would be too long",
			&exchange.Principal{Kind: exchange.KindUser, Attributes: &exchange.Attributes{Subject: strings.Repeat("s", 8193)}, Groups: []string{long, long, long, "x"}},
			[]string{"X-Kind: user", "X-Groups: " + long + "," + long},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := &exchange.Exchange{Principal: tt.principal}
			callerfields.New(all()).Add(x)
			if diff := cmp.Diff(tt.want, lines(x.Request.Header)); diff != "" {
				t.Errorf("Add() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoFields(t *testing.T) {
	t.Parallel()
	f := callerfields.New(nil)
	x := &exchange.Exchange{Principal: &exchange.Principal{Consumer: "alice"}}
	x.Request.Header.Add(exchange.Field("X-Consumer-Name", "mine"))
	f.Remove(&x.Request.Header)
	f.Add(x)
	if got := lines(x.Request.Header); f != nil || len(got) != 1 {
		t.Errorf("fields %v leave %q", f, got)
	}
}

func BenchmarkFields(b *testing.B) {
	f, x := callerfields.New(all()), &exchange.Exchange{}
	who := &exchange.Principal{
		Kind: exchange.KindUser, Consumer: "alice", ConsumerUID: "3f0c6f6e-3b1c-4c9f-9b62-0f2a54f0a1de", Credential: "k1", Groups: []string{"gold", "staff"}, How: "key-auth",
	}
	claims := exchange.Headers{
		exchange.Field("User-Agent", "bench"), exchange.Field("Accept", "*/*"), exchange.Field("x_groups", "root"), exchange.Field("X-Request-Tag", "1"),
	}
	b.ReportAllocs()
	for b.Loop() {
		x.Reset()
		x.Principal = who
		x.Request.Header = append(x.Request.Header, claims...)
		f.Remove(&x.Request.Header)
		f.Add(x)
	}
}
