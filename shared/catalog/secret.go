package catalog

import (
	"regexp"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// secret reads a Secret. No reason repeats any part of it. A null is remembered as a wish to clear and gives no value.
func (d *decoder) secret(n *node, path string) (*configv1.Secret, bool) {
	switch n.kind {
	case kindNull:
		d.clears = append(d.clears, path)
		return &configv1.Secret{}, false
	case kindString, kindTime:
		if strings.HasPrefix(n.text, "{") {
			return d.secretReference(n, path)
		}
		if reason := lookAlike(n.text); reason != "" {
			d.fail(n, path, reason)
			return &configv1.Secret{}, false
		}
		return d.plaintext(n, path)
	case kindMap:
		return d.secretMapping(n, path)
	case kindList:
		d.fail(n, path, "expected "+isSecret.expects(0)+", found a list")
	default:
		d.fail(n, path, "expected a string, found "+n.kind.String()+"; put it in quotes")
	}
	return &configv1.Secret{}, false
}

func (d *decoder) plaintext(n *node, path string) (*configv1.Secret, bool) {
	if n.text == "" {
		d.fail(n, path, "must not be empty; write null to clear it")
		return &configv1.Secret{}, false
	}
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: n.text}}, true
}

// secretMapping reads {plaintext: …}, {ref: …}, {hash: …} and {set: true}. Other keys are not named: a value in braces that lacks
// its quotes is a key to YAML.
func (d *decoder) secretMapping(n *node, path string) (*configv1.Secret, bool) {
	for _, e := range n.entries {
		if known := e.key.text == "plaintext" || e.key.text == "ref" || e.key.text == "set" || e.key.text == "hash"; !known || !e.key.isString() {
			d.fail(e.key, path, "has a key that is none of plaintext, ref, hash and set; a value or reference in braces stands in quotes")
			return &configv1.Secret{}, false
		}
	}
	if len(n.entries) != 1 {
		d.fail(n, path, "give exactly one of plaintext, ref, hash, set")
		return &configv1.Secret{}, false
	}
	e := n.entries[0]
	switch e.key.text {
	case "plaintext":
		if !e.node.isString() {
			d.fail(e.node, problem.Key(path, "plaintext"), "expected a string, found "+e.node.kind.String()+"; put it in quotes")
			return &configv1.Secret{}, false
		}
		return d.plaintext(e.node, path)
	case "ref":
		if !e.node.isString() {
			d.fail(e.node, problem.Key(path, "ref"), "expected a string, found "+e.node.kind.String())
			return &configv1.Secret{}, false
		}
		if _, ok := secret.ParsePath(e.node.text); ok { // as a path is read back; where one can stand admission knows
			return &configv1.Secret{Value: &configv1.Secret_Ref{Ref: e.node.text}}, true
		}
		return d.secretReference(e.node, problem.Key(path, "ref"))
	case "hash":
		return d.passwordHash(e.node, problem.Key(path, "hash"))
	case "set":
		if e.node.kind != kindBool || e.node.text != "true" {
			d.fail(e.node, problem.Key(path, "set"), "can only be true: it keeps what is stored; write null to clear it")
			return &configv1.Secret{}, false
		}
		return &configv1.Secret{Set: true}, true
	default:
		return &configv1.Secret{}, false
	}
}

// passwordHash reads the hash of a password. What it is of, and whether this secret is a password, admission judges.
func (d *decoder) passwordHash(n *node, path string) (*configv1.Secret, bool) {
	if !n.isString() || n.text == "" {
		d.fail(n, path, "expected the hash of a password, a string in quotes")
		return &configv1.Secret{}, false
	}
	return &configv1.Secret{Value: &configv1.Secret_PasswordHash{PasswordHash: &configv1.PasswordHash{Text: n.text}}}, true
}

var schemeForm = regexp.MustCompile(`^[$@]?[A-Za-z][A-Za-z0-9+.-]*://`)

// secretReference reads `{scheme://provider/path#field}`. What begins like a reference never becomes plaintext: a typo
// must not turn into a password. Whether there is such a provider, and for whom, only the control plane knows.
func (d *decoder) secretReference(n *node, path string) (*configv1.Secret, bool) {
	if _, ok := secret.ParseReference(n.text); !ok {
		d.fail(n, path, "is not a reference of the form {scheme://provider/path#field}; to store a value that begins with a brace, write {plaintext: …}")
		return &configv1.Secret{}, false
	}
	return &configv1.Secret{Value: &configv1.Secret_Ref{Ref: n.text}}, true
}

// lookAlike tells text that is a reference in another product; kept as a literal it would be a password nobody chose.
func lookAlike(text string) string {
	lower := strings.ToLower(text)
	for _, prefix := range []string{"${", "$(", "$secret", "$env", "env:", "secret:", "vault:", "file:"} {
		if strings.HasPrefix(lower, prefix) {
			return lookAlikeReason
		}
	}
	if schemeForm.MatchString(text) {
		return lookAlikeReason
	}
	return ""
}

const lookAlikeReason = "looks like a reference of another product; write {scheme://provider/path#field} for a reference, or {plaintext: …} for a value that looks like this"
