package credentialstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/credentialstore"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/check/tokenpair"
	"keyward.dev/shared/testkit"
)

func TestEntriesAreFollowed(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	s.put("one", entry(1, "alice"))
	s.put(token("A", 2), map[string]any{"secret_token": token("S", 2), "consumer": map[string]any{"id": "bob"}}) // as Kong keeps it
	s.put("folder/", nil)
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"}, &configv1.Consumer{Name: "bob"})
	r.check(t, w, "before it is read", false, "1=", "2=")
	r.run(t, w)
	r.check(t, w, "read", true, "1=alice", "2=bob", "3=")
	before := r.view(t).Revision
	r.run(t, w)
	if after := r.view(t).Revision; after != before {
		t.Errorf("to read the same again made revision %d of %d", after, before)
	}
	s.put("three", entry(3, "alice"))
	s.remove("one")
	s.put(token("A", 2), map[string]any{"secret_token": token("S", 9), "consumer": "alice"})
	r.run(t, w)
	r.check(t, w, "changed", true, "1=", "2=", "3=alice")
	if got, _ := r.counts(t, w, "corp", token("A", 2), token("S", 9)); got != "alice" {
		t.Errorf("a changed entry is of %q", got)
	}
	s.put("three", nil) // listed, but deleted, as version 2 of the engine has it
	r.run(t, w)
	r.check(t, w, "deleted", true, "3=")
	if after := r.view(t).Revision; after != before+2 {
		t.Errorf("two changes made revision %d of %d", after, before)
	}
	r.remove(t, "corp")
	r.run(t, w)
	if n := r.entries(t); n > 0 {
		t.Errorf("%d entries are left of a store that is gone", n)
	}
	r.check(t, w, "gone", false, "2=")
	noTokens(t, "the log", w.logged())
}

func TestEntriesThatCannotBeUsedArePassedOver(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	now := w.clock().Unix()
	s.put("good", entry(1, "alice"))
	for n, fields := range []map[string]any{
		{"secret_token": token("S", 10), "consumer": "alice", "access_token": 7},
		{"access_token": token("A", 11), "consumer": "alice"},
		{"access_token": token("A", 12), "secret_token": "with space and much else", "consumer": "alice"},
		{"access_token": token("A", 13), "secret_token": "short", "consumer": "alice"},
		{"access_token": token("A", 14), "secret_token": token("S", 14)},
		entry(15, ""), entry(16, map[string]any{"id": 7}), entry(17, "alice", "ttl", "soon"), entry(18, "alice", "ttl", 60),
		entry(19, "alice", "ttl", json.Number("-1")), entry(20, "alice", "ttl", json.Number("1e300")), entry(21, "alice", "ttl", true),
		entry(22, "alice", "ttl", "60", "created_at", "yesterday"), entry(23, "alice", "ttl", "60", "created_at", json.Number("1e300")),
		entry(24, strings.Repeat("x", 600)), entry(25, "no name!"),
		entry(26, "alice", "ttl", json.Number("60"), "created_at", json.Number(fmt.Sprint(now-61))),
		{},
	} {
		s.put(fmt.Sprintf("bad-%d", n), fields)
	}
	s.put("a%2fb", entry(27, "alice"))
	s.put("denied", entry(28, "alice"))
	s.denied["denied"] = true
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	r.run(t, w)
	r.check(t, w, "good beside bad", true, "1=alice")
	for n := 10; n < 30; n++ {
		r.check(t, w, "bad", true, fmt.Sprintf("%d=", n))
	}
	told := strings.Count(w.logged(), "passed over")
	r.run(t, w)
	if again := strings.Count(w.logged(), "passed over"); told < 15 || again != told {
		t.Errorf("%d entries were told of, and then %d", told, again)
	}
	noTokens(t, "the log", w.logged())
	s.put("bad-1", entry(11, "alice"))
	s.denied["denied"] = false
	r.run(t, w)
	r.check(t, w, "put right", true, "11=alice", "28=alice")
}

