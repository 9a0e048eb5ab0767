package admission

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"
)

const notApproved = "%s is nothing that FIPS 140-3 approves of, to which this control plane is restricted: gateways that are would not speak it"

// NotApproved names what a resource asks for and programs with the FIPS 140-3 module leave out in silence, as if it had not
// been asked for: cipher suites with ChaCha20 and the key exchange X25519 alone; and hashes of
// passwords that they cannot compute.
func NotApproved(m proto.Message) []problem.Violation {
	var out []problem.Violation
	look := func(path string, names []string, bad func(string) bool) {
		for i, name := range names {
			if bad(name) {
				out = append(out, problem.Violation{Path: problem.Index(path, i), Reason: fmt.Sprintf(notApproved, name)})
			}
		}
	}
	chacha := func(name string) bool { return strings.Contains(name, "CHACHA20") }
	switch m := m.(type) {
	case *configv1.Settings:
		look("tls.cipher_suites", m.GetTls().GetCipherSuites(), chacha)
		look("tls.curves", m.GetTls().GetCurves(), func(name string) bool { return name == "X25519" })
	case *configv1.Certificate:
		look("tls.cipher_suites", m.GetTls().GetCipherSuites(), chacha)
		look("tls.curves", m.GetTls().GetCurves(), func(name string) bool { return name == "X25519" })
	case *configv1.Credential:
		return hashesNotApproved(m)
	case *configv1.Service:
		look("tls.cipher_suites", m.GetTls().GetCipherSuites(), chacha)
	}
	return out
}
