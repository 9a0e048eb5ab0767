package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/digest"
)

// database is a group without encryption: what is "sealed" is in the clear, and what says "broken" does not open.
type database struct {
	t       *testing.T
	head    store.Head
	digest  digest.Set
	rows    map[string]store.Row
	changes []store.Change
	records map[string][]byte
	// base and past are what is left of the changes that were dropped.
	base store.Baseline
	past []store.Row
}

var errBroken = errors.New("does not open")

func newDatabase(t *testing.T) *database {
	d := &database{t: t, rows: map[string]store.Row{}, records: map[string][]byte{}}
	d.head = store.Head{Group: "g", GroupUID: "uid-of-g", Epoch: 7}
	return d
}

func (d *database) Head(context.Context) (store.Head, error) { return d.head, nil }

func (d *database) ChangesSince(_ context.Context, revision int64, limit int) ([]store.Change, error) {
	var out []store.Change
	for _, c := range d.changes {
		if c.Revision > revision && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, nil
}

func (d *database) Rows(_ context.Context, yield func(store.Row) error) error {
	for _, uid := range slices.Sorted(maps.Keys(d.rows)) {
		if err := yield(d.rows[uid]); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) Open(row store.Row) ([]byte, error)        { return opened(row.Sealed) }
func (d *database) OpenChange(c store.Change) ([]byte, error) { return opened(c.Sealed) }

func (d *database) Baseline(context.Context) (store.Baseline, error) { return d.base, nil }
func (d *database) OpenBaseline(b store.Baseline) ([]byte, error)    { return opened(b.Sealed) }
func (d *database) OpenPastRecord(row store.Row) ([]byte, error)     { return opened(row.Sealed) }

func (d *database) BaselineRows(_ context.Context, yield func(store.Row) error) error {
	for _, row := range d.past {
		if err := yield(row); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) VerifyHead(store.Head) error { return nil }

func opened(sealed []byte) ([]byte, error) {
	if string(sealed) == "broken" {
		return nil, errBroken
	}
	return sealed, nil
}

// commit makes a revision: routes are put, uids in removed are removed.
func (d *database) commit(put []*configv1.Route, removed ...string) {
	d.t.Helper()
	d.head.Revision++
	at := time.Unix(1_000_000+d.head.Revision, 0).UTC()
	body := &syncv1.ChangeBody{Epoch: d.head.Epoch, Revision: d.head.Revision}
	for _, uid := range removed {
		d.digest.Remove("routes", uid, d.records[uid])
		body.Removals = append(body.Removals, &syncv1.Removal{Kind: "routes", Uid: uid, Name: d.rows[uid].Name})
		delete(d.rows, uid)
		delete(d.records, uid)
	}
	for _, r := range put {
		uid := "uid-" + r.GetName()
		record := marshal(d.t, "routes", uid, r.GetName(), r)
		if old, ok := d.records[uid]; ok {
			d.digest.Remove("routes", uid, old)
		}
		d.digest.Add("routes", uid, record)
		d.records[uid] = record
		d.rows[uid] = store.Row{Kind: "routes", UID: uid, Name: r.GetName(), Revision: d.head.Revision, Sealed: record, CreatedAt: at, UpdatedAt: at}
		body.Upserts = append(body.Upserts, &syncv1.Upsert{Record: record})
	}
	sum := d.digest.Sum()
	body.Digest = sum[:]
	sealed, err := proto.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	d.changes = append(d.changes, store.Change{Revision: d.head.Revision, Epoch: d.head.Epoch, Sealed: sealed, At: at})
	d.head.ResourceCount = int64(len(d.rows))
	d.head.Digest = d.digest.Sum()
}

// drop takes the first change into the baseline.
func (d *database) drop() {
	d.t.Helper()
	var body syncv1.ChangeBody
	if err := proto.Unmarshal(d.changes[0].Sealed, &body); err != nil {
		d.t.Fatal(err)
	}
	d.past = nil
	for _, up := range body.GetUpserts() {
		var rec syncv1.Record
		if err := proto.Unmarshal(up.GetRecord(), &rec); err != nil {
			d.t.Fatal(err)
		}
		d.past = append(d.past, store.Row{Kind: rec.GetKind(), UID: rec.GetUid(), Revision: 1, Sealed: up.GetRecord()})
	}
	d.base, d.changes = store.Baseline{Revision: 1}, d.changes[1:]
}

func marshal(t *testing.T, kind, uid, name string, msg proto.Message) []byte {
	t.Helper()
	config, err := anypb.New(msg)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&syncv1.Record{Kind: kind, Uid: uid, Name: name, Resource: config})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func route(name, service string) *configv1.Route {
	return &configv1.Route{Name: name, Service: service}
}

// seen lists a view as "name@revision" or "name!reason".
func seen(v *snapshot.View) []string {
	var out []string
	for r := range v.All("routes") {
		if r.Unreadable != "" {
			out = append(out, r.Name+"!"+r.Unreadable)
			continue
		}
		out = append(out, fmt.Sprintf("%s@%d", r.Name, r.Revision))
	}
	return out
}
