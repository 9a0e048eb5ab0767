package adminapi

import (
	"slices"
	"strings"

	"keyward.dev/shared/problem"
)

// selector chooses resources by labels; all requirements must hold.
type selector []requirement

type requirement struct {
	key, value string
	op         selectorOp
}

type selectorOp uint8

const (
	labelExists selectorOp = iota
	labelEquals
	// labelDiffers also holds where there is no such label.
	labelDiffers
)

const maxRequirements = 16

// parseSelector reads `key=value,key2!=value2,key3`.
func parseSelector(text string) (selector, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var sel selector
	for part := range strings.SplitSeq(text, ",") {
		r := requirement{key: part}
		if key, value, ok := strings.Cut(part, "!="); ok {
			r = requirement{key, value, labelDiffers}
		} else if key, value, ok := strings.Cut(part, "="); ok {
			r = requirement{key, value, labelEquals}
		}
		r.key, r.value = strings.TrimSpace(r.key), strings.TrimSpace(r.value)
		if r.key == "" || strings.ContainsAny(r.key+r.value, "=!") {
			return nil, malformed("selector", "must be of the form key=value,key!=value,key")
		}
		sel = append(sel, r)
	}
	if len(sel) > maxRequirements {
		return nil, malformed("selector", "has more than 16 requirements")
	}
	return sel, nil
}

func (s selector) matches(labels map[string]string) bool {
	return !slices.ContainsFunc(s, func(r requirement) bool { return !r.holds(labels) })
}

func (r requirement) holds(labels map[string]string) bool {
	value, ok := labels[r.key]
	switch r.op {
	case labelEquals:
		return ok && value == r.value
	case labelDiffers:
		return !ok || value != r.value
	default:
		return ok
	}
}

func malformed(path, reason string) error {
	return problem.Violated([]problem.Violation{{Path: path, Reason: reason, Code: problem.Malformed}})
}
