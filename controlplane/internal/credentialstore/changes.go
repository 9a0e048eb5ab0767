package credentialstore

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/tokenpair"
)

func upsert(stored *snapshot.Resource, kind, name string, m proto.Message) admission.Upsert {
	up := admission.Upsert{Kind: kind, Name: name, Message: m, Created: stored == nil}
	if stored != nil {
		up.UID = stored.UID
	}
	return up
}

func sorted(ups []admission.Upsert) []admission.Upsert {
	slices.SortFunc(ups, func(a, b admission.Upsert) int { return strings.Compare(a.Name, b.Name) })
	return ups
}

// orphans removes the records of stores that are not there, some at a time. What it is not known of whom it is goes, too.
func orphans(view *snapshot.View) (out configsvc.SystemChanges) {
	out.Immediate = true
	for r := range view.All(tokenpair.KindState) {
		if _, ok := view.Get(tokenpair.KindStore, r.Name); !ok {
			out.Deletes = append(out.Deletes, r.Ref())
		}
	}
	for r := range view.All(tokenpair.KindEntry) {
		m, _ := r.Message.(*systemv1.StoredCredential)
		if _, ok := view.Get(tokenpair.KindStore, m.GetStore()); !ok {
			out.Deletes = append(out.Deletes, r.Ref())
		}
	}
	return out
}
