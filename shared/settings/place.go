package settings

import (
	"errors"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// place is where a secret is that does not stand in its setting.
type place struct {
	kind   placeKind
	at     string // path, variable, or what Vault's client understands
	lookup Lookup
}

type placeKind int

const (
	inFile placeKind = iota
	inVariable
	inVault
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

var (
	// likeReferences say that a text was meant as a reference, here or in another product. A secret that holds one is refused,
	// so that nobody's password is ever the name of a place.
	likeReferences = []string{"{file:", "{env:", "{vault:", "$secret://", "$env://"}

	errReference = errors.New("is a reference of no form that is known: {file:///PATH}, {env://VARIABLE} or {vault://HOST:PORT/MOUNT/PATH?…#FIELD}")
	errPart      = errors.New("holds a reference; a reference stands for the whole value")
	errNoVault   = errors.New("refers to Vault, which this program does not ask; have an agent write it to a file")
)

// Refer reads the value of a secret setting: the secret itself, or a reference in braces to a file, a variable or Vault. Files
// and variables are read now; what is in Vault, Vault has to be asked for. Errors do not quote the value.
func Refer(value string, lookup Lookup) (Secret, error) {
	text := strings.TrimSpace(value)
	if !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
		for _, like := range likeReferences {
			if strings.Contains(text, like) {
				return Secret{}, errPart
			}
		}
		for _, scheme := range []string{"file://", "env://", "vault://"} {
			if strings.HasPrefix(text, scheme) {
				return Secret{}, errReference
			}
		}
		return NewSecret(value), nil
	}
	p, err := parsePlace(text[1:len(text)-1], lookup)
	if err != nil {
		return Secret{}, err
	}
	return p.read()
}

func parsePlace(text string, lookup Lookup) (*place, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme {
	case "file":
		path, err := url.PathUnescape(rest)
		if err != nil || !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return nil, errors.New("names no file: {file:///PATH}, absolute and without detours")
		}
		return &place{inFile, path, lookup}, nil
	case "env":
		if !variableName.MatchString(rest) {
			return nil, errors.New("names no variable: {env://VARIABLE}")
		}
		return &place{inVariable, rest, lookup}, nil
	case "vault":
		return &place{inVault, "https://" + rest, lookup}, nil
	case "vault:https", "vault:http":
		return &place{inVault, strings.TrimPrefix(text, "vault:"), lookup}, nil
	default:
		return nil, errReference
	}
}

// read answers the secret as it is now, with its place.
func (p *place) read() (Secret, error) {
	switch p.kind {
	case inFile:
		s, err := ReadSecret(p.at)
		if err != nil {
			return Secret{}, err
		}
		return Secret{s.value, p}, nil
	case inVariable:
		value, _ := p.lookup(p.at)
		if value == "" {
			return Secret{}, errors.New("refers to the variable " + p.at + ", which is not set")
		}
		return Secret{value, p}, nil
	default:
		return Secret{"", p}, nil
	}
}

// Vault answers where the secret is in Vault, as https://HOST:PORT/…; empty if it is not there. Reveal has nothing of it.
func (s Secret) Vault() string {
	if s.from == nil || s.from.kind != inVault {
		return ""
	}
	return s.from.at
}

// Changes reports whether the secret may be another one when it is read again.
func (s Secret) Changes() bool { return s.from != nil && s.from.kind != inVariable }

// Again reads a secret anew that is in a file; others stay as they are.
func (s Secret) Again() (Secret, error) {
	if s.from == nil || s.from.kind != inFile {
		return s, nil
	}
	return s.from.read()
}
