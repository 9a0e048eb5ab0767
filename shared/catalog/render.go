package catalog

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// render writes a tree as JSON or YAML. Both are stable: the same tree always gives the same bytes.
func render(n *node, contentType string) []byte {
	var b bytes.Buffer
	if isJSON(contentType) {
		writeJSON(&b, n, "\n")
	} else {
		writeYAML(&b, n, 0, true)
	}
	if b.Len() == 0 || b.Bytes()[b.Len()-1] != '\n' {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// writeJSON writes a value; indent is a line break and the white space of the enclosing level.
func writeJSON(b *bytes.Buffer, n *node, indent string) {
	switch n.kind {
	case kindNull:
		b.WriteString("null")
	case kindString, kindTime:
		b.WriteString(jsonString(n.text))
	case kindList:
		writeJSONList(b, n, indent)
	case kindMap:
		if len(n.entries) == 0 {
			b.WriteString("{}")
			return
		}
		for i, e := range n.entries {
			b.WriteString(separator(i, "{") + indent + "  " + jsonString(e.key.text) + ": ")
			writeJSON(b, e.node, indent+"  ")
		}
		b.WriteString(indent + "}")
	default:
		b.WriteString(n.text)
	}
}

func writeJSONList(b *bytes.Buffer, n *node, indent string) {
	if len(n.items) == 0 {
		b.WriteString("[]")
		return
	}
	for i, item := range n.items {
		b.WriteString(separator(i, "[") + indent + "  ")
		writeJSON(b, item, indent+"  ")
	}
	b.WriteString(indent + "]")
}

func separator(i int, open string) string {
	if i == 0 {
		return open
	}
	return ","
}

// jsonString quotes a text so that JSON and YAML both read it back.
func jsonString(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return `""`
	}
	quoted := strings.TrimSuffix(b.String(), "\n")
	// YAML does not take these as they are, JSON does.
	return strings.NewReplacer("\x7f", `\u007f`, "\u0085", `\u0085`, "\ufeff", `\ufeff`, "\ufffe", `\ufffe`, "\uffff", `\uffff`).Replace(c1Controls(quoted))
}

// c1Controls escapes U+0080 to U+009F.
func c1Controls(text string) string {
	if !strings.ContainsFunc(text, isC1) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isC1(r) {
			const hex = "0123456789abcdef"
			b.WriteString(`\u00` + string(hex[r>>4&15]) + string(hex[r&15]))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isC1(r rune) bool { return r >= 0x80 && r <= 0x9f }

// plainForm is text that no YAML reader takes for anything but a string; what is not of it is quoted.
var plainForm = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./@:-]*[A-Za-z0-9_./@-]$|^[A-Za-z/]$|` +
	`^[0-9]+(?:ns|us|ms|s|m|h|KiB|MiB|GiB|TiB)$|^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?:/[0-9]+|:[0-9]+)?$|` +
	`^[0-9]+(?:\.[0-9]+)?%$`)

func yamlString(text string) string {
	switch strings.ToLower(text) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan":
		return jsonString(text)
	}
	if plainForm.MatchString(text) {
		return text
	}
	return jsonString(text)
}

// writeYAML writes a value in block style. fresh says that the writer stands at a place where a block may begin at
// once: at the start of a line or behind "- ".
func writeYAML(b *bytes.Buffer, n *node, indent int, fresh bool) {
	switch {
	case n.kind == kindMap && len(n.entries) > 0:
		for i, e := range n.entries {
			startLine(b, indent, fresh && i == 0)
			b.WriteString(yamlString(e.key.text) + ":")
			writeYAMLChild(b, e.node, indent+2)
		}
	case n.kind == kindList && len(n.items) > 0:
		for i, item := range n.items {
			startLine(b, indent, fresh && i == 0)
			b.WriteString("- ")
			writeYAML(b, item, indent+2, true)
		}
	case n.kind == kindMap:
		b.WriteString("{}")
	case n.kind == kindList:
		b.WriteString("[]")
	case n.isString():
		b.WriteString(yamlString(n.text))
	case n.kind == kindNull:
		b.WriteString("null")
	default:
		b.WriteString(n.text)
	}
}

func writeYAMLChild(b *bytes.Buffer, n *node, indent int) {
	if len(n.entries) == 0 && len(n.items) == 0 {
		b.WriteByte(' ')
	}
	writeYAML(b, n, indent, false)
}

func startLine(b *bytes.Buffer, indent int, here bool) {
	if here {
		return
	}
	b.WriteByte('\n')
	for range indent {
		b.WriteByte(' ')
	}
}
