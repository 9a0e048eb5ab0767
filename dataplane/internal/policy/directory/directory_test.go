package directory_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/policy/directory"
)

func term(t testing.TB, number uint32) *directory.Term {
	t.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	out, err := directory.NewTerm(number, key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func credential(consumer, uid, key string, in *directory.Term) directory.Credential {
	return directory.Credential{
		UID: uid, Name: uid, Type: "key-auth", Consumer: consumer, Term: in.Number(), Hash: in.Hash([]byte(key)),
	}
}

// owner returns the consumer found for a key, "" for none.
func owner(d *directory.Directory, key string) string {
	c := d.Credential("key-auth", []byte(key))
	if c == nil {
		return ""
	}
	return c.Principal.Consumer
}

func TestCredentialIsFoundUnderEachLiveTerm(t *testing.T) {
	t.Parallel()
	one, two := term(t, 1), term(t, 2)
	e := directory.New().Edit()
	e.SetTerms([]*directory.Term{one, two})
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice", Groups: []string{"gold"}})
	e.PutCredential(credential("alice", "old", "k-old", one))
	e.PutCredential(credential("alice", "new", "k-new", two))
	d := e.Directory()
	if owner(d, "k-old") != "alice" || owner(d, "k-new") != "alice" || owner(d, "k-none") != "" {
		t.Error("a key of a live term is not found, or an unknown one is")
	}
	if d.Credential("other-auth", []byte("k-new")) != nil {
		t.Error("a key is found as a credential of another type")
	}
	p := d.Credential("key-auth", []byte("k-new")).Principal
	if p.ConsumerUID != "u" || p.CredentialUID != "new" || p.How != "key-auth" || len(p.Groups) != 1 {
		t.Errorf("principal = %+v", p)
	}
	e = d.Edit()
	e.SetTerms([]*directory.Term{two})
	if got := e.Directory(); owner(got, "k-old") != "" || owner(got, "k-new") != "alice" {
		t.Error("a key of a removed term is still found, or that of the kept one is not")
	}
}

func TestEditsDoNotShowInOlderDirectories(t *testing.T) {
	t.Parallel()
	in := term(t, 1)
	e := directory.New().Edit()
	e.SetTerms([]*directory.Term{in})
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice", Groups: []string{"gold"}})
	e.PutCredential(credential("alice", "c", "k", in))
	before := e.Directory()

	e = before.Edit()
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice", Groups: []string{"silver"}})
	changed := e.Directory()
	e = changed.Edit()
	e.RemoveConsumer("alice")
	gone := e.Directory()

	group := func(d *directory.Directory) string { return d.Credential("key-auth", []byte("k")).Principal.Groups[0] }
	if group(before) != "gold" || group(changed) != "silver" || owner(gone, "k") != "" {
		t.Error("an edit shows in the directory it began from, or not in its own")
	}
	if gone.Consumer(exchange.ConsumerByName, []byte("alice")) != nil {
		t.Error("a removed consumer is there")
	}
}

// Consumers are found by their other names, also after these have changed or gone to another one.
func TestConsumersHaveOtherNames(t *testing.T) {
	t.Parallel()
	found := func(d *directory.Directory, by exchange.ConsumerBy, name string) string {
		if p := d.Consumer(by, []byte(name)); p != nil {
			return p.Consumer
		}
		return ""
	}
	const name, username, custom = exchange.ConsumerByName, exchange.ConsumerByUsername, exchange.ConsumerByCustomID
	e := directory.New().Edit()
	e.PutConsumer(directory.Consumer{UID: "a", Name: "alice", Username: "al", CustomID: "7", Kind: exchange.KindMachine, Labels: map[string]string{"k": "v"}})
	e.PutConsumer(directory.Consumer{UID: "b", Name: "al"})
	first := e.Directory()
	for by, want := range map[exchange.ConsumerBy][2]string{name: {"al", "al"}, username: {"al", "alice"}, custom: {"7", "alice"}} {
		if got := found(first, by, want[0]); got != want[1] {
			t.Errorf("by %d %q is %q, want %q", by, want[0], got, want[1])
		}
	}
	if p := first.Consumer(username, []byte("al")); p.Kind != exchange.KindMachine || p.ConsumerUID != "a" || p.Labels()["k"] != "v" || p.How != "" {
		t.Errorf("the consumer is %+v", p)
	}
	if found(first, custom, "al") != "" || found(first, username, "alice") != "" || found(first, username, "") != "" {
		t.Error("a name of one sort is found as one of another")
	}
	e = first.Edit() // bob takes the username of alice, before she has another one
	e.PutConsumer(directory.Consumer{UID: "c", Name: "bob", Username: "al"})
	e.PutConsumer(directory.Consumer{UID: "a", Name: "alice", Username: "liz"})
	second := e.Directory()
	if found(second, username, "al") != "bob" || found(second, username, "liz") != "alice" || found(second, custom, "7") != "" {
		t.Error("names did not go over")
	}
	e = second.Edit()
	e.RemoveConsumer("bob")
	if d := e.Directory(); found(d, username, "al") != "" || found(second, username, "al") != "bob" || found(first, username, "al") != "alice" {
		t.Error("a name is left, or an edit shows elsewhere")
	}
}

func TestEqualHashesFindNobody(t *testing.T) {
	t.Parallel()
	in := term(t, 1)
	for _, order := range [][]string{{"alice", "bob"}, {"bob", "alice"}} {
		e := directory.New().Edit()
		e.SetTerms([]*directory.Term{in})
		for _, name := range order {
			e.PutConsumer(directory.Consumer{UID: name, Name: name})
			e.PutCredential(credential(name, "c-"+name, "same", in))
		}
		d := e.Directory()
		if got := owner(d, "same"); got != "" {
			t.Errorf("a key of two consumers names %s", got)
		}
		e = d.Edit()
		e.RemoveCredential("c-alice")
		if got := owner(e.Directory(), "same"); got != "bob" {
			t.Errorf("with one of two gone the key names %q, want bob", got)
		}
	}
}

// What is no secret is found by a plain hash, whatever terms there are, and never as a key.
func TestIdentified(t *testing.T) {
	t.Parallel()
	hash := func(name string) [32]byte { return sha256.Sum256([]byte(name)) }
	put := func(e *directory.Editor, uid, consumer, name string) {
		e.PutCredential(directory.Credential{UID: uid, Name: uid, Type: "mtls-auth", Consumer: consumer, Hash: hash(name)})
	}
	e := directory.New().Edit()
	for _, name := range []string{"alice", "bob"} {
		e.PutConsumer(directory.Consumer{UID: "u-" + name, Name: name})
	}
	put(e, "1", "alice", "a")
	put(e, "2", "alice", "shared")
	put(e, "3", "bob", "shared")
	put(e, "4", "nobody", "orphan")
	d := e.Directory()
	for _, tt := range []struct {
		typ, name, consumer string
		several             bool
	}{
		{"mtls-auth", "a", "alice", false},
		{"mtls-auth", "shared", "", true},
		{"mtls-auth", "orphan", "", false},
		{"mtls-auth", "unknown", "", false},
		{"key-auth", "a", "", false},
	} {
		h, got := hash(tt.name), ""
		c, several := d.Identified(tt.typ, &h)
		if c != nil {
			got = c.Principal.Consumer
		}
		if got != tt.consumer || several != tt.several {
			t.Errorf("Identified(%s, %s) = %q, %v, want %q, %v", tt.typ, tt.name, got, several, tt.consumer, tt.several)
		}
	}
	edit := d.Edit()
	edit.RemoveCredential("2")
	h := hash("shared")
	if c, several := edit.Directory().Identified("mtls-auth", &h); several || c == nil || c.Principal.Consumer != "bob" {
		t.Errorf("once the other is gone: %v, %v, want bob's", c, several)
	}
	if d.Credential("mtls-auth", []byte("a")) != nil {
		t.Error("it is found as a key")
	}
}

func TestTermNeedsAWholeKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		number uint32
		size   int
	}{{0, 32}, {1, 31}, {1, 0}, {1, 33}} {
		if _, err := directory.NewTerm(tt.number, make([]byte, tt.size)); err == nil {
			t.Errorf("NewTerm(%d, %d bytes) = nil error", tt.number, tt.size)
		}
	}
}

