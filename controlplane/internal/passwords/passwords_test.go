package passwords_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/passwords"
	"keyward.dev/shared/password"
	"keyward.dev/shared/problem"
)

func plain(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

func hashed(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_PasswordHash{PasswordHash: &configv1.PasswordHash{Text: text}}}
}

func credential(t testing.TB, name string, secret *configv1.Secret) *configv1.Credential {
	t.Helper()
	cfg, err := anypb.New(&credentialv1.BasicAuth{Username: name, Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	return &configv1.Credential{Consumer: "c", Name: name, Type: "basic-auth", Config: cfg}
}

// kept returns what became of a credential's password.
func kept(t *testing.T, m proto.Message) *configv1.Secret {
	t.Helper()
	c, _ := m.(*configv1.Credential)
	var cfg credentialv1.BasicAuth
	if err := c.GetConfig().UnmarshalTo(&cfg); err != nil {
		t.Fatal(err)
	}
	return cfg.GetPassword()
}

func upsert(m proto.Message) admission.Change {
	return admission.Change{Kind: "credentials", Message: m}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	const secret = "correct horse"
	old, err := password.New(secret)
	if err != nil {
		t.Fatal(err)
	}
	store := map[string]proto.Message{
		"c/same":    credential(t, "same", hashed(old.String())),
		"c/changed": credential(t, "changed", hashed(old.String())),
		"c/damaged": credential(t, "damaged", hashed("$5$")),
	}
	given := []*configv1.Credential{
		credential(t, "new", plain(secret)), credential(t, "same", plain(secret)), credential(t, "changed", plain(secret+"!")),
		credential(t, "damaged", plain(secret)), credential(t, "short", plain("short")), credential(t, "imported", hashed("$2b$10$x")),
		credential(t, "set", &configv1.Secret{Set: true}),
	}
	var changes []admission.Change
	for _, m := range given {
		changes = append(changes, upsert(proto.CloneOf(m)))
	}
	before := changes[0].Message
	work := passwords.Find(changes)
	err = passwords.New(2).Replace(t.Context(), work, func(name string) proto.Message { return store[name] })
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, given[0]) {
		t.Error("the message that was given was changed")
	}
	for i, want := range []string{secret, secret, secret + "!", secret} {
		h, err := password.Parse(kept(t, changes[i].Message).GetPasswordHash().GetText())
		if err != nil || !h.Verify([]byte(want), nil) {
			t.Errorf("%s: kept as %v, %v", given[i].GetName(), h, err)
		}
		if same := h.String() == old.String(); same != (given[i].GetName() == "same") {
			t.Errorf("%s: the stored hash is kept: %v", given[i].GetName(), same)
		}
	}
	for i := 4; i < len(given); i++ {
		if !proto.Equal(changes[i].Message, given[i]) {
			t.Errorf("%s: became %v", given[i].GetName(), kept(t, changes[i].Message))
		}
	}
}

func TestFindLooksOnlyAtWhatIsPut(t *testing.T) {
	t.Parallel()
	c := credential(t, "a", plain("correct horse"))
	key, err := anypb.New(&credentialv1.KeyAuth{Key: plain(strings.Repeat("k", 40))})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]admission.Change{
		"deleted":      {Op: admission.OpDelete, Kind: "credentials", Message: c},
		"restored":     {Kind: "credentials", Message: c, Restored: true},
		"a key":        upsert(&configv1.Credential{Consumer: "c", Name: "a", Type: "key-auth", Config: key}),
		"a consumer":   upsert(&configv1.Consumer{Name: "a"}),
		"unreadable":   upsert(&configv1.Credential{Config: &anypb.Any{TypeUrl: "x/y", Value: []byte("correct horse")}}),
		"no message":   {Kind: "credentials"},
		"too long":     upsert(credential(t, "a", plain(strings.Repeat("x", 1025)))),
		"control code": upsert(credential(t, "a", plain("correct\nhorse"))),
	} {
		if !passwords.Find([]admission.Change{change}).Empty() {
			t.Errorf("%s: something is found to hash", name)
		}
	}
	if passwords.Find([]admission.Change{upsert(c)}).Empty() {
		t.Error("a password is not found")
	}
}

func TestReplaceEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	changes := []admission.Change{upsert(credential(t, "a", plain("correct horse"))), upsert(credential(t, "b", plain("correct horse")))}
	gone := func(string) proto.Message { cancel(); return nil }
	err := passwords.New(1).Replace(ctx, passwords.Find(changes), gone)
	if problem.Of(err).Code != problem.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("Replace = %v", err)
	}
	if kept(t, changes[0].Message).GetPasswordHash() != nil || kept(t, changes[1].Message).GetPasswordHash() != nil {
		t.Error("half of the work was put in")
	}
}
