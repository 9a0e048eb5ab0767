package vaulttest

import (
	"fmt"
	"net/url"
	"time"
)

// Logins mounts a database engine at `database` with the role `keyward`: its logins are members of a role of PostgreSQL. dsn is
// the superuser's. It answers the name of a policy that may make logins and give them back.
func (s *Server) Logins(dsn, member string, ttl, maxTTL time.Duration) (policy string) {
	s.t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	password, _ := u.User.Password()
	user := u.User.Username()
	u.User = nil
	s.Write("sys/mounts/database", map[string]any{"type": "database"})
	s.Write("database/config/main", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "keyward", "username": user, "password": password,
		"connection_url": "postgres://{{username}}:{{password}}@" + u.Host + u.Path + "?" + u.RawQuery,
	})
	s.Write("database/roles/keyward", map[string]any{
		"db_name": "main", "default_ttl": ttl.String(), "max_ttl": maxTTL.String(),
		"creation_statements": []string{fmt.Sprintf(
			`create role "{{name}}" login password '{{password}}' valid until '{{expiration}}' in role %s;`, member)},
	})
	s.Write("sys/policies/acl/logins", map[string]any{"policy": `path "database/creds/keyward" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }`})
	return "logins"
}
