package catalog

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyward.dev/shared/problem"
)

// With returns a catalog that also reads the given messages, which are no resources: the requests of an API. They may
// hold what documents may, except configurations (Any).
func (c *Catalog) With(messages ...protoreflect.MessageDescriptor) (*Catalog, error) {
	more := *c
	more.shapes = maps.Clone(c.shapes)
	for _, md := range messages {
		if err := more.shapeOf(md); err != nil {
			return nil, fmt.Errorf("read descriptor: %w", err)
		}
	}
	return &more, nil
}

// DecodeMessage reads a mapping into a message that With was told of, as strictly as resources are read.
func (c *Catalog) DecodeMessage(m proto.Message, body []byte, contentType string) []problem.Violation {
	name := m.ProtoReflect().Descriptor().FullName()
	if c.shapes[name] == nil {
		return []problem.Violation{{Reason: fmt.Sprintf("%s is not known here", name), Code: problem.Internal}}
	}
	root, err := parse(body, contentType)
	if err != nil {
		return []problem.Violation{err.violation()}
	}
	d := &decoder{cat: c}
	d.message(root, m.ProtoReflect(), "")
	return problem.Sort(d.violations)
}
