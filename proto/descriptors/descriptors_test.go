package descriptors_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keyward.dev/proto/descriptors"
	_ "keyward.dev/proto/gen/keyward/admin/v1"
	_ "keyward.dev/proto/gen/keyward/config/v1"
	_ "keyward.dev/proto/gen/keyward/credential/v1"
	_ "keyward.dev/proto/gen/keyward/policy/v1"
)

func TestCommentsCoverWhatPeopleRead(t *testing.T) {
	t.Parallel()
	comments, err := descriptors.Load()
	if err != nil {
		t.Fatal(err)
	}
	check := func(d protoreflect.Descriptor) {
		if comments.Of(d) == "" {
			t.Errorf("%s has no comment, or keyward.binpb is out of date", d.FullName())
		}
	}
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(fd.Package()), "keyward.") {
			return true
		}
		for i := range fd.Services().Len() {
			s := fd.Services().Get(i)
			check(s)
			for j := range s.Methods().Len() {
				check(s.Methods().Get(j))
			}
		}
		if fd.Package() == "keyward.admin.v1" || fd.Package() == "keyward.options.v1" {
			return true // their field names speak for themselves
		}
		for i := range fd.Messages().Len() {
			m := fd.Messages().Get(i)
			check(m)
			for j := range m.Fields().Len() {
				check(m.Fields().Get(j))
			}
		}
		return true
	})
}
