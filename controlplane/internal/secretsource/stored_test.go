package secretsource_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/snapshot"
)

// loaded is the provider as a replica that knows nothing but the database has it.
func (w *world) loaded(t *testing.T) *snapshot.Resource {
	t.Helper()
	v, err := w.replica(t).groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	r, ok := v.Get(secretplace.Kind, "place")
	if !ok {
		t.Fatal("there is no provider")
	}
	return r
}

// TestCredentialsAreStoredWithTheRest although no digest counts them: a restart and a rollback bring back the right ones, and a
// row with earlier ones is noticed.
func TestCredentialsAreStoredWithTheRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	token := func() string {
		t.Helper()
		p, _ := w.loaded(t).Message.(*configv1.SecretProvider)
		return p.GetVault().GetToken().GetPlaintext()
	}
	first := placedWithoutCA("https://v.test")
	second := proto.CloneOf(first)
	second.Vault.Token = plain("CANARY-another-token")
	if err := r.apply(t, "g", first); err != nil {
		t.Fatal(err)
	}
	then := w.loaded(t).Revision
	w.db.Exec(t, `create table earlier as select * from resources where kind = 'secret-providers'`)
	if err := r.apply(t, "g", second); err != nil {
		t.Fatal(err)
	}
	if got := token(); got != second.GetVault().GetToken().GetPlaintext() {
		t.Errorf("after a restart the token is %q", got)
	}
	if _, err := r.Rollback(t.Context(), configsvc.RollbackRequest{Actor: "test", Group: "g", To: then}); err != nil {
		t.Fatal(err)
	}
	if got := token(); got != first.GetVault().GetToken().GetPlaintext() {
		t.Errorf("after a rollback the token is %q", got)
	}
	if err := r.apply(t, "g", second); err != nil {
		t.Fatal(err)
	}
	w.db.Exec(t, `update resources r set sealed = e.sealed, revision = e.revision, updated_at = e.updated_at from earlier e where r.uid = e.uid`)
	if got := w.loaded(t); got.Message != nil || !strings.Contains(got.Unreadable, "revision") {
		t.Errorf("a row with the token of before is read: %q", got.Unreadable)
	}
}
