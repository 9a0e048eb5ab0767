package sni_test

import (
	"crypto/tls"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/shared/check/certs"
)

func termsOf(key string) *sni.Terms { return &sni.Terms{Key: key, Protocols: []string{key}} }

func named(name string, snis ...string) *sni.Certificate {
	return sni.Open("uid-"+name, &certs.Set{Name: name, SNIs: snis})
}

func TestTermsAreThoseOfTheNameThatIsShown(t *testing.T) {
	t.Parallel()
	strict, wild, plain := named("strict", "a.b.test").On(termsOf("strict")), named("wild", "*.b.test").On(termsOf("wild")), named("plain", "c.b.test")
	other := named("other").On(termsOf("other"))
	table := sni.New([]*sni.Certificate{strict, wild, plain}, []*sni.Certificate{other})
	for name, want := range map[string]*sni.Terms{
		"a.b.test": termsOf("strict"), "x.b.test": termsOf("wild"), "c.b.test": nil, "y.x.b.test": nil, "b.test": nil, "d.test": nil, "": nil,
	} {
		if diff := cmp.Diff(want, table.Terms([]byte(name))); diff != "" {
			t.Errorf("Terms(%q) (-want +got):\n%s", name, diff)
		}
	}
	for what, silent := range map[string]*sni.Table{"no table": nil, "nobody who says anything": sni.New([]*sni.Certificate{plain}, nil)} {
		if got := silent.Terms([]byte("c.b.test")); got != nil {
			t.Errorf("%s has terms: %v", what, got)
		}
	}
}

// TestNamesOfWhichItIsNotClearHowTheyAreSpokenAreClosed gives one name to certificates that say different things of it.
func TestNamesOfWhichItIsNotClearHowTheyAreSpokenAreClosed(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	open := func(name string, terms *sni.Terms, snis ...string) *sni.Certificate {
		return sni.Open("uid-"+name, &certs.Set{Name: name, SNIs: snis, Current: version(t, k.ecdsa, noon)}).On(terms)
	}
	for _, tt := range []struct {
		name   string
		others []*sni.Certificate
		closed []string
	}{
		{"the same", []*sni.Certificate{open("b", termsOf("x"), "a.test")}, nil},
		{"something else", []*sni.Certificate{open("b", termsOf("y"), "a.test", "c.test")}, []string{"a.test"}},
		{"nothing", []*sni.Certificate{open("b", nil, "a.test")}, []string{"a.test"}},
		{"something else of another name", []*sni.Certificate{open("b", termsOf("y"), "c.test")}, nil},
		{"one that cannot be used", []*sni.Certificate{sni.Closed("uid-b", "b", []string{"a.test"}).On(termsOf("y"))}, []string{"a.test"}},
	} {
		table := sni.New(append([]*sni.Certificate{open("a", termsOf("x"), "a.test", "b.test")}, tt.others...), nil)
		var torn []string
		for _, one := range table.Torn() {
			torn = append(torn, one.Name)
			if len(one.Certificates) != 2 {
				t.Errorf("%s: %s is torn between %d certificates", tt.name, one.Name, len(one.Certificates))
			}
		}
		if diff := cmp.Diff(tt.closed, torn, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: torn (-want +got):\n%s", tt.name, diff)
		}
		for _, name := range []string{"a.test", "b.test"} {
			if got, want := table.Find(name).Valid(noon), !slices.Contains(tt.closed, name); got != want {
				t.Errorf("%s: something is shown for %s: %v, want %v", tt.name, name, got, want)
			}
		}
	}
}

// TestWhatIsSpokenMeetsTerms changes one thing at a time.
func TestWhatIsSpokenMeetsTerms(t *testing.T) {
	t.Parallel()
	const gcm, chacha = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
	v12 := sni.Spoken{Version: tls.VersionTLS12, Suite: gcm, Curve: tls.X25519}
	v13 := sni.Spoken{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Curve: tls.X25519MLKEM768, Protocol: "h2"}
	for _, tt := range []struct {
		name         string
		wide, narrow *sni.Terms
		v12, v13     bool
	}{
		{"nothing said", &sni.Terms{}, nil, true, true},
		{"lowest", &sni.Terms{}, &sni.Terms{MinVersion: tls.VersionTLS13}, false, true},
		{"highest", &sni.Terms{}, &sni.Terms{MaxVersion: tls.VersionTLS12}, true, false},
		{"lowest of all", &sni.Terms{MinVersion: tls.VersionTLS13}, nil, false, true},
		{"lower than of all", &sni.Terms{MinVersion: tls.VersionTLS13}, &sni.Terms{MinVersion: tls.VersionTLS12}, true, true},
		{"suite", &sni.Terms{}, &sni.Terms{Suites: []uint16{chacha}}, false, true},
		{"suite of all", &sni.Terms{Suites: []uint16{chacha}}, &sni.Terms{Suites: []uint16{gcm}}, true, true},
		{"curve", &sni.Terms{}, &sni.Terms{Curves: []tls.CurveID{tls.X25519MLKEM768}}, false, true},
		{"curve of all", &sni.Terms{Curves: []tls.CurveID{tls.X25519}}, nil, true, false},
		{"protocol", &sni.Terms{}, &sni.Terms{Protocols: []string{"http/1.1"}}, true, false},
		{"protocol of all", &sni.Terms{Protocols: []string{"h2"}}, nil, false, true},
		{"tickets", &sni.Terms{Tickets: new(true)}, &sni.Terms{Tickets: new(false)}, true, true},
	} {
		if got := [2]bool{v12.Meets(tt.wide, tt.narrow), v13.Meets(tt.wide, tt.narrow)}; got != [2]bool{tt.v12, tt.v13} {
			t.Errorf("%s: 1.2 and 1.3 meet it: %v, want %v, %v", tt.name, got, tt.v12, tt.v13)
		}
	}
}

func TestNarrowerTermsGoBeforeWiderOnes(t *testing.T) {
	t.Parallel()
	wide := sni.Terms{
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, Suites: []uint16{1}, Curves: []tls.CurveID{2}, Protocols: []string{"h2"}, Tickets: new(false),
	}
	narrow := sni.Terms{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13, Suites: []uint16{3}, Curves: []tls.CurveID{4}, Protocols: []string{"http/1.1"}, Tickets: new(true),
	}
	of := func(all ...*sni.Terms) sni.Terms {
		var c tls.Config
		for _, one := range all {
			one.Into(&c)
		}
		return sni.Terms{
			MinVersion: c.MinVersion, MaxVersion: c.MaxVersion, Suites: c.CipherSuites, Curves: c.CurvePreferences, Protocols: c.NextProtos,
			Tickets: new(!c.SessionTicketsDisabled),
		}
	}
	for name, tt := range map[string]struct{ got, want sni.Terms }{
		"both": {of(&wide, &narrow), narrow}, "the wider only": {of(&wide, &sni.Terms{}), wide}, "none that is narrower": {of(&wide, nil), wide},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
