// Package render prints what the server answered: tables for people, JSON and YAML for programs. Documents keep the order
// of their fields and the words of the file format; nothing is printed that the server did not send.
package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/proto"
)

// Format is a way of printing.
type Format string

// Formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// Printer prints messages. Resources are written by the encoder, as the file format has them; everything else of the
// admin API field by field.
type Printer struct {
	// encode answers a resource as JSON, and false for a message that is none.
	encode func(proto.Message) ([]byte, bool, error)
}

// NewPrinter makes a printer that writes resources with encode.
func NewPrinter(encode func(proto.Message) ([]byte, bool, error)) *Printer {
	return &Printer{encode: encode}
}

// Message prints one message as a document.
func (p *Printer) Message(w io.Writer, format Format, m proto.Message) error {
	n, err := p.tree(m.ProtoReflect())
	if err != nil {
		return err
	}
	return print(w, format, n)
}

// List prints messages as one list.
func (p *Printer) List(w io.Writer, format Format, ms []proto.Message) error {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, m := range ms {
		n, err := p.tree(m.ProtoReflect())
		if err != nil {
			return err
		}
		list.Content = append(list.Content, n)
	}
	return print(w, format, list)
}

// Text answers one message as YAML, for comparing.
func (p *Printer) Text(m proto.Message) (string, error) {
	var b bytes.Buffer
	if err := p.Message(&b, YAML, m); err != nil {
		return "", err
	}
	return b.String(), nil
}

// Messages widens a slice of messages of one type.
func Messages[M proto.Message](ms []M) []proto.Message {
	wide := make([]proto.Message, len(ms))
	for i, m := range ms {
		wide[i] = m
	}
	return wide
}

func print(w io.Writer, format Format, n *yaml.Node) error {
	if format == JSON {
		var b bytes.Buffer
		if err := writeJSON(&b, n); err != nil {
			return err
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, b.Bytes(), "", "  "); err != nil {
			return fmt.Errorf("print JSON: %w", err)
		}
		indented.WriteByte('\n')
		_, err := w.Write(indented.Bytes())
		return err
	}
	dumper, err := yaml.NewDumper(w, yaml.WithIndent(2), yaml.WithCompactSeqIndent(false))
	if err != nil {
		return fmt.Errorf("print YAML: %w", err)
	}
	if err := dumper.Dump(n); err != nil {
		return fmt.Errorf("print YAML: %w", err)
	}
	return dumper.Close()
}

func writeJSON(b *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			quote(b, n.Content[i].Value)
			b.WriteByte(':')
			if err := writeJSON(b, n.Content[i+1]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, item); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case yaml.ScalarNode:
		if n.Tag == strTag {
			quote(b, n.Value)
		} else {
			b.WriteString(n.Value)
		}
	default:
		return fmt.Errorf("print JSON: unexpected node of kind %d", n.Kind)
	}
	return nil
}

func quote(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	b.Truncate(b.Len() - 1)
}
