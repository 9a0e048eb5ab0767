package secret

import (
	"path"
	"strings"
)

// PathScheme is the scheme of references to files that are named by their path.
const PathScheme = "path"

const onGateway = "gateway:"

// Path names a file instead of what is in it: `/path` is one of the control plane, `gateway:/path` one of each gateway.
type Path struct {
	// Name is absolute and clean.
	Name    string
	Gateway bool
}

// LooksLikePath reports whether a text is meant as a path, well-formed or not.
func LooksLikePath(text string) bool {
	return (strings.HasPrefix(text, "/") || strings.HasPrefix(text, onGateway)) && !strings.Contains(text, "\n")
}

// ParsePath reads a path. It decides only about the form: what lies below which directory is for others.
func ParsePath(text string) (Path, bool) {
	if len(text) > MaxReference {
		return Path{}, false
	}
	var p Path
	p.Name, p.Gateway = strings.CutPrefix(text, onGateway)
	odd := strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' })
	return p, !odd && len(p.Name) > 1 && path.IsAbs(p.Name) && path.Clean(p.Name) == p.Name
}

// Reference is the path as a reference to a file of the control plane.
func (p Path) Reference() Reference { return Reference{Scheme: PathScheme, Path: p.Name} }