func TestTimesToLive(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	now := w.clock().Unix()
	number := func(n int64) json.Number { return json.Number(fmt.Sprint(n)) }
	s.put("a", entry(1, "alice", "ttl", number(60), "created_at", number(now)))
	s.put("b", entry(2, "alice", "ttl", "60", "created_at", fmt.Sprint(now-10)))
	s.put("c", entry(3, "alice", "ttl", nil, "created_at", number(now)))
	s.put("d", entry(4, "alice", "ttl", "0"))
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	r.run(t, w) // 10 s later
	r.check(t, w, "young", true, "1=alice", "2=alice", "3=alice", "4=alice")
	w.pass(41 * time.Second)
	r.check(t, w, "at its time, before it is read again", true, "1=alice", "2=", "3=alice")
	w.pass(10 * time.Second)
	s.fail(secretsource.ErrDown)
	r.run(t, w)
	r.check(t, w, "while nobody answers", true, "1=", "2=", "3=alice", "4=alice")
	if n := r.entries(t); n != 2 {
		t.Errorf("%d entries are kept, want the 2 that have not ended", n)
	}
}

// TestTwins has two entries with one access token, of which neither counts, until one is gone.
func TestTwins(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	s.put("one", entry(1, "alice"))
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"}, &configv1.Consumer{Name: "bob"})
	r.run(t, w)
	r.check(t, w, "alone", true, "1=alice")
	s.put("two", map[string]any{"access_token": token("A", 1), "secret_token": token("S", 2), "consumer": "bob"})
	other := w.replica(t, s) // one that has read nothing yet
	other.run(t, w)
	for range 2 {
		r.check(t, w, "twins", true, "1=")
		if got, _ := r.counts(t, w, "corp", token("A", 1), token("S", 2)); got != "" {
			t.Errorf("the twin is of %q", got)
		}
		r.run(t, w)
	}
	s.remove("two")
	r.run(t, w)
	r.check(t, w, "alone again", true, "1=alice")
}

func TestWhomEntriesName(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		by    configv1.StoredConsumer
		names any
		want  string
	}{
		"a name":                        {configv1.StoredConsumer_STORED_CONSUMER_NAME, "alice", "alice"},
		"an object":                     {configv1.StoredConsumer_STORED_CONSUMER_NAME, map[string]any{"id": "u-1", "name": "alice"}, "alice"},
		"an object as text":             {configv1.StoredConsumer_STORED_CONSUMER_NAME, `{"id": "alice"}`, "alice"},
		"a username":                    {configv1.StoredConsumer_STORED_CONSUMER_USERNAME, "Alice A.", "alice"},
		"a username in an object":       {configv1.StoredConsumer_STORED_CONSUMER_USERNAME, map[string]any{"username": "Alice A.", "id": "u-1"}, "alice"},
		"an id elsewhere":               {configv1.StoredConsumer_STORED_CONSUMER_CUSTOM_ID, map[string]any{"id": "u-1"}, "alice"},
		"a username is no name":         {configv1.StoredConsumer_STORED_CONSUMER_NAME, "Alice A.", ""},
		"a name is no username":         {configv1.StoredConsumer_STORED_CONSUMER_USERNAME, "alice", ""},
		"a name that nobody has yet":    {configv1.StoredConsumer_STORED_CONSUMER_NAME, "carol", "carol"},
		"an id that nobody has yet":     {configv1.StoredConsumer_STORED_CONSUMER_CUSTOM_ID, "u-2", ""},
		"an object without any of them": {configv1.StoredConsumer_STORED_CONSUMER_NAME, map[string]any{"custom_id": "u-1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(t), newShelf()
			r := w.replica(t, s)
			s.put("one", entry(1, tt.names))
			r.apply(t, store("corp", func(s *configv1.CredentialStore) { s.ConsumerBy = tt.by }),
				&configv1.Consumer{Name: "alice", Username: "Alice A.", CustomId: "u-1"})
			r.run(t, w)
			r.check(t, w, "read", true, "1="+tt.want)
		})
	}
}

