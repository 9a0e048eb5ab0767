package secret

import (
	"bytes"
	"regexp"
)

// Reference says where a secret is kept: `{scheme://provider/path#field}`. Nothing of it is secret.
type Reference struct {
	// Scheme is the kind of the provider, such as vault.
	Scheme string
	// Provider is its name.
	Provider string
	Path     string
	// Field may be empty.
	Field string
}

var referenceForm = regexp.MustCompile(`^\{([a-z][a-z0-9+.-]*)://([A-Za-z0-9][A-Za-z0-9._@-]*)/([^{}#\s\x00-\x1f\x7f]+)(?:#([^{}#\s\x00-\x1f\x7f]+))?\}$`)

// MaxReference bounds the text of a reference.
const MaxReference = 1024

// ParseReference reads a reference. It decides only about the form: who may use which provider is admission's.
func ParseReference(text string) (Reference, bool) {
	if len(text) > MaxReference {
		return Reference{}, false
	}
	m := referenceForm.FindStringSubmatch(text)
	if m == nil {
		return Reference{}, false
	}
	return Reference{Scheme: m[1], Provider: m[2], Path: m[3], Field: m[4]}, true
}

// String is the text that ParseReference reads.
func (r Reference) String() string {
	text := "{" + r.Scheme + "://" + r.Provider + "/" + r.Path
	if r.Field != "" {
		text += "#" + r.Field
	}
	return text + "}"
}

// MayRefer reports whether there may be a reference in an encoded message, without decoding it: it looks for a brace, a scheme, a
// colon and two slashes.
func MayRefer(raw []byte) bool {
	for {
		at := bytes.Index(raw, []byte("://"))
		if at < 0 {
			return false
		}
		if brace := bytes.LastIndexByte(raw[:at], '{'); brace >= 0 && !bytes.ContainsAny(raw[brace:at], " /") {
			return true
		}
		raw = raw[at+1:]
	}
}
