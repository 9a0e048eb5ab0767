package certmap_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certmap"
)

// list makes a list of domains, each with a certificate of the same name.
func list(domains ...string) []*configv1.UpstreamCertificate {
	var out []*configv1.UpstreamCertificate
	for _, d := range domains {
		out = append(out, &configv1.UpstreamCertificate{Domain: d, Certificate: d})
	}
	return out
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ domain, want string }{
		{"api.test", "api.test"},
		{"api.test:8443", "api.test:8443"},
		{"*.test", "*.test"},
		{"*.test:443", "*.test:443"},
		{"*", "*"},
		{"localhost", "localhost"},
		{"API.Test", "api.test"},
		{"*.API.Test:443", "*.api.test:443"},
		{"api.test.", "api.test"},
		{"api.test.:443", "api.test:443"},
		{"*.test.", "*.test"},
		{"my_service.ns.svc", "my_service.ns.svc"},
		{"xn--bcher-kva.test", "xn--bcher-kva.test"},
		{"10.0.0.1", "10.0.0.1"},
		{"10.0.0.1:443", "10.0.0.1:443"},
		{"[::1]", "[::1]"},
		{"[::1]:443", "[::1]:443"},
		{"[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"},
		{"[::ffff:10.0.0.1]:443", "10.0.0.1:443"},
		{"*.*.test", ""},
		{"api.*.test", ""},
		{"api.*.test:8443", ""},
		{"a*.test", ""},
		{"**", ""},
		{"*:443", ""},
		{"*.", ""},
		{"*.:443", ""},
		{"*test", ""},
		{"*.10.0.0.1", ""},
		{"*.[::1]", ""},
		{"", ""},
		{".", ""},
		{"api..test", ""},
		{".test", ""},
		{"api.test..", ""},
		{"https://api.test", ""},
		{"HTTPS://api.test:443", ""},
		{"https://*", ""},
		{"api.test/path", ""},
		{"user@api.test", ""},
		{"api.test?x", ""},
		{"api.test#x", ""},
		{"api.test:", ""},
		{"api.test:0", ""},
		{"api.test:0443", ""},
		{"api.test:+443", ""},
		{"api.test:65536", ""},
		{"api.test:https", ""},
		{"api.test:443:443", ""},
		{"::1", ""},
		{"2001:db8::1", ""},
		{"[::1", ""},
		{"[::1]443", ""},
		{"[10.0.0.1]", ""},
		{"[fe80::1%eth0]", ""},
		{"10.0.0.256", ""},
		{"10.0.1", ""},
		{"bücher.test", ""},
		{"a b.test", ""},
		{" api.test", ""},
		{strings.Repeat("a", 64) + ".test", ""},
	} {
		got, err := certmap.Parse(tt.domain)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("Parse(%q) = %q, %v, want %q", tt.domain, got, err, tt.want)
		}
	}
}

func TestTheReasonSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for domain, want := range map[string]string{
		"https://api.test":  "scheme",
		"https://*.test:44": "scheme",
		"*.*.test":          "star",
		"::1":               "brackets",
		"api.test:99999":    "65535",
		"bücher.test":       "A-labels",
	} {
		if _, err := certmap.Parse(domain); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want something with %q", domain, err, want)
		}
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	all := []string{"a.b.test:8443", "a.b.test", "*.b.test:8443", "*.b.test", "*"}
	without := func(gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(d string) bool { return slices.Contains(gone, d) })
	}
	for _, tt := range []struct {
		name           string
		service, group []string
		upstream       string
		want           string
	}{
		{"host and port", nil, all, "a.b.test:8443", "a.b.test:8443"},
		{"host", nil, without("a.b.test:8443"), "a.b.test:8443", "a.b.test"},
		{"host of another port", nil, all, "a.b.test:443", "a.b.test"},
		{"host before parent and port", nil, []string{"*.b.test:8443", "a.b.test"}, "a.b.test:8443", "a.b.test"},
		{"parent and port", nil, without("a.b.test:8443", "a.b.test"), "a.b.test:8443", "*.b.test:8443"},
		{"parent and port of a sister", nil, all, "x.b.test:8443", "*.b.test:8443"},
		{"parent", nil, []string{"*.b.test", "*"}, "a.b.test:8443", "*.b.test"},
		{"parent of another port", nil, all, "x.b.test:443", "*.b.test"},
		{"anything", nil, all, "other.test:443", "*"},
		{"anything of one label", nil, all, "localhost:443", "*"},
		{"nothing", nil, without("*"), "other.test:443", ""},
		{"an empty map", nil, nil, "a.b.test:443", ""},
		{"two levels below a star", nil, []string{"*.test"}, "a.b.test:443", ""},
		{"two levels below a star with a port", nil, []string{"*.test:443", "*.test"}, "a.b.test:443", ""},
		{"two levels below a star, anything", nil, []string{"*.test", "*"}, "a.b.test:443", "*"},
		{"three levels", nil, []string{"*.b.test", "*.test"}, "x.a.b.test:443", ""},
		{"the parent itself", nil, []string{"*.b.test"}, "b.test:443", ""},
		{"the parent itself with a port", nil, []string{"*.b.test:443"}, "b.test:443", ""},
		{"a name that only ends alike", nil, []string{"*.b.test"}, "a.xb.test:443", ""},
		{"only another port", nil, []string{"a.b.test:8443"}, "a.b.test:443", ""},
		{"only another port of the parent", nil, []string{"*.b.test:8443"}, "a.b.test:443", ""},
		{"a port that begins alike", nil, []string{"a.b.test:44"}, "a.b.test:443", ""},
		{"case of the map", nil, []string{"A.B.Test:443"}, "a.b.test:443", "A.B.Test:443"},
		{"case of the upstream", nil, []string{"a.b.test"}, "A.B.TEST:443", "a.b.test"},
		{"case under a star", nil, []string{"*.B.test"}, "A.b.TEST:443", "*.B.test"},
		{"trailing dot of the map", nil, []string{"a.b.test."}, "a.b.test:443", "a.b.test."},
		{"trailing dot of the map before a port", nil, []string{"a.b.test.:443"}, "a.b.test:443", "a.b.test.:443"},
		{"trailing dot of the upstream", nil, []string{"a.b.test"}, "a.b.test.:443", "a.b.test"},
		{"trailing dot under a star", nil, []string{"*.b.test"}, "a.b.test.:443", "*.b.test"},
		{"trailing dot of the parent is no label", nil, []string{"*.b.test"}, "b.test.:443", ""},
		{"IPv4", nil, []string{"10.0.0.1"}, "10.0.0.1:443", "10.0.0.1"},
		{"IPv4 and port", nil, []string{"10.0.0.1", "10.0.0.1:443"}, "10.0.0.1:443", "10.0.0.1:443"},
		{"IPv4 is below no star", nil, []string{"*.test"}, "10.0.0.1:443", ""},
		{"IPv4 is anything", nil, []string{"*"}, "10.0.0.1:443", "*"},
		{"IPv6", nil, []string{"[::1]"}, "[::1]:443", "[::1]"},
		{"IPv6 and port", nil, []string{"[::1]", "[::1]:443"}, "[::1]:443", "[::1]:443"},
		{"IPv6 and another port", nil, []string{"[::1]:8443"}, "[::1]:443", ""},
		{"IPv6 written otherwise", nil, []string{"[2001:DB8:0::1]"}, "[2001:db8:0:0:0:0:0:1]:443", "[2001:DB8:0::1]"},
		{"IPv4 in IPv6", nil, []string{"10.0.0.1"}, "[::ffff:10.0.0.1]:443", "10.0.0.1"},
		{"IPv6 is anything", nil, []string{"*"}, "[2001:db8::1]:443", "*"},
		{"a label that is a star", nil, []string{"*.test"}, "x_y.test:443", "*.test"},
		{"service before group", []string{"a.b.test."}, []string{"a.b.test"}, "a.b.test:443", "a.b.test."},
		{"anything of the service before all of the group", []string{"*"}, without("*"), "a.b.test:8443", "*"},
		{"parent of the service before the group's host", []string{"*.b.test"}, without("*.b.test"), "a.b.test:8443", "*.b.test"},
		{"service without a match", []string{"other.test"}, all, "a.b.test:8443", "a.b.test:8443"},
		{"service of another port", []string{"a.b.test:1"}, []string{"*"}, "a.b.test:8443", "*"},
		{"service alone", []string{"*"}, nil, "a.b.test:8443", "*"},
	} {
		service, wrong := certmap.New(list(tt.service...))
		group, also := certmap.New(list(tt.group...))
		if len(wrong)+len(also) > 0 {
			t.Errorf("%s: %v %v", tt.name, wrong, also)
		}
		got, err := certmap.Pick(tt.upstream, service, group, nil)
		if got != tt.want || err != nil {
			t.Errorf("%s: Pick(%q) = %q, %v, want %q", tt.name, tt.upstream, got, err, tt.want)
		}
	}
}

