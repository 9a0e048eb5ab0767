package check

import (
	"errors"
	"net/netip"
	"path"
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certmap"
	"keyward.dev/shared/check/ciphers"
	"keyward.dev/shared/problem"
)

func upstreamTLS(vs *violations, t *configv1.UpstreamTls, overTLS bool) {
	if !overTLS {
		vs.add("tls", "goes with TLS only: a protocol of https, h2 or grpcs, or an https url")
	}
	for i, ref := range t.GetCa() {
		if _, ok := GatewayFile(ref); !ok && !authorityName(ref) {
			vs.add(problem.Index("tls.ca", i), "is neither the name of one of ca-certificates nor gateway:/path, a file on the gateways")
		}
	}
	if _, err := netip.ParseAddr(t.GetSni()); err == nil {
		vs.add("tls.sni", "is an address, which is never asked for as a server name; say in san what must be in the certificate")
	}
	if t.Verify != nil && !t.GetVerify() && (len(t.GetCa())+len(t.GetSan()) > 0 || t.VerifyDepth != nil) {
		vs.add("tls.verify", "off makes ca, san and verify_depth void; leave them out")
	}
	if t.GetMaxVersion() != "" && t.GetMaxVersion() < t.GetMinVersion() {
		vs.add("tls.max_version", "is below min_version")
	}
	for i, name := range t.GetCipherSuites() {
		if reason := ciphers.Reason(name); reason != "" {
			vs.add(problem.Index("tls.cipher_suites", i), "%s", reason)
		}
	}
	if t.GetMinVersion() == "1.3" && len(t.GetCipherSuites()) > 0 {
		vs.add("tls.cipher_suites", "means nothing with a min_version of 1.3: only those of TLS 1.2 can be chosen")
	}
}

func upstreamCertificates(vs *violations, list []*configv1.UpstreamCertificate) {
	_, wrong := certmap.New(list)
	for i := range list {
		if err := wrong[i]; err != nil && !errors.Is(err, certmap.ErrNoCertificate) { // which the schema tells
			vs.add(problem.Index("upstream_certificates", i)+".domain", "%v", err)
		}
	}
}

// authorityName reports whether a reference to authorities is a name, and not a place of some kind.
func authorityName(ref string) bool {
	return ref != "" && !strings.ContainsAny(ref, ":/{")
}

// AuthorityNames are those of the references to authorities that name resources.
func AuthorityNames(refs []string) []string {
	return slices.DeleteFunc(slices.Clone(refs), func(ref string) bool { return !authorityName(ref) })
}

// GatewayFile returns the file that gateways are to read, which is named by `gateway:` and its absolute path.
func GatewayFile(ref string) (file string, ok bool) {
	file, ok = strings.CutPrefix(ref, "gateway:")
	printable := !strings.ContainsFunc(file, func(r rune) bool { return r < ' ' || r == 0x7f })
	return file, ok && printable && len(file) > 1 && path.IsAbs(file) && path.Clean(file) == file
}
