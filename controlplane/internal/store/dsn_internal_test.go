package store

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestOnlyVerifiedOrLocalConnectionsAreAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		dsn string
		ok  bool
	}{
		"no sslmode (the driver prefers and falls back)": {"postgres://u@db.example:5432/x", false},
		"disable":                            {"postgres://u@db.example/x?sslmode=disable", false},
		"allow":                              {"postgres://u@db.example/x?sslmode=allow", false},
		"prefer":                             {"postgres://u@db.example/x?sslmode=prefer", false},
		"require":                            {"postgres://u@db.example/x?sslmode=require", false},
		"verify-ca":                          {"postgres://u@db.example/x?sslmode=verify-ca", false},
		"verify-full":                        {"postgres://u@db.example/x?sslmode=verify-full", true},
		"verify-full, keywords":              {"host=db.example user=u dbname=x sslmode=verify-full", true},
		"verify-full, several hosts":         {"postgres://u@a.example,b.example/x?sslmode=verify-full", true},
		"require, several hosts":             {"postgres://u@a.example,b.example/x?sslmode=require", false},
		"loopback":                           {"postgres://u@127.0.0.1/x", true},
		"loopback 2":                         {"postgres://u@127.9.9.9/x?sslmode=disable", true},
		"loopback v6":                        {"postgres://u@[::1]:5432/x?sslmode=disable", true},
		"mapped loopback":                    {"host=::ffff:127.0.0.1 user=u sslmode=disable", true},
		"localhost":                          {"postgres://u@localhost/x?sslmode=disable", true},
		"socket":                             {"host=/var/run/postgresql user=u dbname=x", true},
		"socket in query":                    {"postgres:///x?host=/tmp&sslmode=disable", true},
		"loopback first, remote second":      {"postgres://u@127.0.0.1,db.example/x?sslmode=disable", false},
		"remote first, loopback second":      {"postgres://u@db.example,127.0.0.1/x", false},
		"socket first, remote second":        {"host=/tmp,db.example user=u sslmode=prefer", false},
		"name that looks local":              {"postgres://u@localhost.example/x?sslmode=disable", false},
		"name that looks like an address":    {"postgres://u@127.0.0.1.example/x?sslmode=disable", false},
		"unspecified address":                {"postgres://u@0.0.0.0/x?sslmode=disable", false},
		"private address":                    {"postgres://u@10.0.0.1/x?sslmode=disable", false},
		"verify-full by address":             {"postgres://u@10.0.0.1/x?sslmode=verify-full", true},
		"load balanced, one host unverified": {"host=127.0.0.1,10.0.0.1 port=1,2 user=u sslmode=require", false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := pgx.ParseConfig(tc.dsn)
			if err != nil {
				t.Fatal(err)
			}
			err = checkDSN(cfg)
			if tc.ok != (err == nil) || (err != nil && !errors.Is(err, ErrInsecureDSN)) {
				t.Errorf("checkDSN(%s) = %v, want ok %v", tc.dsn, err, tc.ok)
			}
		})
	}
}

func TestTheEnvironmentCannotWeakenIt(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable")
	t.Setenv("PGHOST", "db.example")
	cfg, err := pgx.ParseConfig("user=u dbname=x")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkDSN(cfg); !errors.Is(err, ErrInsecureDSN) {
		t.Errorf("checkDSN = %v, want ErrInsecureDSN", err)
	}
}

func TestReadMigrationsRefusesGapsAndMissingHeaders(t *testing.T) {
	t.Parallel()
	up := func(n string) string { return "-- min_compatible: " + n + "\nselect 1;" }
	for name, tc := range map[string]struct {
		files map[string]string
		ok    bool
	}{
		"dense":          {map[string]string{"0001_a.up.sql": up("1"), "0001_a.down.sql": "", "0002_b.up.sql": up("1"), "0002_b.down.sql": ""}, true},
		"gap":            {map[string]string{"0001_a.up.sql": up("1"), "0001_a.down.sql": "", "0003_b.up.sql": up("1"), "0003_b.down.sql": ""}, false},
		"same number":    {map[string]string{"0001_a.up.sql": up("1"), "0001_a.down.sql": "", "0001_b.up.sql": up("1"), "0001_b.down.sql": ""}, false},
		"no down":        {map[string]string{"0001_a.up.sql": up("1")}, false},
		"no header":      {map[string]string{"0001_a.up.sql": "select 1;", "0001_a.down.sql": ""}, false},
		"too compatible": {map[string]string{"0001_a.up.sql": up("0"), "0001_a.down.sql": ""}, false},
		"in the future":  {map[string]string{"0001_a.up.sql": up("2"), "0001_a.down.sql": ""}, false},
		"bad name":       {map[string]string{"1_a.up.sql": up("1"), "1_a.down.sql": ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := readMigrations(mapFS(tc.files)); (err == nil) != tc.ok {
				t.Errorf("readMigrations = %v, want ok %v", err, tc.ok)
			}
		})
	}
}

func TestHintsComeBackFromTheirPayload(t *testing.T) {
	t.Parallel()
	for _, h := range []Hint{{Group: "default"}, {Topic: TopicGateways}} {
		if got := parseHint(h.payload()); got != h {
			t.Errorf("parseHint(%q) = %v", h.payload(), got)
		}
	}
	for _, p := range []string{"", "anything", "later:1"} {
		if got := parseHint(p); got != (Hint{}) {
			t.Errorf("parseHint(%q) = %v, want the hint that anything may have changed", p, got)
		}
	}
}
