// Package secretplace says which references can be read from a provider, whatever is there: admission refuses the others, and
// package secretsource reads none of them. It is pure.
package secretplace

import (
	"io/fs"
	"regexp"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/secret"
)

// Kind is the kind of the providers that tenants make.
const Kind = "secret-providers"

// Schemes of references.
const (
	Vault = "vault"
	AWS   = "aws"
)

// Outside is why a path cannot be read that is no clean path below the root.
const Outside = "leads out of what the provider gives: a path has neither .. nor empty parts, nor does it begin or end with a slash"

// NoFile is why a file of the control plane cannot be named.
const NoFile = "is not a file that this group may name: it is below no directory that the control plane reads for it (--certificate-root)"

var (
	vaultPath  = regexp.MustCompile(`^[A-Za-z0-9._@:+=,/-]+$`)
	vaultField = regexp.MustCompile(`^[A-Za-z0-9._@-]+$`)
	awsName    = regexp.MustCompile(`^[A-Za-z0-9/_+=.@:-]{1,512}$`)
)

// Path reports whether a text can stand as a path in Vault, wherever it is.
func Path(text string) bool {
	return fs.ValidPath(text) && text != "." && vaultPath.MatchString(text)
}

// KV says why a reference cannot be read from a KV engine of Vault, empty if it can.
func KV(r secret.Reference) string {
	switch {
	case !fs.ValidPath(r.Path) || r.Path == ".":
		return Outside
	case !vaultPath.MatchString(r.Path):
		return "has characters in its path other than letters, digits and . _ @ : + = , - /"
	case !vaultField.MatchString(r.Field):
		return "needs a #field of letters, digits and . _ @ -: a secret of Vault has several"
	}
	return ""
}

// PKI says why a reference cannot have a certificate issued by a role of a PKI engine of Vault, empty if it can.
func PKI(role string, r secret.Reference) string {
	switch {
	case r.Path != role:
		return "is not the role of the provider, " + role
	case r.Field != "":
		return "has a #field; a certificate is issued whole"
	}
	return ""
}

// Login says why a reference is to no part of a login that Vault makes for a role, empty if it is to one.
func Login(role string, r secret.Reference) string {
	switch {
	case r.Path != role:
		return "is not the role of the provider, " + role
	case !vaultField.MatchString(r.Field):
		return "needs a #field, such as #username or #password"
	}
	return ""
}

// Manager says why a reference cannot be read from AWS Secrets Manager below a prefix, empty if it can.
func Manager(prefix string, r secret.Reference) string {
	switch {
	case !awsName.MatchString(r.Path):
		return "is not the name of a secret: letters, digits and / _ + = . @ : -"
	case !strings.HasPrefix(r.Path, prefix):
		return "is not a secret that the provider gives: their names begin with " + prefix
	case r.Field != "" && !vaultField.MatchString(r.Field):
		return "has a #field with other characters than letters, digits and . _ @ -"
	}
	return ""
}

// inFolder stands for what is in a folder.
const inFolder = "entry"

// InFolder is the reference of something in a folder: what can be read from where tells whether a folder can.
func InFolder(provider, path string) secret.Reference {
	if path != "" {
		path += "/"
	}
	return secret.Reference{Scheme: Vault, Provider: provider, Path: path + inFolder, Field: inFolder}
}

// Folder says why a folder cannot be read from a provider that a tenant made, empty if it can.
func Folder(p *configv1.SecretProvider, path string) string {
	return Check(p, InFolder(p.GetName(), path))
}

// Check says why a reference cannot be read from a provider that a tenant made, empty if it can.
func Check(p *configv1.SecretProvider, r secret.Reference) string {
	v, a := p.GetVault(), p.GetAws()
	switch {
	case v != nil && r.Scheme == Vault && v.GetPkiRole() != "":
		return PKI(v.GetPkiRole(), r)
	case v != nil && r.Scheme == Vault && v.GetDatabaseRole() != "":
		return Login(v.GetDatabaseRole(), r)
	case v != nil && r.Scheme == Vault:
		return KV(r)
	case a != nil && r.Scheme == AWS:
		return Manager(a.GetPrefix(), r)
	}
	return Unknown(r)
}

// Unknown is why a reference cannot be read for which there is no provider.
func Unknown(r secret.Reference) string {
	return "unknown provider: this group has no secret provider " + r.Scheme + "://" + r.Provider
}
