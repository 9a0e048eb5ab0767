package httpsig_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpsig"
)

// FuzzSignature: whatever stands in the fields, nothing panics, and two requests that differ in what is covered as it is have
// different bytes.
func FuzzSignature(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(string(v.message.Header.Get("Signature-Input")), string(v.message.Header.Get("Signature")), "a=1, b=(1 2);x")
	}
	f.Add(`s=("priority";sf "priority";key="b" "priority";bs);created=1`, "s=:AA==:", `b=%"a%c3", a=@1, c=?0`)
	f.Fuzz(func(t *testing.T, input, value, priority string) {
		m := request(t, "POST /foo?param=Value&Pet=dog", "Host: example.com", "Date: Tue, 20 Apr 2021 02:07:55 GMT", "Content-Digest: "+requestDigest)
		m.Header = append(m.Header, exchange.Field("Signature-Input", input), exchange.Field("Signature", value), exchange.Field("Priority", priority))
		var p httpsig.Inputs
		var s httpsig.Signature
		p.Begin(m, heap{})
		for p.Next(&s) {
			before, err := s.Base(m, heap{})
			_ = p.Value(&s)
			if err != nil || !s.Covers("date") {
				continue
			}
			other := *m
			other.Header = append(exchange.Headers(nil), m.Header...)
			other.Header.Set(exchange.Field("Date", "never"))
			if after, err := s.Base(&other, heap{}); err != nil || string(after) == string(before) {
				t.Errorf("%q covers the date and does not tell it\n%s", input, after)
			}
		}
		_ = httpsig.ContentDigest(m, nil, heap{})
	})
}

// FuzzCavage: the same for the drafts.
func FuzzCavage(f *testing.F) {
	f.Add(`keyId="a",algorithm="hs2019",created=1,headers="(request-target) (created) date",signature="AA=="`, false)
	f.Add(`username="a",headers="request-line date",signature="AA=="`, true)
	f.Fuzz(func(t *testing.T, parameters string, hmac bool) {
		m := request(t, "POST /foo?param=Value&Pet=dog", "Host: example.com", "Date: Tue, 20 Apr 2021 02:07:55 GMT", "Digest: SHA-256="+parameters)
		_ = httpsig.LegacyDigest(m, nil, heap{})
		var s httpsig.Signature
		if httpsig.ParseCavage([]byte(parameters), hmac, &s, heap{}) != nil {
			return
		}
		before, err := s.Base(m, heap{})
		if err != nil || s.Parts&httpsig.PartMethod == 0 {
			return
		}
		m.Method = []byte("PUT")
		if after, err := s.Base(m, heap{}); err != nil || string(after) == string(before) {
			t.Errorf("%q covers the method and does not tell it\n%s", parameters, after)
		}
	})
}
