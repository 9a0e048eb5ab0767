package configsvc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/admission"
)

func login(t *testing.T, name, password string) admission.Change {
	t.Helper()
	secret := &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: password}}
	cfg, err := anypb.New(&credentialv1.BasicAuth{Username: name, Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	return admission.Change{Kind: "credentials", Name: "alice/" + name, Message: &configv1.Credential{
		Name: name, Consumer: "alice", Type: "basic-auth", Config: cfg,
	}}
}

func TestPasswordsAreKeptAsHashes(t *testing.T) {
	t.Parallel()
	r := newWorld(t).replica(t)
	const secret = "correct horse"
	first := r.mustWrite(t, consumer("alice"), login(t, "a", secret))
	if !first.Changed || strings.Contains(fmt.Sprint(first.Items[1].After.Message), secret) {
		t.Errorf("stored: %v", first.Items[1].After.Message)
	}
	if again := r.mustWrite(t, login(t, "a", secret)); again.Changed {
		t.Errorf("the same password again makes revision %d", again.Revision)
	}
	if other := r.mustWrite(t, login(t, "a", secret+"!")); !other.Changed {
		t.Error("another password changes nothing")
	}
	if _, err := r.write(t.Context(), login(t, "b", "short")); err == nil || !strings.Contains(err.Error(), "at least 8 characters") {
		t.Errorf("a short password: %v", err)
	}
	_, err := r.write(t.Context(), func() admission.Change {
		c := login(t, "c", secret)
		m, _ := c.Message.(*configv1.Credential)
		m.Config = login(t, "a", secret).Message.(*configv1.Credential).GetConfig()
		return c
	}())
	if err == nil || !strings.Contains(err.Error(), "username") {
		t.Errorf("a user name twice: %v", err)
	}
}

// TestHashingHoldsNoLock: somebody who brings many passwords does not keep others from writing.
func TestHashingHoldsNoLock(t *testing.T) {
	t.Parallel()
	r := newWorld(t).replica(t)
	r.mustWrite(t, consumer("alice"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var many []admission.Change
	for i := range 200 {
		many = append(many, login(t, fmt.Sprint("u", i), "correct horse"))
	}
	ended := make(chan error)
	go func() {
		_, err := r.write(ctx, many...)
		ended <- err
	}()
	for i := range 5 {
		r.mustWrite(t, service(fmt.Sprint("s", i)))
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("200 passwords were hashed before five services were written")
	}
	if _, ok := r.fresh(t).Get("credentials", "alice/u0"); ok {
		t.Error("what ended half way was stored")
	}
}
