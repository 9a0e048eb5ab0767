package catalog_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/shared/catalog"
)

var update = flag.Bool("update", false, "rewrite golden files")

// section is a file inside a txtar archive.
type section struct {
	name string
	body []byte
}

func readArchive(t testing.TB, file string) []section {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []section
	for line := range bytes.Lines(raw) {
		if name, ok := bytes.CutPrefix(line, []byte("-- ")); ok && bytes.HasSuffix(bytes.TrimSpace(name), []byte(" --")) {
			out = append(out, section{name: string(bytes.TrimSuffix(bytes.TrimSpace(name), []byte(" --")))})
			continue
		}
		if len(out) > 0 {
			out[len(out)-1].body = append(out[len(out)-1].body, line...)
		}
	}
	return out
}

// golden compares the last section of an archive, or rewrites it with -update.
func golden(t *testing.T, file string, sections []section, got []byte) {
	t.Helper()
	last := &sections[len(sections)-1]
	if bytes.Equal(last.body, got) {
		return
	}
	if !*update {
		t.Fatalf("%s: got\n%s\nwant\n%s", last.name, got, last.body)
	}
	last.body = got
	var b bytes.Buffer
	for _, s := range sections {
		fmt.Fprintf(&b, "-- %s --\n%s", s.name, s.body)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFaults decodes documents with several faults: the answer is exactly these violations, in order, with positions.
func TestFaults(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	files, _ := filepath.Glob("testdata/faults/*.txtar")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			sections := readArchive(t, file)
			_, vs := c.Decode(sections[0].body, contentType(sections[0].name))
			var got bytes.Buffer
			for _, v := range vs {
				fmt.Fprintln(&got, v)
			}
			golden(t, file, sections, got.Bytes())
		})
	}
}

// TestExport reads a document and writes it again: normal, short, without defaults; and reading that changes nothing.
func TestExport(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	files, _ := filepath.Glob("testdata/export/*.txtar")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			sections := readArchive(t, file)
			got := export(t, c, sections[0].body, contentType(sections[0].name), catalog.YAML)
			golden(t, file, sections, got)
			if again := export(t, c, got, catalog.YAML, catalog.YAML); !bytes.Equal(again, got) {
				t.Errorf("the export of the export differs:\n%s", again)
			}
			asJSON := export(t, c, got, catalog.YAML, catalog.JSON)
			if again := export(t, c, asJSON, catalog.JSON, catalog.YAML); !bytes.Equal(again, got) {
				t.Errorf("the export by way of JSON differs:\n%s", again)
			}
		})
	}
}

func export(t *testing.T, c *catalog.Catalog, doc []byte, from, to string) []byte {
	t.Helper()
	d, vs := c.Decode(doc, from)
	if len(vs) > 0 {
		t.Fatalf("decode: %v\n%s", vs, doc)
	}
	var all []proto.Message
	for _, it := range d.Items {
		if vs := c.Normalize(it.Message); len(vs) > 0 {
			t.Fatalf("normalize: %v", vs)
		}
		all = append(all, it.Message)
	}
	var b bytes.Buffer
	if err := c.Export(&b, d.Group, all, to); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func contentType(name string) string {
	if strings.HasSuffix(name, ".json") {
		return catalog.JSON
	}
	return catalog.YAML
}
