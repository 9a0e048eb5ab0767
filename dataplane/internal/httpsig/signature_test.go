package httpsig_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/httpsig"
)

func TestWhatASignatureSays(t *testing.T) {
	t.Parallel()
	m := requestB(t, `  a=( "@method"   "content-digest" "@target-uri";name="x" );created=1`, `a=:AA==:`)
	if _, err := labelled(m, "a"); err == nil {
		t.Error("a parameter that @target-uri does not have is taken")
	}
	m = requestB(t, `a=( "@method"   "content-digest";sf "date";bs "content-type";key="x" "@path" ) ;created=0017; expires=20;keyid="a\"b";alg="hmac-sha256";nonce="n";tag="t";other=?1;more`, `a=:AQI=:;x`)
	if _, err := labelled(m, "a"); err == nil {
		t.Error("a space before a parameter is taken")
	}
	m.Header.Set(request(t, "GET /", "Signature-Input: "+`a=( "@method"   "content-digest";sf "date";bs "content-type";key="x" "@path" );created=0017; expires=20;keyid="a\"b";alg="hmac-sha256";nonce="n";tag="t";other=?1;more`).Header[0])
	if _, err := labelled(m, "a"); err == nil {
		t.Error("a value with parameters is taken")
	}
	m.Header.Set(request(t, "GET /", "Signature: b=:AAAA:, a=:AQI=:").Header[0])
	s, err := labelled(m, "a")
	if err != nil {
		t.Fatal(err)
	}
	got := []any{string(s.Label), string(s.KeyID), string(s.Algorithm), string(s.Nonce), string(s.Tag), s.Created, s.Expires, s.Value, s.Parts}
	want := []any{"a", `a"b`, "hmac-sha256", "n", "t", httpsig.Moment{Unix: 17, Set: true}, httpsig.Moment{Unix: 20, Set: true}, []byte{1, 2}, httpsig.PartMethod | httpsig.PartPath}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("signature (-want +got):\n%s", diff)
	}
	for field, want := range map[string]bool{"content-digest": true, "date": true, "content-type": false, "digest": false, "@path": true} {
		if s.Covers(field) != want {
			t.Errorf("Covers(%s) = %v, want %v", field, !want, want)
		}
	}
}

// However the client has written it: what was signed is the one canonical form.
func TestBaseHasTheCanonicalForm(t *testing.T) {
	t.Parallel()
	m := requestB(t, `a=( "@method"   "@path" );created=0017; x=?1; y=1.500`, `a=:AQI=:`)
	s, err := labelled(m, "a")
	if err != nil {
		t.Fatal(err)
	}
	base, err := s.Base(m, heap{})
	want := "\"@method\": POST\n\"@path\": /foo\n\"@signature-params\": (\"@method\" \"@path\");created=17;x;y=1.5"
	if err != nil || string(base) != want {
		t.Errorf("base is\n%s (%v)\nwant\n%s", base, err, want)
	}
}

func TestMalformedSignatures(t *testing.T) {
	t.Parallel()
	many := strings.TrimSuffix(strings.Repeat(`"a" `, 33), " ")
	tests := []struct{ name, input, signature string }{
		{"nothing", ``, `s=:AA==:`},
		{"no list", `s`, `s=:AA==:`},
		{"a string", `s="x"`, `s=:AA==:`},
		{"list that does not end", `s=("a"`, `s=:AA==:`},
		{"label twice", `s=(), s=()`, `s=:AA==:`},
		{"comma at the end", `s=(),`, `s=:AA==:`},
		{"two without comma", `s=() t=()`, `s=:AA==:`},
		{"upper-case label", `S=()`, `S=:AA==:`},
		{"created is text", `s=();created="1"`, `s=:AA==:`},
		{"created is a date", `s=();created=@1`, `s=:AA==:`},
		{"created is a decimal", `s=();created=1.0`, `s=:AA==:`},
		{"created twice", `s=();created=1;created=2`, `s=:AA==:`},
		{"key id is a token", `s=();keyid=a`, `s=:AA==:`},
		{"key id twice", `s=();keyid="a";keyid="b"`, `s=:AA==:`},
		{"number too long", `s=();created=1234567890123456`, `s=:AA==:`},
		{"string that does not end", `s=();keyid="a`, `s=:AA==:`},
		{"escape of what needs none", `s=();keyid="\a"`, `s=:AA==:`},
		{"too many components", `s=(` + many + `)`, `s=:AA==:`},
		{"too long", `s=();keyid="` + strings.Repeat("a", 9000) + `"`, `s=:AA==:`},
		{"value of another", `s=()`, `t=:AA==:`},
		{"no value", `s=()`, ``},
		{"value twice", `s=()`, `s=:AA==:, s=:AA==:`},
		{"value that is text", `s=()`, `s="AA=="`},
		{"value that is no Base64", `s=()`, `s=:A=:`},
		{"value without its padding", `s=()`, `s=:AA:`},
		{"value with bits left over", `s=()`, `s=:AB==:`},
		{"value that does not end", `s=()`, `s=:AA==`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := request(t, "GET /", "Host: a.test", "Signature-Input: "+tt.input, "Signature: "+tt.signature)
			if s, err := labelled(m, "s"); err == nil {
				t.Errorf("it is taken: %q", s.Value)
			}
		})
	}
	if _, err := labelled(request(t, "GET /", "Signature-Input: s=()"), "s"); err == nil {
		t.Error("a signature without a value is taken")
	}
}

