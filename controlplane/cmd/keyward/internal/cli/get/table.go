package get

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/catalog"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// common is what every resource has.
type common interface {
	proto.Message
	GetDescription() string
	GetRevision() int64
	GetUpdatedAt() *timestamppb.Timestamp
}

// table prints resources of one kind, a line each.
func table(f *factory.Factory, kind *catalog.Kind, all []proto.Message) error {
	special := heads(kind.Name)
	head := append(append([]string{"NAME"}, special...), "REVISION", "UPDATED")
	g := render.NewGrid(f.IO, head...)
	for _, m := range all {
		row := append([]string{kind.NameOf(m)}, cells(m)...)
		if c, ok := m.(common); ok {
			row = append(row, strconv.FormatInt(c.GetRevision(), 10), render.Time(c.GetUpdatedAt()))
		}
		g.Add(row...)
	}
	return g.Print()
}

// heads names the columns that a kind has of its own. A kind that is not named here shows its description.
func heads(kind string) []string {
	switch kind {
	case "services":
		return []string{"ADDRESS", "POLICIES"}
	case "routes":
		return []string{"SERVICE", "HOSTS", "PATHS", "METHODS", "POLICIES"}
	case "consumers":
		return []string{"GROUPS", "POLICIES"}
	case "credentials":
		return []string{"TYPE", "NOT BEFORE", "EXPIRES", "LAST USED"}
	case "consumer-groups":
		return []string{"POLICIES"}
	case "certificates":
		return []string{"SUBJECT", "SNIS", "UNTIL"}
	default:
		return []string{"DESCRIPTION"}
	}
}

func cells(m proto.Message) []string {
	switch m := m.(type) {
	case *configv1.Service:
		return []string{address(m), policies(m.GetPolicies())}
	case *configv1.Route:
		return []string{m.GetService(), words(m.GetHosts()), paths(m.GetPaths()), words(m.GetMethods()), policies(m.GetPolicies())}
	case *configv1.Consumer:
		return []string{words(m.GetGroups()), policies(m.GetPolicies())}
	case *configv1.Credential:
		return []string{m.GetType(), render.Time(m.GetNotBefore()), render.Time(m.GetExpires()), render.Time(m.GetLastUsed())}
	case *configv1.ConsumerGroup:
		return []string{policies(m.GetPolicies())}
	case *configv1.Certificate:
		info := m.GetCurrent().GetInfo()
		if m.GetAcme() != nil {
			info = m.GetIssued().GetInfo()
		}
		return []string{render.Or(info.GetSubject(), "-"), words(m.GetSnis()), render.Time(info.GetNotAfter())}
	case common:
		return []string{render.Or(m.GetDescription(), "-")}
	default:
		return []string{"-"}
	}
}

func address(s *configv1.Service) string {
	if s.GetUrl() != "" {
		return s.GetUrl()
	}
	var targets []string
	for _, t := range s.GetTargets() {
		targets = append(targets, t.GetAddress())
	}
	return words(targets)
}

func paths(ps []*configv1.PathMatch) string {
	var all []string
	for _, p := range ps {
		switch match := p.GetMatch().(type) {
		case *configv1.PathMatch_Exact:
			all = append(all, "="+match.Exact)
		case *configv1.PathMatch_Regex:
			all = append(all, "~"+match.Regex)
		case *configv1.PathMatch_Prefix:
			all = append(all, match.Prefix)
		}
	}
	return words(all)
}

func policies(bs []*configv1.Binding) string {
	var all []string
	for _, b := range bs {
		word := b.GetType()
		if name := b.GetName(); name != "" && name != word {
			word += "(" + name + ")"
		}
		all = append(all, word)
	}
	return words(all)
}

// words prints a list in a cell; of a long one only the beginning.
func words(list []string) string {
	const enough = 3
	if len(list) == 0 {
		return "-"
	}
	if len(list) > enough {
		return strings.Join(list[:enough], ",") + ",+" + strconv.Itoa(len(list)-enough)
	}
	return strings.Join(list, ",")
}