// TestAConsumerThatComesToHaveTheNameIsFound changes consumers, and not the entry.
func TestAConsumerThatComesToHaveTheNameIsFound(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	s.put("one", entry(1, "u-1"))
	r.apply(t, store("corp", func(s *configv1.CredentialStore) { s.ConsumerBy = configv1.StoredConsumer_STORED_CONSUMER_CUSTOM_ID }))
	for _, step := range []struct {
		put  *configv1.Consumer
		down bool
		want string
	}{
		{&configv1.Consumer{Name: "alice"}, false, "1="},
		{&configv1.Consumer{Name: "alice", CustomId: "u-1"}, true, "1=alice"},
		{&configv1.Consumer{Name: "alice", CustomId: "u-2"}, true, "1="},
		{&configv1.Consumer{Name: "bob", CustomId: "u-1"}, false, "1=bob"},
	} {
		r.apply(t, step.put)
		s.fail(nil)
		if step.down {
			s.fail(secretsource.ErrDown)
		}
		r.run(t, w)
		r.check(t, w, step.put.String(), true, step.want)
	}
}

// TestManyEntries has more than are written at once and read with each refresh.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	const n = 2500
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	for i := range n {
		s.put(fmt.Sprintf("entry-%04d", i), entry(i, "alice"))
	}
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	before := r.view(t).Revision
	r.run(t, w)
	r.check(t, w, "read", true, "0=alice", "2499=alice")
	if got, revisions := r.entries(t), r.view(t).Revision-before; got != n || revisions != 3 {
		t.Errorf("%d entries in %d revisions, want %d in 3", got, revisions, n)
	}
	if got := s.reads(); got != n {
		t.Errorf("%d readings, want %d", got, n)
	}
	s.put("entry-1234", entry(9999, "alice"))
	s.put("new", entry(3000, "alice"))
	s.remove("entry-0000")
	r.run(t, w)
	if got := s.reads(); got != 1001 {
		t.Errorf("%d readings at a refresh, want 1000 in turn and the new one", got)
	}
	r.check(t, w, "new and gone count at once", true, "3000=alice", "0=")
	for range 2 {
		r.run(t, w)
	}
	r.check(t, w, "a change counts when it is its turn", true, "1234=", "9999=alice")
	other := w.replica(t, s) // another leader reads in turn, too: what is kept is kept
	s.reads()
	other.run(t, w)
	if got := s.reads(); got != 1000 {
		t.Errorf("another replica read %d, want 1000", got)
	}
}

func TestTooManyEntriesAreCutOff(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	for i := range credentialstore.MaxEntries + 5 {
		s.put(fmt.Sprintf("entry-%05d", i), entry(i, "alice"))
	}
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	r.run(t, w)
	r.check(t, w, "read", true, "0=alice", "9999=alice", "10000=")
}

// TestServeReadsWhatACommitBrings has nobody wait for the job.
func TestServeReadsWhatACommitBrings(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	s.put("one", entry(1, "alice"))
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	if got := r.woken.Rest(); len(got) != 1 || got[0] != "g" {
		t.Fatalf("woken are %v", got)
	}
	r.woken.Done("g")
	r.woken.Wake("g")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	testkit.Await(t, testkit.Deadline, func() error {
		if got, _ := r.counts(t, w, "corp", token("A", 1), token("S", 1)); got != "alice" {
			return fmt.Errorf("it is of %q", got)
		}
		return nil
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestNothingOfATokenIsStored looks into the records and the audit trail, beside the log.
func TestNothingOfATokenIsStored(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	s.put(token("A", 1), entry(1, "alice"))
	s.put(token("A", 2), map[string]any{"consumer": "alice"})
	r.apply(t, store("corp"), &configv1.Consumer{Name: "alice"})
	r.run(t, w)
	s.fail(errors.New("no such thing"))
	r.run(t, w)
	for e := range r.view(t).All(tokenpair.KindEntry) {
		noTokens(t, "a record", e.Name+e.Message.(interface{ String() string }).String()+string(e.Record))
	}
	noTokens(t, "the log", w.logged())
}

func TestRefreshIsKept(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newShelf()
	r := w.replica(t, s)
	r.apply(t, store("corp", func(s *configv1.CredentialStore) { s.Refresh = durationpb.New(time.Minute) }))
	for range 31 { // a minute, and the first
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.pass(credentialstore.Every)
	}
	if s.listed != 2 {
		t.Errorf("it was listed %d times in a minute, want 2", s.listed)
	}
}
