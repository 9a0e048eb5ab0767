package audit_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

// book is a group with ten events in its chain: its creation and nine more.
type book struct {
	*storetest.DB
	sealer *sealer.Sealer
	group  *sealer.Group
}

const events = 10

func newBook(t *testing.T) *book {
	t.Helper()
	b := &book{DB: storetest.New(t)}
	material := make([]byte, 32)
	if _, err := rand.Read(material); err != nil {
		t.Fatal(err)
	}
	key, err := file.Parse(material)
	if err != nil {
		t.Fatal(err)
	}
	b.sealer = sealer.New(b.Store, key)
	if _, err := b.sealer.Init(t.Context(), "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	if b.group, err = b.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: "default", Actor: "test", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for i := range events - 1 {
		b.record(t, fmt.Sprintf("event.%d", i+2))
	}
	return b
}

func (b *book) record(t *testing.T, action string) {
	t.Helper()
	err := b.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		return audit.Record(ctx, tx, b.group, audit.Event{
			At: time.Now(), Actor: "alice", Action: action, Subjects: []string{"routes/a", "routes/b"}, Detail: "by test",
		})
	})
	if err != nil {
		t.Fatalf("Record: %v", err)
	}
}

func (b *book) verify(t *testing.T, group string) audit.Report {
	t.Helper()
	chain, err := b.sealer.Group(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	var report audit.Report
	err = b.Store.InSnapshot(t.Context(), group, func(ctx context.Context, r *store.Reader) error {
		report, err = audit.Verify(ctx, r, chain)
		return err
	})
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return report
}

func TestAnUntouchedChainIsIntact(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	if got, want := b.verify(t, "default"), (audit.Report{Intact: true, Events: events}); got != want {
		t.Errorf("Verify = %+v, want %+v", got, want)
	}
	// The system knows of its own creation and of the group's.
	if got, want := b.verify(t, store.SystemGroup), (audit.Report{Intact: true, Events: 2}); got != want {
		t.Errorf("Verify of the system = %+v, want %+v", got, want)
	}
	page, err := b.Store.AuditPage(t.Context(), "default", 0, 2)
	if err != nil || len(page) != 2 || page[0].Seq != events || page[0].Action != "event.10" || len(page[1].Subjects) != 2 {
		t.Errorf("AuditPage = %+v, %v", page, err)
	}
}

func TestTamperingIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	const group = `group_uid = (select uid from groups where name = 'default')`
	set := func(column, value string) []string {
		return []string{`update audit set ` + column + ` = ` + value + ` where seq = 4 and ` + group}
	}
	for name, tc := range map[string]struct {
		tamper []string
		fault  string
		seq    int64
	}{
		"actor altered":    {set("actor", `'mallory'`), "row 4 was altered", 4},
		"action altered":   {set("action", `'nothing'`), "row 4 was altered", 4},
		"time altered":     {set("at", `at + interval '1 microsecond'`), "row 4 was altered", 4},
		"detail altered":   {set("detail", `''`), "row 4 was altered", 4},
		"revision altered": {set("revision", `7`), "row 4 was altered", 4},
		"subject removed":  {set("subjects", `'{routes/a}'`), "row 4 was altered", 4},
		"subjects joined":  {set("subjects", `'{routes/aroutes/b}'`), "row 4 was altered", 4},
		"mac altered":      {set("mac", `set_byte(mac, 20, get_byte(mac, 20) # 1)`), "row 4 was altered", 4},
		"prev altered":     {set("prev", `''`), "row 4 was altered", 4},
		"row removed":      {[]string{`delete from audit where seq = 4 and ` + group}, "row 4 is missing", 4},
		"first row removed": {
			[]string{`delete from audit where seq = 1 and ` + group}, "row 1 is missing", 1,
		},
		"row removed and the rest renumbered": {
			[]string{
				`delete from audit where seq = 4 and ` + group,
				`update audit set seq = seq + 100 where seq > 4 and ` + group,
				`update audit set seq = seq - 101 where seq > 100 and ` + group,
			}, "row 4 was altered", 4,
		},
		"rows exchanged": {
			[]string{
				`update audit set seq = 99 where seq = 4 and ` + group, `update audit set seq = 4 where seq = 5 and ` + group,
				`update audit set seq = 5 where seq = 99 and ` + group,
			}, "row 4 was altered", 4,
		},
		"end cut off": {[]string{`delete from audit where seq > 7 and ` + group}, "rows 8 to 10 were cut off", 8},
		"end cut off and the head's number corrected": {
			[]string{`delete from audit where seq > 7 and ` + group, `update heads set audit_seq = 7 where ` + group}, "MAC does not verify", 7,
		},
		"all cut off": {[]string{`delete from audit where ` + group}, "rows 1 to 10 were cut off", 1},
		"row appended": {
			[]string{`insert into audit select group_uid, 11, at, actor, action, subjects, revision, detail, mac, mac from audit where seq = 10 and ` + group},
			"row 11 is beyond the last row", 11,
		},
		"row of another chain": {
			[]string{
				`delete from audit where seq = 1 and ` + group,
				`update audit set group_uid = (select uid from groups where name = 'default') where seq = 1 and group_uid = '` + store.SystemUID + `'`,
			}, "row 1 was altered or belongs elsewhere", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t)
			b.Exec(t, tc.tamper...)
			got := b.verify(t, "default")
			if got.Intact || got.FaultSeq != tc.seq || !strings.Contains(got.Fault, tc.fault) {
				t.Errorf("Verify = %+v, want fault %q at %d", got, tc.fault, tc.seq)
			}
		})
	}
}

func TestNothingIsRecordedOnAForgedHead(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	b.Exec(t, `update heads set audit_seq = 7`)
	err := b.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		return audit.Record(ctx, tx, b.group, audit.Event{At: time.Now(), Action: "x"})
	})
	if err == nil || !strings.Contains(err.Error(), "MAC does not verify") {
		t.Errorf("Record = %v", err)
	}
}

func TestARowWithoutANewHeadIsNotKept(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	err := b.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		_, err := audit.Append(ctx, tx, b.group, tx.Head(), audit.Event{At: time.Now(), Action: "x"})
		return err
	})
	if err == nil {
		t.Error("a transaction with an audit row and the old head committed")
	}
	if got := b.verify(t, "default"); !got.Intact || got.Events != events {
		t.Errorf("Verify = %+v", got)
	}
}

func TestTextTheDatabaseCannotKeepIsReplacedBeforeItIsAuthenticated(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	err := b.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		return audit.Record(ctx, tx, b.group, audit.Event{
			At: time.Now(), Actor: "a\x00b", Action: "x", Subjects: []string{"routes/\xff"}, Detail: "\x00",
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.verify(t, "default"); !got.Intact || got.Events != events+1 {
		t.Errorf("Verify = %+v", got)
	}
}
