package admission

import (
	"iter"

	"google.golang.org/protobuf/proto"
)

// ReferencesOf yields kind and name of what a message refers to, for the fake view.
func ReferencesOf(m proto.Message) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, r := range referencesOf(m) {
			if !yield(r.kind, r.name) {
				return
			}
		}
	}
}
