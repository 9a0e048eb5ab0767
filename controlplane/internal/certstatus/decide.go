package certstatus

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/revocation"
)

// MaxLists is how many lists are fetched for a group; all replicas and gateways hold them.
const MaxLists = 64

// keptKinds are the kinds of records that are kept.
func keptKinds() []string { return []string{revocation.Kind, revocation.KindStaple} }

// wantingKinds are the kinds of resources that say what is wanted.
func wantingKinds() []string { return []string{certs.KindCA, certs.Kind, kindSettings} }

const kindSettings = "settings"

// outcome is what came of fetching something.
type outcome struct {
	value []byte
	err   error
}

// decide works out which records change. It is pure, and asked again with the group's head locked.
func decide(view *snapshot.View, wanting *memory, found map[string]outcome, now time.Time) configsvc.SystemChanges {
	out := configsvc.SystemChanges{Immediate: true} // what is revoked must not wait for a roll-out
	wanted := map[string]bool{}
	all, _ := wanting.wants(view)
	for _, s := range all {
		at := s.at()
		wanted[at.kind+" "+at.name] = true
		o, ok := found[at.name]
		if !ok {
			continue
		}
		stored, _ := view.Get(at.kind, at.name)
		after, note, _ := next(s, stored, o, now)
		if after == nil {
			continue
		}
		up := admission.Upsert{Kind: at.kind, Name: at.name, Message: after, Created: stored == nil}
		if stored != nil {
			up.UID = stored.UID
		}
		out.Upserts = append(out.Upserts, up)
		out.Notes = append(out.Notes, fmt.Sprintf("%s of %s: %s", at.url, at.holder, note))
	}
	for _, kind := range keptKinds() {
		for r := range view.All(kind) {
			if !wanted[kind+" "+r.Name] {
				out.Deletes = append(out.Deletes, r.Ref())
			}
		}
	}
	return out
}

// value is what a record keeps, and since when nothing else could be fetched.
func value(r *snapshot.Resource) (kept []byte, failing *timestamppb.Timestamp) {
	if r == nil {
		return nil, nil
	}
	switch m := r.Message.(type) {
	case *systemv1.RevocationList:
		return m.GetList(), m.GetFailingSince()
	case *systemv1.OcspStaple:
		return m.GetAnswer(), m.GetFailingSince()
	}
	return nil, nil
}

// next is the record after fetching, nil if there is nothing to write, and why what was fetched does not count.
func next(s subject, stored *snapshot.Resource, o outcome, now time.Time) (after proto.Message, note string, err error) {
	kept, failing := value(stored)
	replaces := true
	if err = o.err; err == nil && kept != nil {
		replaces, err = s.replaces(kept, o.value, now)
	}
	switch {
	case err == nil && replaces:
		note = "fetched"
		if after = s.record(o.value, nil); len(o.value) == 0 {
			note = "says that it is revoked"
		}
		if stored != nil && stored.Message != nil && proto.Equal(stored.Message, after) {
			return nil, "", nil
		}
		return after, note, nil
	case err == nil && failing != nil:
		return s.record(kept, nil), "can be fetched again", nil
	case err != nil && kept != nil && failing == nil:
		return s.record(kept, timestamppb.New(now.UTC().Truncate(time.Second))), "cannot be fetched; what was fetched before is kept", err
	}
	return nil, "", err
}
