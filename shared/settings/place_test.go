package settings_test

import (
	"os"
	"strings"
	"testing"

	"keyward.dev/shared/settings"
)

func TestSecretsCanBeElsewhere(t *testing.T) {
	t.Parallel()
	const canary = "canary-0123456789"
	file := secretFile(t, canary+"\n")
	variables := lookup(map[string]string{"HELD": canary, "CHAIN": "{env://HELD}"})
	for _, tt := range []struct{ name, value, want, vault, fault string }{
		{name: "itself", value: canary, want: canary},
		{name: "with a brace", value: "{" + canary, want: "{" + canary},
		{name: "a file", value: "{file://" + file + "}", want: canary},
		{name: "a variable", value: "{env://HELD}", want: canary},
		{name: "what a variable holds is no reference", value: "{env://CHAIN}", want: "{env://HELD}"},
		{name: "vault", value: "{vault://v.test:8200/kv/db?auth=token#url}", vault: "https://v.test:8200/kv/db?auth=token#url"},
		{name: "vault with its scheme", value: "{vault:http://127.0.0.1:8200/kv/db#url}", vault: "http://127.0.0.1:8200/kv/db#url"},
		{name: "a file that is not there", value: "{file:///nonexistent/" + canary + "}", fault: "no such file"},
		{name: "a file by halves", value: "{file://secret}", fault: "names no file"},
		{name: "a file with detours", value: "{file:///etc/../etc/passwd}", fault: "names no file"},
		{name: "a variable that is not set", value: "{env://MISSING}", fault: "MISSING, which is not set"},
		{name: "no variable", value: "{env://A B}", fault: "names no variable"},
		{name: "another scheme", value: "{aws://" + canary + "}", fault: "is a reference of no form"},
		{name: "braces", value: "{" + canary + "}", fault: "is a reference of no form"},
		{name: "without braces", value: "vault://kv/" + canary, fault: "is a reference of no form"},
		{name: "a part", value: "postgres://u:{env://HELD}@h/" + canary, fault: "stands for the whole"},
		{name: "of another product", value: "$secret://vault/" + canary, fault: "holds a reference"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := settings.Refer(tt.value, variables)
			if got.Reveal() != tt.want || got.Vault() != tt.vault || (err != nil) != (tt.fault != "") {
				t.Errorf("Refer() = %q, %q, %v", got.Reveal(), got.Vault(), err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.fault) || strings.Contains(err.Error(), canary) && !strings.Contains(tt.value, "nonexistent")) {
				t.Errorf("the fault is %v, want %q and nothing of the value", err, tt.fault)
			}
		})
	}
}

func TestASettingRefersToVaultOnlyWhereItIsAsked(t *testing.T) {
	t.Parallel()
	var c config
	fs := flags(&c)
	var asked settings.Secret
	settings.VaultSecretVar(fs, &asked, "asked", "a secret")
	const at = "{vault://v.test/kv/db#url}"
	err := settings.Parse(fs, nil, lookup(map[string]string{"KEYWARD_ASKED": at, "KEYWARD_DATABASE_URL": at}))
	if err == nil || !strings.Contains(err.Error(), "(KEYWARD_DATABASE_URL): refers to Vault") || strings.Contains(err.Error(), "KEYWARD_ASKED") {
		t.Errorf("Parse() = %v, want a fault of database-url alone", err)
	}
	if !asked.IsSet() || asked.Reveal() != "" || asked.Vault() == "" {
		t.Errorf("the reference is %v, %q", asked, asked.Reveal())
	}
}

func TestAFileIsReadAgain(t *testing.T) {
	t.Parallel()
	file := secretFile(t, "first")
	var c config
	if err := settings.Parse(flags(&c), []string{"--database-url-file", file}, lookup(map[string]string{"KEYWARD_JOIN_TOKEN": "{file://" + file + "}"})); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]settings.Secret{"flag": c.Database, "reference": c.Token} {
		again, err := s.Again()
		if err != nil || s.Reveal() != "first" || again.Reveal() != "second" || !s.Changes() {
			t.Errorf("%s: %q, then %q, %v", name, s.Reveal(), again.Reveal(), err)
		}
	}
	if s := settings.NewSecret("x"); s.Changes() {
		t.Error("a secret that stands in its setting changes")
	}
}

func FuzzRefer(f *testing.F) {
	for _, seed := range []string{"x", "{file:///a}", "{env://A}", "{vault://h/m/p#f}", "{vault:http://h/m/p#f}", "{}", "{file://%2f}", "a{env://b}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := settings.Refer(value, lookup(map[string]string{"A": "a"}))
		text := strings.TrimSpace(value)
		if err == nil && strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") && got.Reveal() == value {
			t.Errorf("Refer(%q) takes a reference for a secret", value)
		}
		if err != nil && got.IsSet() {
			t.Errorf("Refer(%q) = a secret and %v", value, err)
		}
	})
}
