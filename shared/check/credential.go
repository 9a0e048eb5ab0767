package check

import (
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"
)

// Credential checks a credential. A secret that is not there in the clear — kept, or hashed already — is not checked.
func Credential(m *configv1.Credential) []problem.Violation {
	vs := checkLabels(m.GetLabels())
	cfg, reason := unpack(m.GetConfig())
	if reason == "" && CredentialType(cfg) != m.GetType() {
		reason = fmt.Sprintf("is not the configuration of credential type %q", m.GetType())
	}
	if reason != "" {
		vs.add("config", "%s", reason)
		return vs
	}
	switch cfg := cfg.(type) {
	case *credentialv1.KeyAuth:
		keyCredential(&vs, cfg)
	case *credentialv1.BasicAuth:
		basicAuthCredential(&vs, cfg)
	case *credentialv1.JwtAuth:
		jwtCredential(&vs, cfg)
	case *credentialv1.HmacAuth:
		hmacAuthCredential(&vs, cfg)
	}
	return vs
}

func keyCredential(vs *violations, k *credentialv1.KeyAuth) {
	if k.GetKey().GetPlaintext() == "" {
		return
	}
	if reason := Key(k.GetKey().GetPlaintext(), k.GetAllowWeak()); reason != "" {
		vs.add("config.key", "%s", reason)
	}
}

// CredentialType returns the credential type that a message configures, empty for none.
func CredentialType(cfg proto.Message) string {
	o, _ := proto.GetExtension(cfg.ProtoReflect().Descriptor().Options(), optionsv1.E_Credential).(*optionsv1.CredentialOptions)
	return o.GetType()
}

const (
	maxKey     = 512
	minKey     = 20
	minKeyBits = 128
)

// Key says why a text cannot be an API key, empty if it can: 1 to 512 visible ASCII characters, and unless weak keys
// are allowed at least 20 of them with 128 bits.
func Key(key string, allowWeak bool) string {
	switch {
	case len(key) == 0 || len(key) > maxKey:
		return fmt.Sprintf("must have 1 to %d characters", maxKey)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "must be visible ASCII characters, without spaces"
	case allowWeak:
		return ""
	case len(key) < minKey:
		return fmt.Sprintf("must have at least %d characters; allow_weak accepts less", minKey)
	case KeyBits(key) < minKeyBits:
		return fmt.Sprintf("must have at least %d bits by its alphabet, this has %d; allow_weak accepts less", minKeyBits, int(KeyBits(key)))
	default:
		return ""
	}
}

// KeyBits is how many bits a random key of this length and alphabet has: length × log2(size of the alphabet). The
// alphabet is guessed from the classes of characters that occur: digits (10), lower-case (26) and upper-case letters
// (26), the marks of Base64 (- _ + / =, counted as 4) and all other marks (27). Digits with letters only up to f of one
// case are hexadecimal (16). A key with fewer than 8 different characters has no larger alphabet than those.
func KeyBits(key string) float64 {
	var digits, lower, upper, base64, marks, beyondF bool
	different := map[rune]bool{}
	for _, r := range key {
		different[r] = true
		switch {
		case r >= '0' && r <= '9':
			digits = true
		case r >= 'a' && r <= 'z':
			lower, beyondF = true, beyondF || r > 'f'
		case r >= 'A' && r <= 'Z':
			upper, beyondF = true, beyondF || r > 'F'
		case strings.ContainsRune("-_+/=", r):
			base64 = true
		default:
			marks = true
		}
	}
	size := 0
	for _, class := range []struct {
		occurs bool
		size   int
	}{{digits, 10}, {lower, 26}, {upper, 26}, {base64, 4}, {marks, 27}} {
		if class.occurs {
			size += class.size
		}
	}
	if lower != upper && !beyondF && !base64 && !marks {
		size = 16
	}
	const few = 8
	if len(different) < few {
		size = min(size, len(different))
	}
	if size < 2 {
		return 0
	}
	return float64(len(key)) * math.Log2(float64(size))
}
