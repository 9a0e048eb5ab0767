package store

import "strings"

// Printable replaces what PostgreSQL cannot keep in text: the zero character and broken UTF-8. It is for text that comes
// from gateways and must not keep the rest of a row from being written, and for text that is authenticated before it is
// written.
func Printable(s string) string {
	const replacement = "\uFFFD"
	return strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
}

func printableAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = Printable(s)
	}
	return out
}

func printableMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[Printable(k)] = Printable(v)
	}
	return out
}

func printableFaults(faults []Fault) []Fault {
	out := make([]Fault, len(faults))
	for i, f := range faults {
		out[i] = Fault{Kind: Printable(f.Kind), UID: Printable(f.UID), Name: Printable(f.Name), Reason: Printable(f.Reason)}
	}
	return out
}
