package secret_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/secret"
)

const canary = "CANARY-7f3a"

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func credential(t *testing.T, key *configv1.Secret) *configv1.Credential {
	return &configv1.Credential{Name: "a", Type: "key-auth", Config: pack(t, &credentialv1.KeyAuth{Key: key})}
}

func plain(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

func TestWalkFindsSecretsInsideConfigurations(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]*configv1.Secret{"set": plain("x"), "left out": nil} {
		c := credential(t, key)
		var paths []string
		err := secret.Walk(c, func(f secret.Field) {
			paths = append(paths, f.Path)
			if f.Storage != optionsv1.Storage_STORAGE_KEYED_HASH {
				t.Errorf("%s: storage = %v", name, f.Storage)
			}
			if !proto.Equal(f.Get(), key) {
				t.Errorf("%s: Get = %v", name, f.Get())
			}
			if !strings.Contains(f.ID, "KeyAuth") {
				t.Errorf("%s: ID = %q does not tell the type", name, f.ID)
			}
		})
		if err != nil || !slices.Equal(paths, []string{"config.key"}) {
			t.Errorf("%s: paths = %q, %v", name, paths, err)
		}
	}
}

func TestWalkPacksOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	c := credential(t, plain("x"))
	before := proto.CloneOf(c)
	if err := secret.Walk(c, func(secret.Field) {}); err != nil || !proto.Equal(before, c) {
		t.Errorf("a walk that changes nothing changed %v to %v (%v)", before, c, err)
	}
	if err := secret.Walk(c, func(f secret.Field) { f.Set(nil) }); err != nil {
		t.Fatal(err)
	}
	if want := credential(t, nil); !proto.Equal(c, want) {
		t.Errorf("got %v, want %v", c, want)
	}
}

func TestWalkRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*anypb.Any{
		"unknown type": {TypeUrl: "type.googleapis.com/keyward.policy.v1.Nope", Value: []byte(canary)},
		"damaged":      {TypeUrl: "type.googleapis.com/keyward.credential.v1.KeyAuth", Value: []byte("\xff" + canary)},
	} {
		c := &configv1.Credential{Config: a}
		err := secret.Walk(c, func(secret.Field) {})
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: err = %v", name, err)
		}
		if _, err := secret.Redact(c); err == nil {
			t.Errorf("%s: redacted", name)
		}
	}
}

func TestRedactLeavesNoCanary(t *testing.T) {
	t.Parallel()
	hash := &configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: &configv1.KeyedHash{Term: 1, Hash: []byte(canary)}}}
	ref := &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{vault://corp/x}"}}
	for _, tt := range []struct {
		name      string
		key, want *configv1.Secret
	}{
		{"plaintext", plain(canary), &configv1.Secret{Set: true}},
		{"hash", hash, &configv1.Secret{Set: true}},
		{"set", &configv1.Secret{Set: true}, &configv1.Secret{Set: true}},
		{"reference", ref, ref},
		{"nothing", nil, nil},
	} {
		in := credential(t, tt.key)
		before := proto.CloneOf(in)
		got, err := secret.Redact(in)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(in, before) {
			t.Errorf("%s: the original was changed", tt.name)
		}
		if want := credential(t, tt.want); !proto.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, want)
		}
	}
}

func TestRedactedCannotBePrinted(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	for _, m := range []proto.Message{
		credential(t, plain(canary)),
		&configv1.Credential{Config: &anypb.Any{TypeUrl: "x/unknown", Value: []byte(canary)}},
	} {
		r := secret.Redacted(m)
		log.Info("a message", "resource", r)
		fmt.Fprintf(&b, "%v %+v %s %#v", r, r, r, r)
	}
	if strings.Contains(b.String(), canary) {
		t.Errorf("the secret is in %s", b.String())
	}
	if !strings.Contains(b.String(), "key-auth") {
		t.Errorf("nothing is left in %s", b.String())
	}
}

func TestPoliciesAreFoundByTypeAndName(t *testing.T) {
	t.Parallel()
	r := &configv1.Route{Policies: []*configv1.Binding{{Type: "key-auth", Config: pack(t, &policyv1.KeyAuth{})}}}
	if err := secret.Walk(r, func(f secret.Field) { t.Errorf("found %s", f.Path) }); err != nil {
		t.Error(err)
	}
}
