package sealer

import (
	"encoding/binary"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/store"
)

// MACHead authenticates a head.
func (g *Group) MACHead(h store.Head) []byte {
	return g.ring.Load().MAC(purposeHead, headParts(h)...)
}

// VerifyHead reports whether a head is this group's, unaltered, and made under the keyring that is loaded. A head that names
// the next form of the keyring, which this replica has read, makes it the one that is loaded.
func (g *Group) VerifyHead(h store.Head) error {
	ring := g.ring.Load()
	if h.KeyringVersion > ring.Version() && h.GroupUID == g.uid && h.Group == g.name {
		ring = g.adopt(h)
	}
	switch {
	case h.GroupUID != g.uid || h.Group != g.name:
		return g.badHead("belongs to group %s (%s)", h.Group, h.GroupUID)
	case h.KeyringVersion > ring.Version():
		// Another replica rotated; Refresh brings the new ring.
		return fmt.Errorf("head of group %s has keyring version %d, loaded is %d: %w", g.name, h.KeyringVersion, ring.Version(),
			ErrUnavailable)
	case !ring.VerifyMAC(h.MAC, purposeHead, headParts(h)...):
		return g.badHead("its MAC does not verify: it was altered, or belongs to another keyring")
	case h.KeyringVersion < ring.Version():
		err := g.badHead("names keyring version %d, which is older than %d: an older head was put in place", h.KeyringVersion,
			ring.Version())
		err.err = store.ErrOutrun // or it was read just before the keyring changed
		return err
	}
	return nil
}

func (g *Group) badHead(format string, args ...any) *UnreadableError {
	return &UnreadableError{Table: purposeHead, Group: g.name, Reason: fmt.Sprintf(format, args...)}
}

// AuditMAC authenticates an audit row and, by its Prev, all rows before it.
func (g *Group) AuditMAC(row store.AuditRow) []byte {
	return g.ring.Load().MAC(purposeAudit, g.auditParts(row)...)
}

// VerifyAudit reports whether the MAC of an audit row is right, under any term there ever was.
func (g *Group) VerifyAudit(row store.AuditRow) bool {
	return g.ring.Load().VerifyMAC(row.MAC, purposeAudit, g.auditParts(row)...)
}

// MACAdminToken authenticates an admin token; on the system's Group.
func (g *Group) MACAdminToken(t store.AdminToken) []byte {
	return g.ring.Load().MAC(purposeAdminToken, adminTokenParts(t)...)
}

// VerifyAdminToken reports whether an admin token was written by a control plane; on the system's Group.
func (g *Group) VerifyAdminToken(t store.AdminToken) error {
	if !g.ring.Load().VerifyMAC(t.MAC, purposeAdminToken, adminTokenParts(t)...) {
		return g.badRow(purposeAdminToken, t.ID)
	}
	return nil
}

// MACJoinToken authenticates what never changes of a join token of the group.
func (g *Group) MACJoinToken(t store.JoinToken) []byte {
	return g.ring.Load().MAC(purposeJoinToken, g.joinTokenParts(t)...)
}

// VerifyJoinToken reports whether a join token of the group was written by a control plane.
func (g *Group) VerifyJoinToken(t store.JoinToken) error {
	if !g.ring.Load().VerifyMAC(t.MAC, purposeJoinToken, g.joinTokenParts(t)...) {
		return g.badRow(purposeJoinToken, t.ID)
	}
	return nil
}

// MACRollout authenticates the roll-out of the group.
func (g *Group) MACRollout(r store.Rollout) []byte {
	return g.ring.Load().MAC(purposeRollout, g.rolloutParts(r)...)
}

// VerifyRollout reports whether the roll-out of the group was written by a control plane, and with the group's newest
// revision: an older row would hold back what was sent out since.
func (g *Group) VerifyRollout(r store.Rollout) error {
	if !g.ring.Load().VerifyMAC(r.MAC, purposeRollout, g.rolloutParts(r)...) {
		return g.badRow(purposeRollout, g.uid)
	}
	if r.Revision != r.Head {
		return &UnreadableError{Table: purposeRollout, Group: g.name, UID: g.uid, Reason: "it is not of the group's newest revision: it was put back"}
	}
	return nil
}

// MACTerm authenticates what is kept of a term of the group's keyring.
func (g *Group) MACTerm(t store.KeyringTerm) []byte {
	return g.ring.Load().MAC(purposeTerm, g.termParts(t)...)
}

// VerifyTerm reports whether what is kept of a term was written by a control plane.
func (g *Group) VerifyTerm(t store.KeyringTerm) bool {
	return g.ring.Load().VerifyMAC(t.MAC, purposeTerm, g.termParts(t)...)
}

func (g *Group) badRow(table, id string) error {
	return &UnreadableError{Table: table, Group: g.name, UID: id, Reason: "its MAC does not verify: it was altered or put there"}
}

func headParts(h store.Head) [][]byte {
	return [][]byte{
		[]byte(h.GroupUID), []byte(h.Group), number(h.Epoch), number(h.Revision), number(h.ResourceCount), h.Digest[:],
		number(h.KeyringVersion), number(h.AuditSeq), h.AuditHead,
	}
}

func (g *Group) auditParts(a store.AuditRow) [][]byte {
	parts := [][]byte{
		[]byte(g.uid), number(a.Seq), instant(a.At), []byte(a.Actor), []byte(a.Action), number(a.Revision), []byte(a.Detail),
		a.Prev, number(len(a.Subjects)),
	}
	for _, s := range a.Subjects {
		parts = append(parts, []byte(s))
	}
	return parts
}

func adminTokenParts(t store.AdminToken) [][]byte {
	parts := [][]byte{
		[]byte(t.ID), []byte(t.Name), t.SecretHash, instant(t.CreatedAt), []byte(t.CreatedBy), instant(t.ExpiresAt),
		instant(t.DeletedAt), number(len(t.Grants)),
	}
	for _, gr := range t.Grants {
		parts = append(parts, []byte(gr.Group), []byte(gr.Role))
	}
	return parts
}

func (g *Group) joinTokenParts(t store.JoinToken) [][]byte {
	return [][]byte{
		[]byte(g.uid), []byte(t.ID), []byte(t.Description), t.SecretHash, number(t.Uses), instant(t.CreatedAt),
		[]byte(t.CreatedBy), instant(t.ExpiresAt),
	}
}

func (g *Group) termParts(t store.KeyringTerm) [][]byte {
	return [][]byte{[]byte(g.uid), number(int64(t.Term)), instant(t.CreatedAt)}
}

func (g *Group) rolloutParts(r store.Rollout) [][]byte {
	parts := [][]byte{
		[]byte(g.uid), number(r.Epoch), number(r.Revision), number(r.Version), r.Plan, instant(r.Since), []byte(r.Phase),
		[]byte(r.Reason), []byte(r.Actor), number(len(r.Targets)),
	}
	for _, t := range r.Targets {
		parts = append(parts, number(t))
	}
	return parts
}

func number[N int | int32 | int64 | uint64](n N) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(n))
}

// instant counts microseconds, which is what the database keeps.
func instant(t time.Time) []byte {
	if t.IsZero() {
		return nil
	}
	return number(t.UnixMicro())
}
