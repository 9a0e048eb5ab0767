package httpsig_test

import (
	"errors"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpsig"
)

// covered returns the value of one component of the message.
func covered(m *httpsig.Message, identifier string) (string, error) {
	m.Header.Del("Signature-Input")
	m.Header.Del("Signature")
	m.Header = append(m.Header, exchange.Field("Signature-Input", "s=("+identifier+")"), exchange.Field("Signature", "s=:AA==:"))
	s, err := labelled(m, "s")
	if err != nil {
		return "", err
	}
	base, err := s.Base(m, heap{})
	if err != nil {
		return "", err
	}
	value, _, _ := strings.Cut(string(base), "\n\"@signature-params\": ")
	return strings.TrimPrefix(value, identifier+": "), nil
}

func TestComponents(t *testing.T) {
	t.Parallel()
	fields := []string{
		"X-OWS-Header:   Leading and trailing whitespace.   ", "Cache-Control: max-age=60", "Cache-Control:    must-revalidate",
		"Example-Dict:  a=1,    b=2;x=1;y=2,   c=(a   b   c), d", "X-Empty-Header:", "Example-Header: value, with, lots", "Example-Header: of, commas",
		"Priority: u=1,  i=?1;a=?1 ,x=007.50;b=-0", "Client-Cert-Chain: :AA==:,   :AAAA:", "Idempotency-Key:  \"8e\\\"03\" ; a",
		"Latin: caf\xe9",
	}
	tests := []struct{ line, identifier, want string }{
		{"GET /a", `"x-ows-header"`, "Leading and trailing whitespace."},
		{"GET /a", `"cache-control"`, "max-age=60, must-revalidate"},
		{"GET /a", `"example-dict"`, "a=1,    b=2;x=1;y=2,   c=(a   b   c), d"},
		{"GET /a", `"x-empty-header"`, ""},
		{"GET /a", `"example-dict";key="a"`, "1"},
		{"GET /a", `"example-dict";key="d"`, "?1"},
		{"GET /a", `"example-dict";key="b"`, "2;x=1;y=2"},
		{"GET /a", `"example-dict";key="c"`, "(a b c)"},
		{"GET /a", `"example-header";bs`, ":dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:"},
		{"GET /a", `"latin";bs`, ":Y2Fm6Q==:"},
		{"GET /a", `"priority";sf`, "u=1, i;a, x=7.5;b=0"},
		{"GET /a", `"client-cert-chain";sf`, ":AA==:, :AAAA:"},
		{"POST /path?param=value", `"@method"`, "POST"},
		{"get /", `"@method"`, "get"},
		{"POST /path?param=value", `"@target-uri"`, "https://www.example.com/path?param=value"},
		{"GET http://www.example.com/a?b", `"@target-uri"`, "https://www.example.com/a?b"},
		{"OPTIONS *", `"@target-uri"`, "https://www.example.com"},
		{"GET /a", `"@authority"`, "www.example.com"},
		{"GET /a", `"@scheme"`, "https"},
		{"GET /path?param=value", `"@request-target"`, "/path?param=value"},
		{"GET https://www.example.com/path?x", `"@request-target"`, "https://www.example.com/path?x"},
		{"OPTIONS *", `"@request-target"`, "*"},
		{"GET /path?a=/b", `"@path"`, "/path"},
		{"GET /A%2fb//c/../d", `"@path"`, "/A%2fb//c/../d"},
		{"GET https://www.example.com?a=/b", `"@path"`, "/"},
		{"GET /path?param=value&foo=bar&baz=bat%2Dman", `"@query"`, "?param=value&foo=bar&baz=bat%2Dman"},
		{"GET /path?queryString", `"@query"`, "?queryString"},
		{"GET /path", `"@query"`, "?"},
		{"GET /path?", `"@query"`, "?"},
		{"GET /path?param=value&foo=bar&baz=batman&qux=", `"@query-param";name="baz"`, "batman"},
		{"GET /path?param=value&foo=bar&baz=batman&qux=", `"@query-param";name="qux"`, ""},
		{"GET /p?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something", `"@query-param";name="var"`, "this%20is%20a%20big%0Amultiline%20value"},
		{"GET /p?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something", `"@query-param";name="bar"`, "with%20plus%20whitespace"},
		{"GET /p?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something", `"@query-param";name="fa%C3%A7ade%22%3A%20"`, "something"},
		{"GET /a", `"host"`, "www.Example.com:443"},
	}
	for _, tt := range tests {
		t.Run(tt.line+" "+tt.identifier, func(t *testing.T) {
			t.Parallel()
			m := request(t, append([]string{tt.line, "Host: www.Example.com:443"}, fields...)...)
			if got, err := covered(m, tt.identifier); err != nil || got != tt.want {
				t.Errorf("value of %s is %q, %v; want %q", tt.identifier, got, err, tt.want)
			}
		})
	}
}

