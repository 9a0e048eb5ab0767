package catalog_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/shared/catalog"
)

// seeds are the documents of the golden files.
func seeds(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.txtar")
	for _, file := range files {
		sections := readArchive(f, file)
		f.Add(sections[0].body, strings.HasSuffix(sections[0].name, ".json"))
	}
	f.Add([]byte("services: [{name: a, url: http://a.test}]\nroutes: [{name: b, service: a, paths: /}]"), false)
	f.Add([]byte("consumers: [{name: a, credentials: [{name: b, type: key-auth, config: {key: {plaintext: \"{x\"}}}]}]"), false)
}

// FuzzDecode holds that reading never panics, that what was read without fault is written and read back to the same
// messages, and that normalising twice is normalising once.
func FuzzDecode(f *testing.F) {
	c := newCatalog(f)
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte, asJSON bool) {
		typ := catalog.YAML
		if asJSON {
			typ = catalog.JSON
		}
		doc, vs := c.Decode(body, typ)
		for _, k := range c.Kinds() {
			item, faults := c.DecodeResource(k.Name, body, typ, catalog.Place{})
			if item != nil {
				c.Normalize(item.Message)
				if patched, _ := c.Patch(item.Message, body, catalog.Place{}); patched != nil && len(faults) == 0 {
					c.Normalize(patched.Message)
				}
			}
		}
		if doc == nil || len(vs) > 0 {
			return
		}
		for _, it := range doc.Items {
			stable(t, c, it)
		}
	})
}

// stable checks decode∘encode of one resource in all forms.
func stable(t *testing.T, c *catalog.Catalog, it catalog.Item) {
	if len(c.Normalize(it.Message)) > 0 {
		return
	}
	once := proto.Clone(it.Message)
	if vs := c.Normalize(it.Message); len(vs) > 0 || !proto.Equal(once, it.Message) {
		t.Fatalf("normalising again changes %v to %v: %v", once, it.Message, vs)
	}
	want, err := c.Encode(it.Message, catalog.JSON, catalog.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{catalog.JSON, catalog.YAML} {
		for i := range 4 {
			o := catalog.EncodeOptions{OmitDefaults: i&1 != 0, ShortForms: i&2 != 0}
			text, err := c.Encode(it.Message, typ, o)
			if err != nil {
				t.Fatal(err)
			}
			back, vs := c.DecodeResource(it.Kind, text, typ, catalog.Place{})
			if len(vs) > 0 {
				t.Fatalf("cannot read back %+v: %v\n%s", o, vs, text)
			}
			if vs := c.Normalize(back.Message); len(vs) > 0 {
				t.Fatalf("read back, it is not normal: %v", vs)
			}
			again, err := c.Encode(back.Message, catalog.JSON, catalog.EncodeOptions{})
			if err != nil || !bytes.Equal(again, want) {
				t.Fatalf("%+v: got\n%s\nwant\n%s\nby way of\n%s (%v)", o, again, want, text, err)
			}
		}
	}
}

// FuzzSecret holds that no secret is in anything that is written or told, wherever it stands and however it looks.
func FuzzSecret(f *testing.F) {
	c := newCatalog(f)
	for _, s := range []string{"x", "*alias", "&anchor", "!tag", "{vault://corp/x#y}", "env://HOME", "\x00", "a: b", "[", "\"", "|", "$secret://", "123", "- x", "é"} {
		f.Add(s, byte(0))
		f.Add(s, byte(1))
		f.Add(s, byte(5))
	}
	f.Fuzz(func(t *testing.T, tail string, form byte) {
		canary := "CaNaRy" + strings.ReplaceAll(fmt.Sprintf("%x", tail), "0", "g")
		value := tail + canary + tail
		var text string
		switch form % 6 {
		case 0:
			text = value
		case 1:
			text = fmt.Sprintf("%q", value)
		case 2:
			text = "{plaintext: " + value + "}"
		case 3:
			text = "{" + value + "}"
		case 4:
			text = "{ref: " + value + "}"
		default:
			text = "{set: " + value + "}"
		}
		doc := "consumers:\n  - name: a\n    credentials:\n      - name: b\n        type: key-auth\n        config:\n          key: " + text + "\n"
		d, vs := c.Decode([]byte(doc), catalog.YAML)
		for _, v := range vs {
			// A line break can make the value a key of the mapping around it; keys are named.
			oneLine := !strings.ContainsAny(tail, "\n\r\u0085\u2028\u2029")
			if strings.Contains(v.Reason, canary) || oneLine && strings.Contains(v.Path, canary) {
				t.Fatalf("%q is told: %v", doc, v)
			}
		}
		if d == nil {
			return
		}
		for _, it := range d.Items {
			out, err := c.Encode(it.Message, catalog.JSON, catalog.EncodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			refers := form%6 == 4 && strings.HasPrefix(value, "/") // where a file is may be known
			if it.Kind == "credentials" && len(vs) == 0 && !refers && bytes.Contains(out, []byte(canary)) {
				t.Fatalf("%q is written: %s", doc, out)
			}
		}
	})
}