func TestFieldsInSeveralLinesAreOne(t *testing.T) {
	t.Parallel()
	m := request(t, "GET /", "Host: a.test", `Signature-Input: a=("@method");keyid="x"`, `Signature-Input: b=("@path");keyid="y"`, "Signature: b=:AAAA:", "Signature: a=:AQI=:")
	for label, want := range map[string]string{"a": "x", "b": "y"} {
		if s, err := labelled(m, label); err != nil || string(s.KeyID) != want {
			t.Errorf("%s is %v", label, err)
		}
	}
}

func TestMalformedSignaturesOfTheDrafts(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, parameters string }{
		{"nothing", ``},
		{"no key", `signature="AA=="`},
		{"no value", `keyId="a"`},
		{"empty value", `keyId="a",signature=""`},
		{"key twice", `keyId="a",keyId="b",signature="AA=="`},
		{"value twice", `keyId="a",signature="AA==",signature="AAAA"`},
		{"list twice", `keyId="a",headers="date",headers="host",signature="AA=="`},
		{"empty list", `keyId="a",headers="",signature="AA=="`},
		{"two spaces", `keyId="a",headers="date  host",signature="AA=="`},
		{"the same twice", `keyId="a",headers="date date",signature="AA=="`},
		{"no field's name", `keyId="a",headers="da/te",signature="AA=="`},
		{"request line, which is another scheme's", `keyId="a",headers="date request-line",signature="AA=="`},
		{"derived component of the RFC", `keyId="a",headers="@method",signature="AA=="`},
		{"created that is not said", `keyId="a",headers="(created)",signature="AA=="`},
		{"expires that is not said", `keyId="a",headers="(expires)",signature="AA=="`},
		{"created by an old algorithm", `keyId="a",algorithm="rsa-sha256",created=1,headers="(created)",signature="AA=="`},
		{"created with a fraction", `keyId="a",created=1.5,headers="(created)",signature="AA=="`},
		{"escape", `keyId="a\"b",signature="AA=="`},
		{"quote that does not end", `keyId="a,signature=AA==`},
		{"comma at the end", `keyId="a",signature="AA==",`},
		{"no comma", `keyId="a" signature="AA=="`},
		{"value that is no Base64", `keyId="a",signature="A="`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s httpsig.Signature
			if err := httpsig.ParseCavage([]byte(tt.parameters), false, &s, heap{}); err == nil {
				t.Error("it is taken")
			}
		})
	}
}

func TestSigningStringsOfTheDrafts(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, field, want string }{
		{
			"created and expires", `Authorization: Signature keyId="a" , algorithm=hs2019, created=1, expires="20",headers="(request-target) (created) (expires) Host",signature="AA=="`,
			"(request-target): post /a?b\n(created): 1\n(expires): 20\nhost: a.test",
		},
		{"no list, created", `Signature: keyId="a",created=1,signature="AA=="`, "(created): 1"},
		{"no list", `Signature: keyId="a",signature="AA=="`, "date: today"},
		{"empty field", `Signature: keyId="a",headers="empty date",signature="AA=="`, "empty: \ndate: today"},
		{
			"scheme hmac", `Authorization: hmac username="a", algorithm="hmac-sha256", headers="date request-line @request-target", signature="AA=="`,
			"date: today\nPOST /a?b HTTP/1.1\n@request-target: post /a?b",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := request(t, "POST /a?b", "Host: a.test", "Date: today", "Empty:", tt.field)
			text, hmac, found := httpsig.Cavage(m)
			var s httpsig.Signature
			if err := httpsig.ParseCavage(text, hmac, &s, heap{}); err != nil || found != 1 {
				t.Fatalf("ParseCavage() = %v of %d", err, found)
			}
			if base, err := s.Base(m, heap{}); err != nil || string(base) != tt.want {
				t.Errorf("base is\n%s (%v)\nwant\n%s", base, err, tt.want)
			}
		})
	}
}

func TestWhereADraftsSignatureIs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fields []string
		want   int
	}{
		{[]string{"Authorization: Bearer x"}, 0},
		{[]string{"Authorization: signature x"}, 1},
		{[]string{"Authorization: HMAC x"}, 1},
		{[]string{"Authorization: Bearer x", "Signature: x"}, 1},
		{[]string{"Authorization: Signature x", "Signature: x"}, 2},
		{[]string{"Signature: x", "Signature: y"}, 2},
		{[]string{"Signature: x", "Signature-Input: y"}, 0},
		{[]string{"Authorization: Signature x", "Signature: x", "Signature-Input: y"}, 1},
	} {
		if _, _, got := httpsig.Cavage(request(t, append([]string{"GET /"}, tt.fields...)...)); got != tt.want {
			t.Errorf("Cavage(%q) finds %d, want %d", tt.fields, got, tt.want)
		}
	}
}
