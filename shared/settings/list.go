package settings

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
)

// ListVar declares a flag that may be repeated and whose every value may hold several, separated by commas. What is
// given replaces the default.
func ListVar(fs *flag.FlagSet, target *[]string, name string, value []string, usage string) {
	*target = slices.Clone(value)
	fs.Var(&listValue{target: target}, name, usage)
}

// WordsVar is ListVar for values that may hold commas: several in one are separated by white space.
func WordsVar(fs *flag.FlagSet, target *[]string, name, usage string) {
	*target = nil
	fs.Var(&listValue{target: target, words: true}, name, usage)
}

type listValue struct {
	target *[]string
	given  bool
	words  bool // separated by white space, not by commas
}

func (v *listValue) String() string {
	if v.target == nil {
		return ""
	}
	if v.words {
		return strings.Join(*v.target, " ")
	}
	return strings.Join(*v.target, ",")
}

func (v *listValue) Set(s string) error {
	if !v.given {
		*v.target, v.given = nil, true
	}
	items := strings.SplitSeq(s, ",")
	if v.words {
		items = strings.FieldsSeq(s)
	}
	for item := range items {
		item = strings.TrimSpace(item)
		if item == "" {
			return errors.New("an item of the list is empty")
		}
		*v.target = append(*v.target, item)
	}
	return nil
}

func (v *listValue) replace(s string) error {
	v.given = false
	return v.Set(s)
}

// Pairs splits the items of a list at their first "=", for flags such as --listen name=address and --label key=value.
// Every item must have both sides, every name may stand once.
func Pairs(items []string) (map[string]string, error) {
	pairs := make(map[string]string, len(items))
	var faults Faults
	for _, item := range items {
		name, value, ok := strings.Cut(item, "=")
		switch {
		case !ok || name == "" || value == "":
			faults.Add("", fmt.Errorf("%q is not of the form name=value", item))
		case pairs[name] != "":
			faults.Add("", fmt.Errorf("%q is given twice", name))
		default:
			pairs[name] = value
		}
	}
	return pairs, faults.Err()
}
