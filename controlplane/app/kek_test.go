package app_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/controlplane/app"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
)

// env finds the variables that it holds.
func env(variables map[string]string) settings.Lookup {
	return func(name string) (string, bool) { v, ok := variables[name]; return v, ok }
}

func kekText(letter string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32)))
}

func TestKEKSettings(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, []byte(kekText("f")), 0o600); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "keys")
	const old, older = "qZ7xV2mN9pL4tR8wB1cD5fG9hJ3kS6yA", "Xw3eR5tY7uI9oP1aS2dF4gH6jK8lZ0xC"
	if err := os.WriteFile(list, []byte(old+"\n"+older+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	given := env(map[string]string{"KEYWARD_KEK": kekText("k"), "OTHER": kekText("o")})
	for name, c := range map[string]struct {
		kek  app.KEK
		want string // what the fault says; empty: none
	}{
		"a file":                         {app.KEK{File: path, Lookup: env(nil)}, ""},
		"the variable":                   {app.KEK{Lookup: given}, ""},
		"a URI":                          {app.KEK{URI: "file:" + path, Lookup: env(nil)}, ""},
		"the variable refers to a file":  {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": "{file://" + path + "}"})}, ""},
		"to another variable":            {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": "{env://OTHER}", "OTHER": kekText("o")})}, ""},
		"to one that is not set":         {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": "{env://OTHER}"})}, "OTHER, which is not set"},
		"to Vault":                       {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": "{vault://v.test/kv/kek?token-env=OTHER#key}", "OTHER": "t"})}, ""},
		"to Vault, without a login":      {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": "{vault://v.test/kv/kek#key}"})}, "KEYWARD_KEK: vault: "},
		"to no field of Vault":           {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": "{vault://v.test/kv/kek?token-env=OTHER}", "OTHER": "t"})}, "is not of the form"},
		"to what Vault makes":            {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": "{vault://v.test/database/creds/a?engine=database&token-env=OTHER#key}", "OTHER": "t"})}, `no parameter "engine"`},
		"a URI of Vault's KV engine":     {app.KEK{URI: "vaultkv:https://v.test/kv/kek?token-env=OTHER#key", Lookup: env(map[string]string{"OTHER": "t"})}, ""},
		"one without a field":            {app.KEK{URI: "vaultkv:https://v.test/kv/kek?token-env=OTHER", Lookup: env(map[string]string{"OTHER": "t"})}, "--kek-uri: is not of the form"},
		"a list in the variable":         {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK_KEYS": old + "\n" + older})}, ""},
		"a list that is in two places":   {app.KEK{KeysFile: list, Lookup: env(map[string]string{"KEYWARD_KEK_KEYS": old})}, "which of the two"},
		"a list and a URI":               {app.KEK{URI: "file:" + path, Lookup: env(map[string]string{"KEYWARD_KEK_KEYS": old})}, "which of the two"},
		"a list to which it is referred": {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK_KEYS": "{vault://v.test/kv/kek?token-env=OTHER#keys}", "OTHER": "t"})}, ""},
		"with others":                    {app.KEK{Lookup: given, Retired: []string{"file:" + path}, Next: []string{"env:OTHER"}}, ""},
		"a list":                         {app.KEK{KeysFile: list, Lookup: env(nil)}, ""},
		"a list and a retired one":       {app.KEK{KeysFile: list, Retired: []string{"file:" + path}, Lookup: env(nil)}, ""},
		"a list that is not there":       {app.KEK{KeysFile: "/nonexistent", Lookup: env(nil)}, "no such file"},
		"a list and a file":              {app.KEK{KeysFile: list, File: path, Lookup: env(nil)}, "which of the two"},
		"a list and the variable":        {app.KEK{KeysFile: list, Lookup: given}, "which of the two"},
		"a list with one twice":          {app.KEK{KeysFile: list, Retired: []string{"env:OLD"}, Lookup: env(map[string]string{"OLD": older})}, "given twice"},
		"none":                           {app.KEK{Lookup: env(nil)}, "is needed"},
		"only a retired one":             {app.KEK{Retired: []string{"file:" + path}, Lookup: env(nil)}, "is needed"},
		"a file and the variable":        {app.KEK{File: path, Lookup: given}, "which of the two"},
		"a URI and the variable":         {app.KEK{URI: "file:" + path, Lookup: given}, "which of the two"},
		"a URI and a file":               {app.KEK{URI: "file:" + path, File: path, Lookup: env(nil)}, "which of the two"},
		"a bad URI":                      {app.KEK{URI: "gopher:kek", Lookup: env(nil)}, "--kek-uri"},
		"a retired one that is bad":      {app.KEK{Lookup: given, Retired: []string{"env:OTHER", "env:MISSING"}}, "--kek-retired, number 2"},
		"a next one that is bad":         {app.KEK{Lookup: given, Next: []string{"file:/nonexistent"}}, "--kek-next, number 1"},
		"the same twice":                 {app.KEK{File: path, Retired: []string{"file:" + path}, Lookup: env(nil)}, "given twice"},
	} {
		var faults settings.Faults
		c.kek.Check(&faults)
		err := faults.Err()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestCheckDBSaysWhichKeyWrapsWhat(t *testing.T) {
	t.Parallel()
	db, old := storetest.New(t), kekText("o")
	bootstrap(t, db, old, settings.Secret{})
	for name, c := range map[string]struct {
		kek  app.KEK
		want string
		ok   bool
	}{
		"its key":     {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": old})}, "(current): 2 keyrings\n", true},
		"as retired":  {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": kekText("n"), "OLD": old}), Retired: []string{"env:OLD"}}, "(retired): 2 keyrings: default, system\n", true},
		"another key": {app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": kekText("n")})}, "(missing): 2 keyrings: default, system\n", false},
	} {
		check := app.CheckDB{Database: app.Database{URL: settings.NewSecret(db.Runtime)}, KEK: c.kek}
		var out bytes.Buffer
		if err := check.Run(t.Context(), &out); (err == nil) != c.ok || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v, said\n%swant %q", name, err, out.String(), c.want)
		}
	}
}
