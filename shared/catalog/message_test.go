package catalog_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
)

func TestDecodeMessage(t *testing.T) {
	t.Parallel()
	plain, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	cat, err := plain.With((&adminv1.CreateTokenRequest{}).ProtoReflect().Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	var got adminv1.CreateTokenRequest
	body := `{"name": "ci", "grants": [{"group": "*", "role": "viewer"}], "ttl": "1h"}`
	if vs := cat.DecodeMessage(&got, []byte(body), catalog.JSON); len(vs) > 0 {
		t.Fatal(vs)
	}
	want := &adminv1.CreateTokenRequest{
		Name: "ci", Grants: []*adminv1.Grant{{Group: "*", Role: "viewer"}}, Ttl: &durationpb.Duration{Seconds: 3600},
	}
	if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var paths []string
	for _, v := range cat.DecodeMessage(&adminv1.CreateTokenRequest{}, []byte(`{"ttl": 5, "grants": [{"roleName": "x"}], "name": true}`), catalog.JSON) {
		paths = append(paths, v.Path)
	}
	if diff := cmp.Diff([]string{"grants[0].roleName", "name", "ttl"}, paths); diff != "" {
		t.Errorf("paths (-want +got)\n%s", diff)
	}
	if vs := plain.DecodeMessage(&got, []byte(body), catalog.JSON); len(vs) == 0 {
		t.Error("a message nobody announced was read")
	}
}