func TestWhatIsNoUpstreamHasNoCertificate(t *testing.T) {
	t.Parallel()
	m, _ := certmap.New(list("*"))
	for _, upstream := range []string{"", "a.test", "a.test:", "a.test:0", "a..test:443", "::1:443", "[::1]", "[x]:443", "*.test:443", "https://a.test:443"} {
		if c, err := certmap.Pick(upstream, m); c != "" || err == nil {
			t.Errorf("Pick(%q) = %q, %v, want an error", upstream, c, err)
		}
	}
}

func TestEachDomainIsThereOnce(t *testing.T) {
	t.Parallel()
	_, wrong := certmap.New(list("a.test", "https://a.test", "A.test.", "b.test", "[::1]", "[0::1]", "*", "*"))
	want := []int{1, 2, 5, 7}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(wrong))); diff != "" {
		t.Errorf("wrong entries (-want +got):\n%s%v", diff, wrong)
	}
}

func TestEachDomainHasACertificate(t *testing.T) {
	t.Parallel()
	_, wrong := certmap.New([]*configv1.UpstreamCertificate{{Domain: "a.test", Certificate: "c"}, {Domain: "b.test"}, {Domain: "*.*"}})
	if len(wrong) != 2 || !errors.Is(wrong[1], certmap.ErrNoCertificate) || errors.Is(wrong[2], certmap.ErrNoCertificate) {
		t.Errorf("wrong entries: %v", wrong)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.test", "*.a.test:443", "*", "[::1]:443", "A.test.:1", "https://a.test", "*.*.a", "::1", "10.0.0.1", "a.*.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, domain string) {
		normal, err := certmap.Parse(domain)
		if err != nil {
			return
		}
		if again, err := certmap.Parse(normal); again != normal || err != nil {
			t.Fatalf("Parse(%q) = %q, whose own normal form is %q, %v", domain, normal, again, err)
		}
		m, wrong := certmap.New(list(domain))
		if len(wrong) > 0 {
			t.Fatalf("New(%q): %v", domain, wrong)
		}
		upstream := strings.Replace(normal, "*.", "x.", 1)
		if upstream == "*" {
			upstream = "x.test"
		}
		if i := strings.LastIndexByte(upstream, ':'); i < strings.IndexByte(upstream, ']') || i < 0 {
			upstream += ":1"
		}
		if len(upstream) > 250 { // a label more may be one too many for a name
			return
		}
		if got, err := certmap.Pick(upstream, m); got != domain || err != nil {
			t.Fatalf("Pick(%q) of %q = %q, %v", upstream, domain, got, err)
		}
		deeper := "y." + upstream
		if got, _ := certmap.Pick(deeper, m); got != "" && normal != "*" {
			t.Fatalf("Pick(%q) of %q = %q: a star took two labels, or a name another one", deeper, domain, got)
		}
	})
}
