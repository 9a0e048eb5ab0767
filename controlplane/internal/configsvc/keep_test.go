package configsvc_test

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/admission"
)

// TestKeepingASecretNeverBringsBackARotatedOne lets one replica exchange a key while another writes the credential and
// keeps its key: in whatever order they come, the new key stays.
func TestKeepingASecretNeverBringsBackARotatedOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.replica(t), w.replica(t)
	first.mustWrite(t, consumer("a"), key(t, "a", "k", strongKey(0)))
	for n := 1; n <= 8; n++ {
		rotated := key(t, "a", "k", strongKey(n))
		var wg sync.WaitGroup
		errs := make([]error, 2)
		wg.Go(func() { _, errs[0] = first.write(t.Context(), rotated) })
		wg.Go(func() { _, errs[1] = second.write(t.Context(), keep(t, fmt.Sprint("round ", n))) })
		wg.Wait()
		if errs[0] != nil || errs[1] != nil {
			t.Fatalf("round %d: %v, %v", n, errs[0], errs[1])
		}
		stored, ok := w.replica(t).fresh(t).Get("credentials", "a/k")
		if !ok {
			t.Fatal("the credential is gone")
		}
		credential, _ := stored.Message.(*configv1.Credential)
		again, _ := rotated.Message.(*configv1.Credential)
		again.Description = credential.GetDescription()
		if res := first.mustWrite(t, rotated); res.Changed {
			t.Fatalf("round %d: the stored key is not the new one", n)
		}
	}
}

// keep is the credential a/k with another description and the key it has.
func keep(t *testing.T, description string) admission.Change {
	t.Helper()
	cfg, err := anypb.New(&credentialv1.KeyAuth{Key: &configv1.Secret{Set: true}})
	if err != nil {
		t.Fatal(err)
	}
	return admission.Change{Kind: "credentials", Name: "a/k", Message: &configv1.Credential{
		Name: "k", Consumer: "a", Description: description, Type: "key-auth", Config: cfg,
	}}
}
