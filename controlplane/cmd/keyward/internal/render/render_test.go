package render_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

func plain() *render.Printer {
	return render.NewPrinter(func(proto.Message) ([]byte, bool, error) { return nil, false, nil })
}

// FuzzTextSurvives: any text comes back from what is printed, in both formats, as the same text.
func FuzzTextSurvives(f *testing.F) {
	for _, s := range []string{"", "plain", "true", "~", "12", "1e3", "a: b", "- x", "{x}", "x\ny", " x ", "2026-01-01", "é\u2028", "'", `"`, "#", "null", "0x1f", "<a&b>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m := &adminv1.Identity{Name: s, Grants: []*adminv1.Grant{{Group: s, Role: "viewer"}}}
		if _, err := proto.Marshal(m); err != nil {
			return // no such message can come over the wire
		}
		for format, read := range map[render.Format]func([]byte, any) error{
			render.JSON: json.Unmarshal,
			render.YAML: func(data []byte, v any) error { return yaml.Unmarshal(data, v) },
		} {
			var b bytes.Buffer
			if err := plain().Message(&b, format, m); err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			var got struct {
				Name   any
				Grants []struct{ Group any }
			}
			if err := read(b.Bytes(), &got); err != nil {
				t.Fatalf("%s: %v in\n%s", format, err, &b)
			}
			if got.Name != s || got.Grants[0].Group != s {
				t.Errorf("%s: %q came back as %#v and %#v from\n%s", format, s, got.Name, got.Grants[0].Group, &b)
			}
		}
	})
}
