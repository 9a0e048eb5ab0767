package settings_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/settings"
)

type config struct {
	Listen   string
	Timeout  time.Duration
	Names    []string
	Insecure bool
	Database settings.Secret
	Token    settings.Secret
}

func flags(c *config) *flag.FlagSet {
	fs := flag.NewFlagSet("keyward-test", flag.ContinueOnError)
	fs.StringVar(&c.Listen, "admin-listen", "127.0.0.1:7443", "`address` of the admin API")
	fs.DurationVar(&c.Timeout, "timeout", time.Second, "how long")
	fs.BoolVar(&c.Insecure, "insecure-database", false, "allow it")
	settings.ListVar(fs, &c.Names, "sync-names", []string{"localhost"}, "names")
	settings.SecretVar(fs, &c.Database, "database-url", "the database")
	settings.SecretVar(fs, &c.Token, "join-token", "the token")
	return fs
}

func lookup(env map[string]string) settings.Lookup {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParse(t *testing.T) {
	t.Parallel()
	file := secretFile(t, "postgres://file\n")
	defaults := config{Listen: "127.0.0.1:7443", Timeout: time.Second, Names: []string{"localhost"}}
	with := func(change func(*config)) config { c := defaults; change(&c); return c }
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		want config
	}{
		{name: "defaults", want: defaults},
		{
			name: "environment over default", env: map[string]string{"KEYWARD_ADMIN_LISTEN": ":1", "KEYWARD_INSECURE_DATABASE": "true"},
			want: with(func(c *config) { c.Listen, c.Insecure = ":1", true }),
		},
		{
			name: "flag over environment", args: []string{"--admin-listen=:2"}, env: map[string]string{"KEYWARD_ADMIN_LISTEN": ":1"},
			want: with(func(c *config) { c.Listen = ":2" }),
		},
		{name: "empty variable is not set", env: map[string]string{"KEYWARD_TIMEOUT": ""}, want: defaults},
		{
			name: "list repeated and with commas", args: []string{"--sync-names", "a,b", "--sync-names", "c"},
			want: with(func(c *config) { c.Names = []string{"a", "b", "c"} }),
		},
		{
			name: "list from the environment", env: map[string]string{"KEYWARD_SYNC_NAMES": "a, b"},
			want: with(func(c *config) { c.Names = []string{"a", "b"} }),
		},
		{
			name: "secret from the environment", env: map[string]string{"KEYWARD_DATABASE_URL": "postgres://env"},
			want: with(func(c *config) { c.Database = settings.NewSecret("postgres://env") }),
		},
		{
			name: "secret from a file", args: []string{"--database-url-file", file},
			want: with(func(c *config) { c.Database = settings.NewSecret("postgres://file") }),
		},
		{
			name: "secret from a file the environment names", env: map[string]string{"KEYWARD_DATABASE_URL_FILE": file},
			want: with(func(c *config) { c.Database = settings.NewSecret("postgres://file") }),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got config
			if err := settings.Parse(flags(&got), test.args, lookup(test.env)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b settings.Secret) bool { return a.Reveal() == b.Reveal() })); diff != "" {
				t.Errorf("Parse() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseReportsEveryFault(t *testing.T) {
	t.Parallel()
	const canary = "postgres://user:canary@host"
	var c config
	err := settings.Parse(flags(&c),
		[]string{"--timeout=soon", "--nonsense", "x", "--insecure-database=maybe", "--database-url=" + canary},
		lookup(map[string]string{"KEYWARD_SYNC_NAMES": "a,,b", "KEYWARD_JOIN_TOKEN_FILE": "/nonexistent/secret"}))
	if err == nil {
		t.Fatal("Parse() = nil, want faults")
	}
	for _, want := range []string{"-timeout", "-nonsense", "-insecure-database", "command line", "KEYWARD_SYNC_NAMES", "/nonexistent/secret"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Parse() does not mention %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("Parse() shows the secret:\n%v", err)
	}
}

func TestParseRefusesASecretGivenTwice(t *testing.T) {
	t.Parallel()
	var c config
	err := settings.Parse(flags(&c), []string{"--database-url-file", secretFile(t, "one")}, lookup(map[string]string{"KEYWARD_DATABASE_URL": "two"}))
	if err == nil || !strings.Contains(err.Error(), "which of the two") {
		t.Errorf("Parse() = %v, want a fault", err)
	}
}

func TestHelpShowsVariablesAndNoSecretFlag(t *testing.T) {
	t.Parallel()
	var c config
	var out bytes.Buffer
	fs := flags(&c)
	fs.SetOutput(&out)
	if err := settings.Parse(fs, []string{"-h"}, lookup(nil)); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("Parse(-h) = %v, want %v", err, flag.ErrHelp)
	}
	for _, want := range []string{"--admin-listen address  (KEYWARD_ADMIN_LISTEN)", "(default 127.0.0.1:7443)", "--database-url-file path", "  KEYWARD_DATABASE_URL\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("usage lacks %q:\n%s", want, out.String())
		}
	}
}

func TestSecretNeverShowsItself(t *testing.T) {
	t.Parallel()
	const canary = "canary-0123456789"
	s := settings.NewSecret(canary)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", struct{ S settings.Secret }{s})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "secret", s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "config", struct{ S settings.Secret }{s})
	if err := json.NewEncoder(&out).Encode(map[string]any{"s": s}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), canary) || strings.Contains(out.String(), fmt.Sprintf("%x", canary)) {
		t.Errorf("the secret shows:\n%s", out.String())
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	got, err := settings.Pairs([]string{"http=:80", "https=[::1]:443"})
	if diff := cmp.Diff(map[string]string{"http": ":80", "https": "[::1]:443"}, got); diff != "" || err != nil {
		t.Errorf("Pairs() = %v, (-want +got):\n%s", err, diff)
	}
	if _, err := settings.Pairs([]string{"http", "a=1", "a=2"}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("Pairs() = %v, want two faults", err)
	}
}

func TestWordsMayHoldCommas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		want []string
	}{
		"neither":     {nil, nil, nil},
		"repeated":    {[]string{"--place", "a=x?g=1,2", "--place", "b=y"}, nil, []string{"a=x?g=1,2", "b=y"}},
		"several":     {[]string{"--place", " a=x?g=1,2\tb=y "}, nil, []string{"a=x?g=1,2", "b=y"}},
		"environment": {nil, map[string]string{"KEYWARD_PLACE": "a=x?g=1,2\nb=y"}, []string{"a=x?g=1,2", "b=y"}},
		"both":        {[]string{"--place", "c=z"}, map[string]string{"KEYWARD_PLACE": "a=x"}, []string{"c=z"}},
	} {
		var got []string
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		settings.WordsVar(fs, &got, "place", "places")
		if err := settings.Parse(fs, c.args, lookup(c.env)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
