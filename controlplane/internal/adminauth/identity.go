// Package adminauth says who calls the admin API and what they may do: bearer tokens, identities with a role for each
// gateway group, and the gRPC interceptors that hold every RPC to the permission its descriptor declares. REST enters
// through the same interceptors. The package issues no SQL and keeps no secret, only digests of secrets; the admin API
// server is its only caller.
package adminauth

import (
	"context"
	"fmt"
	"strings"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

const (
	// Everywhere is the group of a grant that holds for all groups and for the installation.
	Everywhere = "*"
	// System names the audit chain of what belongs to no group. It is no group, and only grants for all groups reach it.
	System = "system"
)

// Role is what an identity may do in a group; a higher role includes the lower ones.
type Role = optionsv1.Role

// Grant is a role in one group, or with Everywhere in all.
type Grant struct {
	Group string
	Role  Role
}

// Identity is the caller of an RPC.
type Identity struct {
	// Name is what audit rows call the actor.
	Name string
	// TokenID identifies the token that was presented.
	TokenID string
	Grants  []Grant
}

// RoleIn returns the role the identity has in a group, ROLE_UNSPECIFIED if none.
func (id *Identity) RoleIn(group string) Role {
	role := id.RoleEverywhere()
	if group == System || group == "" {
		return role
	}
	for _, g := range id.Grants {
		if g.Group == group {
			role = max(role, g.Role)
		}
	}
	return role
}

// RoleEverywhere returns the role the identity has on all groups and on the installation.
func (id *Identity) RoleEverywhere() Role {
	role := optionsv1.Role_ROLE_UNSPECIFIED
	for _, g := range id.Grants {
		if g.Group == Everywhere {
			role = max(role, g.Role)
		}
	}
	return role
}

// Covers reports whether the identity itself has everything that the grant gives.
func (id *Identity) Covers(g Grant) bool {
	if g.Group == Everywhere {
		return id.RoleEverywhere() >= g.Role
	}
	return id.RoleIn(g.Group) >= g.Role
}

// RoleWord returns the word for a role in documents: viewer, operator or admin.
func RoleWord(r Role) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_"))
}

// ParseRole reads a role that can be granted.
func ParseRole(word string) (Role, error) {
	switch word {
	case "viewer":
		return optionsv1.Role_ROLE_VIEWER, nil
	case "operator":
		return optionsv1.Role_ROLE_OPERATOR, nil
	case "admin":
		return optionsv1.Role_ROLE_ADMIN, nil
	default:
		return 0, fmt.Errorf("role %q is none of viewer, operator, admin", word)
	}
}

type identityKey struct{}

// FromContext returns the identity the interceptors found, nil for a caller that presented no token.
func FromContext(ctx context.Context) *Identity {
	id, _ := ctx.Value(identityKey{}).(*Identity)
	return id
}

// NewContext returns a context that carries the identity.
func NewContext(ctx context.Context, id *Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}