func TestAuthorityLeavesOutThePortOfItsScheme(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ scheme, host, want string }{
		{"https", "a.test:443", "a.test"},
		{"http", "a.test:80", "a.test"},
		{"https", "a.test:80", "a.test:80"},
		{"http", "A.test:8080", "a.test:8080"},
		{"https", "[::1]:443", "[::1]"},
		{"https", "a.test:", "a.test"},
	} {
		m := request(t, "GET /", "Host: "+tt.host)
		m.Scheme = tt.scheme
		if got, err := covered(m, `"@authority"`); err != nil || got != tt.want {
			t.Errorf("authority of %s://%s is %q, %v; want %q", tt.scheme, tt.host, got, err, tt.want)
		}
	}
}

// Without a Host field, as in HTTP/2, what stands for it can be covered all the same.
func TestHostOfHTTP2(t *testing.T) {
	t.Parallel()
	m := request(t, "GET /")
	m.Authority = []byte("a.test")
	if got, err := covered(m, `"host"`); err != nil || got != "a.test" {
		t.Errorf("host is %q, %v", got, err)
	}
}

func TestComponentsThatAreRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, identifier string
		want             error
	}{
		{"status of a request", `"@status"`, httpsig.ErrUnsupported},
		{"signature-params itself", `"@signature-params"`, httpsig.ErrUnsupported},
		{"nobody knows it", `"@nonsense"`, httpsig.ErrUnsupported},
		{"of the request that is answered", `"@method";req`, httpsig.ErrUnsupported},
		{"field of the request that is answered", `"host";req`, httpsig.ErrUnsupported},
		{"trailer", `"host";tr`, httpsig.ErrUnsupported},
		{"unknown parameter", `"host";foo`, httpsig.ErrUnsupported},
		{"flag that is not set", `"priority";sf=?0`, httpsig.ErrUnsupported},
		{"strict and wrapped", `"priority";bs;sf`, httpsig.ErrUnsupported},
		{"strict form of an unknown field", `"x";sf`, httpsig.ErrUnsupported},
		{"strict form of what has none", `"content-digest";sf`, httpsig.ErrMalformed},
		{"member of what has none", `"content-digest";key="a"`, httpsig.ErrMalformed},
		{"member that is not there", `"priority";key="zz"`, httpsig.ErrAbsent},
		{"member that is there twice", `"twice";key="a"`, httpsig.ErrMalformed},
		{"field that is not there", `"x-missing"`, httpsig.ErrAbsent},
		{"wrapped field that is not there", `"x-missing";bs`, httpsig.ErrAbsent},
		{"parameter that is not there", `"@query-param";name="nope"`, httpsig.ErrAbsent},
		{"parameter that is there twice", `"@query-param";name="a"`, httpsig.ErrUnsupported},
		{"parameter that is no text", `"@query-param";name="b"`, httpsig.ErrUnsupported},
		{"parameter without a name", `"@query-param"`, httpsig.ErrUnsupported},
		{"name where there is none", `"@path";name="a"`, httpsig.ErrUnsupported},
		{"upper case", `"Host"`, httpsig.ErrMalformed},
		{"no name", `""`, httpsig.ErrMalformed},
		{"no field's name", `"a b"`, httpsig.ErrMalformed},
		{"line end", "\"a\nb\"", httpsig.ErrMalformed},
		{"twice", `"host" "host"`, httpsig.ErrMalformed},
		{"token", `host`, httpsig.ErrMalformed},
		{"without space", `"host""x"`, httpsig.ErrMalformed},
		{"beyond ASCII", `"latin"`, httpsig.ErrUnsupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := request(t, "GET /?a=1&a=2&b=%ff", "Host: a.test", "X: y", "Priority: u=1", "Content-Digest: a=(", "Twice: a=1, a=2", "Latin: caf\xe9")
			if got, err := covered(m, tt.identifier); !errors.Is(err, tt.want) {
				t.Errorf("value of %s is %q, %v; want %v", tt.identifier, got, err, tt.want)
			}
		})
	}
}