// TestAnyHistoryEqualsABuildFromScratch drives random edits and compares with plain maps.
func TestAnyHistoryEqualsABuildFromScratch(t *testing.T) {
	t.Parallel()
	in := term(t, 1)
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	consumers := map[string]string{}                 // name → group
	credentials := map[string]directory.Credential{} // uid → credential
	d := directory.New()
	e := d.Edit()
	e.SetTerms([]*directory.Term{in})
	d = e.Directory()
	for range 300 {
		e := d.Edit()
		for range rng.IntN(4) {
			name, uid, key := strconv.Itoa(rng.IntN(6)), strconv.Itoa(rng.IntN(10)), "key"+strconv.Itoa(rng.IntN(8))
			switch rng.IntN(5) {
			case 0:
				delete(consumers, name)
				e.RemoveConsumer(name)
			case 1, 2:
				consumers[name] = key
				e.PutConsumer(directory.Consumer{UID: "u" + name, Name: name, Groups: []string{key}})
			case 3:
				credentials[uid] = credential(name, uid, key, in)
				e.PutCredential(credentials[uid])
			default:
				delete(credentials, uid)
				e.RemoveCredential(uid)
			}
		}
		d = e.Directory()
		for k := range 8 {
			key := "key" + strconv.Itoa(k)
			if got, want := describe(d.Credential("key-auth", []byte(key))), expect(consumers, credentials, in.Hash([]byte(key))); got != want {
				t.Fatalf("Credential(%s) = %s, want %s", key, got, want)
			}
		}
	}
}

