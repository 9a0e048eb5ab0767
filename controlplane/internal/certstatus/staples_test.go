package certstatus_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

const responder = "http://ocsp.test"

// staples are what is kept, by the ids of versions.
func (w *world) staples(t *testing.T) (int64, map[string]*systemv1.OcspStaple) {
	t.Helper()
	v, err := w.replica(t).groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*systemv1.OcspStaple{}
	for r := range v.All(revocation.KindStaple) {
		found[r.Name], _ = r.Message.(*systemv1.OcspStaple)
	}
	return v.Revision, found
}

func (r *replica) stapling(t *testing.T, mode configv1.OcspStapling) {
	t.Helper()
	_, err := r.Write(t.Context(), configsvc.Request{Actor: "test", Action: "resources.apply", Group: "g", Changes: []admission.Change{{
		Kind: "settings", Name: "settings", Message: &configv1.Settings{Tls: &configv1.ServerTls{OcspStapling: mode}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
}

func named(name string, must bool) []certtest.Option {
	return []certtest.Option{certtest.Names(name), certtest.Template(func(c *x509.Certificate) {
		if c.OCSPServer = []string{responder}; must {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
		}
	})}
}

func holding(t *testing.T, name string, c *certtest.Cert, snis ...string) *configv1.Certificate {
	return &configv1.Certificate{Name: name, Snis: snis, Current: &configv1.CertificateVersion{
		Chain: c.ChainPEM(), PrivateKey: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: c.KeyPEM(t)}},
	}}
}

// TestStaplesAreFetchedAndKept goes through the life of an answer. Each step is run by a replica of its own.
func TestStaplesAreFetchedAndKept(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t), certtest.CA(t, "root").CA(t, "ca")
	web := ca.Issue(t, "web", named("web.test", false)...)
	w.replica(t).put(t, certs.Kind, holding(t, "web", web, "web.test"))
	answer := func(o certtest.OCSP) []byte {
		o.Of = web.Cert
		if o.ThisUpdate.IsZero() {
			o.ThisUpdate = w.clock()
		}
		if o.Lasts == 0 {
			o.Lasts = 10 * time.Hour
		}
		return ca.Answer(t, o)
	}
	const on = configv1.OcspStapling_OCSP_STAPLING_ON
	for _, s := range []struct {
		name    string
		do      func()
		changes bool
		kept    bool // a good answer is
		failing bool
	}{
		{"not asked for", func() { w.serve(responder, answer(certtest.OCSP{})) }, false, false, false},
		{"asked for, and nobody answers", func() { w.serve(responder, nil); w.replica(t).stapling(t, on) }, false, false, false},
		{"not known there", func() { w.serve(responder, answer(certtest.OCSP{Unknown: true})) }, false, false, false},
		{"by somebody else", func() { w.serve(responder, answer(certtest.OCSP{By: certtest.CA(t, "x")})) }, false, false, false},
		{"without end", func() { w.serve(responder, answer(certtest.OCSP{Lasts: -1})) }, false, false, false},
		{"good", func() { w.serve(responder, answer(certtest.OCSP{})) }, true, true, false},
		{"signed anew", func() { w.pass(time.Hour); w.serve(responder, answer(certtest.OCSP{})) }, false, true, false},
		{"after half of its life", func() { w.pass(5 * time.Hour); w.serve(responder, answer(certtest.OCSP{})) }, true, true, false},
		{"nobody answers", func() { w.serve(responder, nil) }, true, true, true},
		{"an older one", func() {
			w.serve(responder, answer(certtest.OCSP{ThisUpdate: w.clock().Add(-time.Hour), Lasts: 24 * time.Hour}))
		}, false, true, true},
		{"again", func() { w.serve(responder, answer(certtest.OCSP{})) }, true, true, false},
		{"revoked", func() { w.serve(responder, answer(certtest.OCSP{Revoked: true})) }, true, false, false},
		{"still", func() {}, false, false, false},
		{"not any more", func() { w.serve(responder, answer(certtest.OCSP{})) }, true, true, false},
	} {
		s.do()
		before, _ := w.staples(t)
		if err := w.replica(t).Run(t.Context()); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		after, all := w.staples(t)
		if (after != before) != s.changes || after > before+1 {
			t.Fatalf("%s: from revision %d to %d", s.name, before, after)
		}
		kept := all[web.ID()]
		if (len(kept.GetAnswer()) > 0) != s.kept || (kept.GetFailingSince() != nil) != s.failing || (kept.GetUntil() != nil) != s.kept {
			t.Fatalf("%s: kept %v", s.name, kept)
		}
	}
}

// TestWhichStaplesAreFetched has certificates of all sorts.
func TestWhichStaplesAreFetched(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t), certtest.CA(t, "root").CA(t, "ca")
	r := w.replica(t)
	byName := map[string]*certtest.Cert{
		"plain": ca.Issue(t, "a", named("a.test", false)...), "must": ca.Issue(t, "b", named("b.test", true)...),
		"silent": ca.Issue(t, "c", certtest.Names("c.test")), "unshown": ca.Issue(t, "d", named("d.test", true)...),
		"rootless": certtest.SelfSigned(t, "e", named("e.test", true)...),
	}
	for name, c := range byName {
		snis := c.Cert.DNSNames
		if name == "unshown" {
			snis = nil
		}
		r.put(t, certs.Kind, holding(t, name, c, snis...))
	}
	for _, tt := range []struct {
		name  string
		mode  configv1.OcspStapling
		asked int
	}{
		{"nothing is said", 0, 1},
		{"off", configv1.OcspStapling_OCSP_STAPLING_OFF, 0},
		{"on", configv1.OcspStapling_OCSP_STAPLING_ON, 2},
		{"must", configv1.OcspStapling_OCSP_STAPLING_MUST, 2},
	} {
		r.stapling(t, tt.mode)
		before := w.asked()
		if err := w.replica(t).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.asked() - before; got != tt.asked {
			t.Errorf("%s: asked %d times, want %d", tt.name, got, tt.asked)
		}
	}
}
