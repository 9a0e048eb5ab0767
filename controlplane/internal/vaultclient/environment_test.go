package vaultclient_test

import (
	"testing"

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/testkit/vaulttest"
)

// TestTheEnvironmentChangesNothing is not parallel: it sets what the library would follow.
func TestTheEnvironmentChangesNothing(t *testing.T) {
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	t.Setenv("VAULT_TOKEN", v.Token)
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	t.Setenv("VAULT_NAMESPACE", "elsewhere")
	t.Setenv("VAULT_ADDR", "https://192.0.2.1")
	if err := write(t, client(t, v, token(v.Token))); err != nil {
		t.Errorf("with its own settings: %v", err)
	}
	if err := write(t, client(t, v, token("hvs.none"))); err == nil {
		t.Error("the token of the environment was used")
	}
	untrusted, err := vaultclient.New(vaultclient.Config{Address: v.Address, Timeout: 1e9, Auth: token(v.Token)})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t, untrusted); err == nil {
		t.Error("the environment switched verification off")
	}
}
