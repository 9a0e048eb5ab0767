// Package document reads what people give with -f: a file, stdin, or a directory whose files are put together to one
// document. It does not judge contents: that is done by the control plane, in one place.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Media types.
const (
	typeYAML = "application/yaml"
	typeJSON = "application/json"
)

// Document is what is sent.
type Document struct {
	// Name is for messages: the path, or "stdin".
	Name        string
	ContentType string
	Body        []byte
}

// Group answers which group the document says it is for, "" if it does not or cannot be read. The control plane has to know
// before it reads the document, because rights are given by group; it refuses a document that says something else.
func (d Document) Group() string {
	var head struct {
		Group any `yaml:"group"`
	}
	if err := yaml.Unmarshal(d.Body, &head); err != nil { // JSON is YAML
		return ""
	}
	name, _ := head.Group.(string)
	return name
}

// Read reads a file, a directory, or stdin ("-").
func Read(path string, stdin io.Reader) (Document, error) {
	if path == "-" {
		body, err := io.ReadAll(stdin)
		if err != nil {
			return Document{}, fmt.Errorf("read stdin: %w", err)
		}
		return Document{Name: "stdin", ContentType: sniff(body), Body: body}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return Document{}, fmt.Errorf("read document: %w", err)
	}
	if info.IsDir() {
		return readDir(path)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return Document{}, fmt.Errorf("read document: %w", err)
	}
	return Document{Name: path, ContentType: byName(path), Body: body}, nil
}

func sniff(body []byte) string {
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return typeJSON
	}
	return typeYAML
}

func byName(path string) string {
	if strings.EqualFold(filepath.Ext(path), ".json") {
		return typeJSON
	}
	return typeYAML
}

// readDir puts the directory's documents together, in the order of their names: lists are joined, so that resources may
// be spread over files; anything else may stand in one file only, except where all say the same.
func readDir(dir string) (Document, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Document{}, fmt.Errorf("read directory: %w", err)
	}
	m := merger{whole: &yaml.Node{Kind: yaml.MappingNode}, from: map[string]string{}}
	files := 0
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(e.Name()))) {
			continue
		}
		files++
		if err := m.file(filepath.Join(dir, e.Name())); err != nil {
			return Document{}, err
		}
	}
	if files == 0 {
		return Document{}, fmt.Errorf("no .yaml, .yml or .json file in %s", dir)
	}
	body, err := yaml.Marshal(m.whole)
	if err != nil {
		return Document{}, fmt.Errorf("put %s together: %w", dir, err)
	}
	return Document{Name: dir, ContentType: typeYAML, Body: body}, nil
}

type merger struct {
	whole *yaml.Node
	// from remembers which file a key came from.
	from map[string]string
}

func (m *merger) file(path string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(body))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].ShortTag() == "!!null" {
			continue
		}
		if doc.Content[0].Kind != yaml.MappingNode {
			return fmt.Errorf("read %s: a document is a mapping (services:, routes:, …)", path)
		}
		if err := m.add(path, doc.Content[0]); err != nil {
			return err
		}
	}
}

func (m *merger) add(path string, doc *yaml.Node) error {
	seen := map[string]bool{}
	for i := 0; i+1 < len(doc.Content); i += 2 {
		key, value := doc.Content[i], doc.Content[i+1]
		if seen[key.Value] {
			return fmt.Errorf("read %s: %s: is given twice", path, key.Value)
		}
		seen[key.Value] = true
		old := m.get(key.Value)
		switch {
		case old == nil:
			m.whole.Content = append(m.whole.Content, key, value)
			m.from[key.Value] = path
		case old.Kind == yaml.SequenceNode && value.Kind == yaml.SequenceNode:
			old.Content = append(old.Content, value.Content...)
		case old.Kind == yaml.ScalarNode && value.Kind == yaml.ScalarNode && old.Value == value.Value:
		default:
			return fmt.Errorf("%s: is given both in %s and in %s", key.Value, m.from[key.Value], path)
		}
	}
	return nil
}

func (m *merger) get(key string) *yaml.Node {
	for i := 0; i+1 < len(m.whole.Content); i += 2 {
		if m.whole.Content[i].Value == key {
			return m.whole.Content[i+1]
		}
	}
	return nil
}