func describe(c *exchange.Credential) string {
	if c == nil {
		return "nobody"
	}
	return fmt.Sprint(c.Principal.Consumer, c.Principal.Credential, c.Principal.Groups)
}

func expect(consumers map[string]string, credentials map[string]directory.Credential, hash [32]byte) string {
	found := "nobody"
	n := 0
	for uid, c := range credentials {
		if c.Hash != hash {
			continue
		}
		n++
		if group, ok := consumers[c.Consumer]; ok {
			found = fmt.Sprint(c.Consumer, uid, []string{group})
		}
	}
	if n > 1 {
		return "nobody"
	}
	return found
}

func large(t testing.TB, n int) *directory.Directory {
	t.Helper()
	in := term(t, 1)
	e := directory.New().Edit()
	e.SetTerms([]*directory.Term{in})
	for i := range n {
		s := strconv.Itoa(i)
		e.PutConsumer(directory.Consumer{UID: "u" + s, Name: "c" + s, Groups: []string{"gold"}})
		c := credential("c"+s, "k"+s, "key-"+s, in)
		c.Used = &lastuse.Mark{}
		e.PutCredential(c)
	}
	return e.Directory()
}

func BenchmarkLookup(b *testing.B) {
	d := large(b, 100_000)
	keys := make([][]byte, 4096)
	for i := range keys {
		keys[i] = []byte("key-" + strconv.Itoa(i*7))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if d.Credential("key-auth", keys[i%len(keys)]) == nil && (i%len(keys))*7 < 100_000 {
			b.Fatal("not found")
		}
		i++
	}
}

// BenchmarkLookupOfAMillion draws from a million keys, so that what is looked up is in no cache; and does with it what every
// request does, with and without noting the use.
func BenchmarkLookupOfAMillion(b *testing.B) {
	if os.Getenv("KEYWARD_FULL") == "" {
		b.Skip("takes a while to set up; set KEYWARD_FULL=1")
	}
	const n = 1_000_000
	d := large(b, n)
	keys := make([][]byte, 1<<16)
	for i := range keys {
		keys[i] = []byte("key-" + strconv.Itoa(i*7919%n))
	}
	now := time.Now()
	for _, tt := range []struct {
		name string
		then func(p *exchange.Principal) bool
	}{
		{"found", func(*exchange.Principal) bool { return true }},
		{"looked at", func(p *exchange.Principal) bool { return p.Bound() == "" && p.ConsumerUID != "" }},
		{"noted", func(p *exchange.Principal) bool { p.Used.Note(now); return p.Bound() == "" && p.ConsumerUID != "" }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				c := d.Credential("key-auth", keys[i%len(keys)])
				if c == nil || !tt.then(c.Principal) {
					b.Fatal("not found")
				}
				i += 7
			}
		})
	}
}

func BenchmarkEdit(b *testing.B) {
	d := large(b, 100_000)
	in := term(b, 1)
	c := credential("c5", "k5", "another", in)
	c.Expires = time.Unix(1, 0)
	b.ReportAllocs()
	for b.Loop() {
		e := d.Edit()
		e.PutCredential(c)
		e.Directory()
	}
}

func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		large(b, 100_000)
	}
}
