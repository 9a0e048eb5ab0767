package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// rights is what the runtime role may do with tables. Nothing else: no DDL; the audit trail only grows, and changes go only
// through drop_changes, and under a later term through rewrap_changes.
func rights() map[string]string {
	return map[string]string{
		"schema_version":          "select",
		"groups":                  "select, insert",
		"heads":                   "select, insert, update",
		"keyrings":                "select, insert, update",
		"resources":               "select, insert, update, delete",
		"changes":                 "select, insert",
		"baselines":               "select, insert, update",
		"baseline_records":        "select, insert, update, delete",
		"audit":                   "select, insert",
		"admin_tokens":            "select, insert, update",
		"join_tokens":             "select, insert, update",
		"join_token_uses":         "select, insert",
		"gateways":                "select, insert, update",
		"replica_reports":         "select, insert, update, delete",
		"certificate_authorities": "select, insert, update",
		"wakeups":                 "select, update",
		"rollouts":                "select, insert, update, delete",
		"bundle_keys":             "select, insert, update (sealed)",
		"acme_accounts":           "select, insert, update, delete",
		"credential_uses":         "select, insert, update",
		"replicas":                "select, insert, update, delete",
		"next_keyrings":           "select, insert, delete",
		"keyring_readers":         "select, insert",
		"keyring_terms":           "select, insert, update",
	}
}

// warnOfRights tells an operator who serves with the owner's connection: the audit trail is then only as safe as this
// process.
func (s *Store) warnOfRights(ctx context.Context) error {
	var tooMany bool
	if err := s.pool.QueryRow(ctx, selectTooMany).Scan(&tooMany); err != nil {
		return mapped("read rights", err)
	}
	if tooMany {
		s.log.WarnContext(ctx, "database role may rewrite the audit trail; connect as the runtime role that migrate makes")
	}
	return nil
}

const selectTooMany = `
select has_table_privilege(current_user, 'audit', 'update') or has_table_privilege(current_user, 'audit', 'delete')`

const selectRole = `select exists (select 1 from pg_roles where rolname = $1)`

// grant makes the role if need be and gives it exactly its rights; it can be repeated.
func (m *migrator) grant(ctx context.Context, cfg MigrateConfig) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		if err := ensureRole(ctx, tx, cfg.RuntimeRole, cfg.RuntimePassword); err != nil {
			return err
		}
		name := pgx.Identifier{cfg.RuntimeRole}.Sanitize()
		if err := grantTables(ctx, tx, name, rights()); err != nil {
			return err
		}
		for _, function := range []string{"drop_changes(text, bigint)", "rewrap_changes(text, bigint[], bytea[], bytea[])"} {
			if _, err := tx.Exec(ctx, "grant execute on function "+function+" to "+name); err != nil {
				return mapped("grant rights on "+function, err)
			}
		}
		for _, p := range cfg.Parts {
			if err := p.grant(ctx, tx, name); err != nil {
				return err
			}
		}
		return grantSchema(ctx, tx, name)
	})
}

func (p Part) grant(ctx context.Context, tx pgx.Tx, name string) error {
	for _, sequence := range p.Sequences {
		if _, err := tx.Exec(ctx, fmt.Sprintf("grant usage on sequence %s to %s", pgx.Identifier{sequence}.Sanitize(), name)); err != nil {
			return mapped("grant rights on "+sequence, err)
		}
	}
	return grantTables(ctx, tx, name, p.Tables)
}

func grantTables(ctx context.Context, tx pgx.Tx, name string, tables map[string]string) error {
	for table, list := range tables {
		quoted := pgx.Identifier{table}.Sanitize()
		for _, statement := range []string{
			fmt.Sprintf("revoke all on table %s from %s", quoted, name),
			fmt.Sprintf("grant %s on table %s to %s", list, quoted, name),
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return mapped("grant rights on "+table, err)
			}
		}
	}
	return nil
}

// grantSchema lets the role see the tables. Before PostgreSQL 15 everybody may create in the schema public.
func grantSchema(ctx context.Context, tx pgx.Tx, name string) error {
	var schema string
	if err := tx.QueryRow(ctx, `select current_schema()`).Scan(&schema); err != nil {
		return mapped("read schema", err)
	}
	quoted := pgx.Identifier{schema}.Sanitize()
	for _, statement := range []string{
		fmt.Sprintf("revoke create on schema %s from public, %s", quoted, name),
		fmt.Sprintf("grant usage on schema %s to %s", quoted, name),
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return mapped("grant rights on schema", err)
		}
	}
	return nil
}

// ensureRole leaves a role that exists alone, password included.
func ensureRole(ctx context.Context, tx pgx.Tx, role, password string) error {
	var exists bool
	if err := tx.QueryRow(ctx, selectRole, role).Scan(&exists); err != nil {
		return mapped("look for role", err)
	}
	if exists {
		return nil
	}
	statement := "create role " + pgx.Identifier{role}.Sanitize() + " login nosuperuser nocreatedb nocreaterole noinherit"
	if password != "" {
		statement += " password " + quoteLiteral(password)
	}
	// The statement holds the password, so the driver's error, which may quote it, is not passed on whole.
	if _, err := tx.Exec(ctx, statement); err != nil {
		return mapped("create role "+role, err)
	}
	return nil
}

// quoteLiteral quotes for a statement that takes no parameters.
func quoteLiteral(s string) string {
	if strings.ContainsRune(s, '\\') {
		return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
