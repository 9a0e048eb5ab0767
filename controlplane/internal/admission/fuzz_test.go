package admission_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
)

// FuzzAdmit holds that whatever the document, admission answers; that what it admits is in stored form, stays the same
// when the document is applied again, and that no key is in anything that comes out.
func FuzzAdmit(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, rest, _ := bytes.Cut(raw, []byte(" --\n"))
		doc, _, _ := bytes.Cut(rest, []byte("-- want --\n"))
		f.Add(string(doc), false)
		f.Add(string(doc), true)
	}
	f.Add(base, true)
	shared := newGroup(f)
	f.Fuzz(func(t *testing.T, doc string, prune bool) {
		d, faults := shared.cat.Decode([]byte(doc), catalog.YAML)
		if d == nil {
			return
		}
		g := &group{t: t, cat: shared.cat, adm: shared.adm, terms: []uint32{1}, members: map[string]*snapshot.Resource{}}
		g.must(base)
		req := admission.Request{Faults: faults, Prune: prune}
		for _, it := range d.Items {
			req.Changes = append(req.Changes, admission.Change{Kind: it.Kind, Message: it.Message, Path: it.Path, Clears: it.Clears})
		}
		a, vs := g.admit(req)
		for _, v := range d.Locate(vs) {
			if strings.Contains(v.Reason, key) {
				t.Fatalf("the key is told: %v", v)
			}
		}
		if len(vs) > 0 {
			return
		}
		for _, u := range a.Upserts {
			raw, err := proto.Marshal(u.Message)
			if err != nil || u.Kind == "credentials" && bytes.Contains(raw, []byte(key)) {
				t.Fatalf("%s: %v", u.Name, err)
			}
			again := proto.Clone(u.Message)
			if vs := g.cat.Normalize(again); len(vs) > 0 || !proto.Equal(again, u.Message) {
				t.Fatalf("%s is not in normal form: %v\n%v\n%v", u.Name, vs, u.Message, again)
			}
		}
		g.commit(a)
		g.compiles(t)
		if a, vs = g.admit(req); len(vs) > 0 || len(a.Upserts)+len(a.Deletes) > 0 {
			t.Fatalf("applied again: %q, %v", summary(a), vs)
		}
	})
}
