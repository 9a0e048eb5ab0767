package factory

import (
	"strings"

	"github.com/spf13/cobra"

	"keyward.dev/shared/catalog"

	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Ref names one resource, or all of a kind.
type Ref struct {
	Kind *catalog.Kind
	// Parent is the owner's name, for kinds that have one.
	Parent string
	// Name is empty for a whole kind, and for settings.
	Name string
}

// Ref understands `KIND [NAME]` as people write it: the kind in singular or plural, the name of a credential as
// CONSUMER/NAME; CONSUMER/ alone means all of that consumer's.
func (f *Factory) Ref(kind, name string) (Ref, error) {
	k, err := f.Kind(kind)
	if err != nil {
		return Ref{}, err
	}
	switch {
	case k.Singleton && name != "" && name != k.Name:
		return Ref{}, failure.Usagef("there is one %s in a group; give no name", k.Name)
	case k.Singleton:
		return Ref{Kind: k}, nil
	case k.Parent == "" || name == "":
		return Ref{Kind: k, Name: name}, nil
	}
	parent, own, found := strings.Cut(name, "/")
	if !found || parent == "" {
		return Ref{}, failure.Usagef("a %s is named CONSUMER/NAME, not %q", k.Singular, name)
	}
	return Ref{Kind: k, Parent: parent, Name: own}, nil
}

// Kind finds a kind by its plural or singular word.
func (f *Factory) Kind(word string) (*catalog.Kind, error) {
	c, err := f.Catalog()
	if err != nil {
		return nil, err
	}
	word = strings.ReplaceAll(strings.ToLower(word), "_", "-")
	var known []string
	for _, k := range c.Kinds() {
		if word == k.Name || word == strings.ReplaceAll(k.Singular, " ", "-") {
			return k, nil
		}
		known = append(known, k.Name)
	}
	return nil, failure.Usagef("there is no kind %q; there are %s", word, strings.Join(known, ", "))
}

// CompleteKind offers the kinds as first argument.
func (f *Factory) CompleteKind(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := f.Catalog()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, k := range c.Kinds() {
		words = append(words, k.Name)
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
