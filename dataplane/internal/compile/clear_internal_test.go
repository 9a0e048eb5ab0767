package compile

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
)

func plain(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

// TestReferencesInConfigurationsAreResolved looks at one secret: as it is, and as a reference of which this and that is known.
func TestReferencesInConfigurationsAreResolved(t *testing.T) {
	t.Parallel()
	const ref = "{vault://corp/hmac#key}"
	resolved := func(name, reference string, v *configv1.Secret) statetest.Record {
		return statetest.Record{Kind: kindResolved, UID: "u", Name: name, Resource: &systemv1.ResolvedSecret{Reference: reference, Value: v}}
	}
	name := certs.ValueName(ref)
	for _, tt := range []struct {
		name    string
		secret  *configv1.Secret
		records []statetest.Record
		want    string
		fault   string
	}{
		{"in the clear", plain("s"), nil, "s", ""},
		{"in the clear, and like one", plain("{x://y/z}"), nil, "{x://y/z}", ""},
		{"left out", nil, nil, "", ""},
		{"read", &configv1.Secret{Value: &configv1.Secret_Ref{Ref: ref}}, []statetest.Record{resolved(name, ref, plain("value"))}, "value", ""},
		{"never read", &configv1.Secret{Value: &configv1.Secret_Ref{Ref: ref}}, nil, "", "has not been read yet"},
		{"of another reference", &configv1.Secret{Value: &configv1.Secret_Ref{Ref: ref}}, []statetest.Record{resolved(name, "{vault://corp/other#key}", plain("value"))}, "", "has not been read yet"},
		{"too old", &configv1.Secret{Value: &configv1.Secret_Ref{Ref: ref}}, []statetest.Record{resolved(name, ref, nil)}, "", "could not be read for too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := &configv1.AcmeExternalAccount{KeyId: "k", Key: tt.secret}
			packed, err := anypb.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			b := &build{rt: &runtime.Runtime{Set: statetest.Set(t, tt.records...)}}
			out, refs, reason := b.clear(packed, cfg)
			got, _ := out.(*configv1.AcmeExternalAccount)
			if got.GetKey().GetPlaintext() != tt.want || !strings.HasSuffix(reason, tt.fault) || (reason == "") != (tt.fault == "") {
				t.Errorf("%q, %q, want %q, %q", got.GetKey().GetPlaintext(), reason, tt.want, tt.fault)
			}
			if refers := tt.secret.GetRef() != ""; refers != (len(refs) == 1 && refs[0] == refToValue(name)) || refers && cfg.GetKey().GetRef() != ref {
				t.Errorf("made from %v; the configuration is %v", refs, cfg.GetKey())
			}
		})
	}
}
