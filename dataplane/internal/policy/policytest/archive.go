package policytest

import (
	"bytes"
	"strings"
)

// section is one file of a txtar archive; names may repeat.
type section struct {
	name string
	data []byte
}

// parseArchive splits a txtar archive into its leading comment and sections.
func parseArchive(b []byte) (comment []byte, sections []section) {
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		if name, ok := marker(line); ok {
			sections = append(sections, section{name: name})
		} else if len(sections) == 0 {
			comment = append(append(comment, line...), '\n')
		} else {
			s := &sections[len(sections)-1]
			s.data = append(append(s.data, line...), '\n')
		}
		b = rest
	}
	return comment, sections
}

func formatArchive(comment []byte, sections []section) []byte {
	out := bytes.Clone(comment)
	for _, s := range sections {
		out = append(out, "-- "+s.name+" --\n"...)
		out = append(out, s.data...)
	}
	return out
}

func marker(line []byte) (string, bool) {
	s, ok := strings.CutPrefix(string(line), "-- ")
	if !ok {
		return "", false
	}
	s, ok = strings.CutSuffix(s, " --")
	return strings.TrimSpace(s), ok
}
