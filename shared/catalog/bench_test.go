package catalog_test

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/shared/catalog"
)

// BenchmarkDecode reads a file of routes and consumers with policies and credentials.
func BenchmarkDecode(b *testing.B) {
	c := newCatalog(b)
	for _, n := range []int{10, 1_000} {
		var doc bytes.Buffer
		doc.WriteString("group: default\nservices:\n  - {name: s, url: \"http://a.test\"}\nroutes:\n")
		for i := range n {
			fmt.Fprintf(&doc, "  - name: r%d\n    service: s\n    hosts: [r%d.test]\n    policies:\n      - {type: key-auth, config: {header: X-API-Key}}\n      - {type: rate-limit, config: {windows: [{limit: 5, window: 60s}], by: consumer}}\n", i, i)
		}
		doc.WriteString("consumers:\n")
		for i := range n {
			fmt.Fprintf(&doc, "  - {name: c%d, groups: [gold], credentials: [{name: k, type: key-auth, config: {key: \"key-%d\"}}]}\n", i, i)
		}
		d, vs := c.Decode(doc.Bytes(), catalog.YAML)
		if len(vs) > 0 {
			b.Fatal(vs)
		}
		var all []proto.Message
		for _, it := range d.Items {
			all = append(all, it.Message)
		}
		var asJSON bytes.Buffer
		if err := c.Export(&asJSON, "default", all, catalog.JSON); err != nil {
			b.Fatal(err)
		}
		for _, form := range []struct {
			typ  string
			text []byte
		}{{catalog.YAML, doc.Bytes()}, {catalog.JSON, asJSON.Bytes()}} {
			b.Run(fmt.Sprintf("%s/%d", form.typ[len("application/"):], n), func(b *testing.B) {
				b.SetBytes(int64(len(form.text)))
				b.ReportAllocs()
				for b.Loop() {
					if _, vs := c.Decode(form.text, form.typ); len(vs) > 0 {
						b.Fatal(vs)
					}
				}
			})
		}
	}
}
