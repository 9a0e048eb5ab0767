// Package directory is the table of who owns which credential, as policies look into it through exchange.Directory.
//
// A Directory is immutable. A change makes a new one that shares what did not change: with a hundred thousand
// credentials, a removal costs the copy of one small shard. Compile edits it from the records of a revision, always the
// newest: a removed credential is gone even when something else in the same revision is invalid.
//
// Keys are never here, only their keyed hashes. The time of a lookup tells nothing about them: what is compared are
// HMACs under a secret pepper, which a caller can neither choose nor predict. What is no secret, as the names in a client
// certificate, is looked up by a plain hash.
package directory

import (
	"iter"
	"maps"
	"slices"
	"time"
	"unique"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/lastuse"
)

const shardCount = 1024

// Directory finds credentials by type and presented secret. It implements exchange.Directory.
type Directory struct {
	// edit counts the edits that led here; what an edit made itself carries its number.
	edit       uint64
	terms      []*Term
	lost       bool // a term cannot be read
	samples    *samples
	unreadable unreadable
	stores     map[string]bool // credential stores of which everything is known; never changed
	byHash     [shardCount]hashShard
	byUID      [shardCount]map[string]*entry
	consumers  [shardCount]map[string]*consumerEntry
	others     [shardCount]map[otherName]string // names of consumers by the other names they have
}

// otherName is a name of a consumer besides that under which it is configured.
type otherName struct {
	by   exchange.ConsumerBy
	name string
}

// hashKey is what a hash is unique by; term 0 is that of hashes without a key.
type hashKey struct {
	typ  string
	term uint32
	hash [32]byte
}

// Credential describes one credential for the directory.
type Credential struct {
	UID, Name, Type string
	// Consumer is the name of the consumer it belongs to.
	Consumer string
	// Term is that of the pepper under which the hash is keyed; 0: it is a plain one, of something that is no secret.
	Term               uint32
	Hash               [32]byte
	NotBefore, Expires time.Time
	// Bound is what exchange.Principal says.
	Bound string
	// Subject is what exchange.Principal says.
	Subject string
	// Material is what exchange.Credential says.
	Material any
	// Used is what is known of its use; nil: nobody wants to know. The directory goes on with a mark of its own.
	Used *lastuse.Mark
}

// Consumer describes one consumer for the directory.
type Consumer struct {
	UID, Name string
	// Username and CustomID are other names of it; empty: none.
	Username, CustomID string
	Kind               exchange.PrincipalKind
	Groups             []string
	Labels             map[string]string
	// Standing is what exchange.Principal says, of principals with a credential.
	Standing any
}

// entry is a stored credential. Entries of the same hash, which admission does not let happen, are chained; none is
// found then, whatever the order in which they came. What a lookup looks at comes first and lies together.
type entry struct {
	hashKey
	present   bool         // the consumer is there
	noted     bool         // used is of interest
	used      lastuse.Mark // here, as what is found is used: of a million each line of memory that is looked at shows
	twin      *entry
	found     exchange.Credential
	principal exchange.Principal // of a consumer that is not there, too: then it has no ConsumerUID
}

func (ent *entry) uid() string { return ent.principal.CredentialUID }

type consumerEntry struct {
	Consumer
	attributes  *exchange.Attributes // of all its principals
	edit        uint64               // the edit that made this entry
	present     bool
	credentials []string // uids; few
}

// New returns an empty directory.
func New() *Directory { return &Directory{samples: &samples{}} }

// Credential implements exchange.Directory.
func (d *Directory) Credential(typ string, presented []byte) *exchange.Credential {
	for _, t := range d.terms {
		k := hashKey{typ: typ, term: t.number}
		t.sum(presented, &k.hash)
		if e := d.byHash[k.shard()].get(&k); e != nil && e.twin == nil && e.present {
			return &e.found
		}
	}
	return nil
}

// Identified implements exchange.Directory.
func (d *Directory) Identified(typ string, hash *[32]byte) (c *exchange.Credential, several bool) {
	k := hashKey{typ: typ, hash: *hash}
	switch e := d.byHash[k.shard()].get(&k); {
	case e == nil:
		return nil, false
	case e.twin != nil:
		return nil, true
	case !e.present:
		return nil, false
	default:
		return &e.found, false
	}
}

// Principal returns for whom the credential speaks now, nil if it is not there or belongs to no consumer.
func (d *Directory) Principal(uid string) *exchange.Principal {
	e := d.byUID[nameShard(uid)][uid]
	if e == nil || !e.present {
		return nil
	}
	return &e.principal
}

// Consumer implements exchange.Directory.
func (d *Directory) Consumer(by exchange.ConsumerBy, name []byte) *exchange.Principal {
	called := string(name)
	if by != exchange.ConsumerByName {
		called = d.others[nameShard(called)][otherName{by, called}]
	}
	c := d.consumers[nameShard(called)][called]
	if c == nil || !c.present {
		return nil
	}
	p := c.principal()
	return &p
}

// principal speaks for the consumer.
func (n *consumerEntry) principal() exchange.Principal {
	return exchange.Principal{
		Kind: max(n.Kind, exchange.KindUser), Consumer: n.Name, ConsumerUID: n.UID, Groups: n.Groups, Attributes: n.attributes,
	}
}

// nameShard is FNV-1a, which spreads names well enough.
func nameShard(s string) int {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return int((h ^ h>>16) % shardCount)
}

// Editor makes a new directory from an old one. It is used by one goroutine and once.
type Editor struct {
	d     *Directory
	each  int // how many credentials are expected in a shard; 0: nobody knows
	owned struct {
		byHash, byUID, consumers, others [shardCount]bool
		unreadable                       bool
	}
}

// Edit begins a new directory that starts as d.
func (d *Directory) Edit() *Editor {
	c := *d
	c.edit++
	c.samples = &samples{}
	return &Editor{d: &c}
}

// Expect says how many credentials there will be: then there is room for them at once.
func (e *Editor) Expect(credentials int) { e.each = credentials / shardCount }

// Directory ends the edit.
func (e *Editor) Directory() *Directory { return e.d }

// SetTerms replaces the pepper terms. Newer terms are tried first.
func (e *Editor) SetTerms(terms []*Term) { e.d.terms = sortedTerms(terms) }

// SetLost says whether there are terms that cannot be read.
func (e *Editor) SetLost(lost bool) { e.d.lost = lost }

// PutConsumer adds or replaces a consumer; its credentials speak for it from now on.
func (e *Editor) PutConsumer(c Consumer) {
	n := e.consumer(c.Name)
	e.renamed(n.Consumer, c)
	n.Consumer, n.attributes, n.present = c, c.attributes(), true
	e.rebind(n)
}

// renamed replaces the other names of a consumer.
func (e *Editor) renamed(before, after Consumer) {
	for old := range before.others() {
		s := nameShard(old.name)
		if e.d.others[s][old] == before.Name { // not if another one has taken it meanwhile
			delete(own(&e.d.others[s], &e.owned.others[s]), old)
		}
	}
	for now := range after.others() {
		s := nameShard(now.name)
		own(&e.d.others[s], &e.owned.others[s])[now] = after.Name
	}
}

// attributes are what exchange.Principal has of them, nil without any.
func (c Consumer) attributes() *exchange.Attributes {
	if c.Username == "" && c.CustomID == "" && len(c.Labels) == 0 {
		return nil
	}
	return &exchange.Attributes{Username: c.Username, CustomID: c.CustomID, Labels: c.Labels}
}

func (c Consumer) others() iter.Seq[otherName] {
	return func(yield func(otherName) bool) {
		if c.Username != "" && !yield(otherName{exchange.ConsumerByUsername, c.Username}) {
			return
		}
		if c.CustomID != "" {
			yield(otherName{exchange.ConsumerByCustomID, c.CustomID})
		}
	}
}

// RemoveConsumer removes a consumer; its credentials are found no more.
func (e *Editor) RemoveConsumer(name string) {
	n := e.consumer(name)
	e.renamed(n.Consumer, Consumer{})
	n.Consumer, n.attributes, n.present = Consumer{Name: name}, nil, false
	e.rebind(n)
	e.prune(n)
}

// PutCredential adds or replaces a credential, known by its uid.
func (e *Editor) PutCredential(c Credential) {
	e.RemoveCredential(c.UID)
	n := e.consumer(c.Consumer)
	n.credentials = append(n.credentials, c.UID)
	e.place(newEntry(c, n))
}

// RemoveCredential removes a credential and returns what it was, nil if it is not there.
func (e *Editor) RemoveCredential(uid string) *exchange.Principal {
	s := nameShard(uid)
	old := e.d.byUID[s][uid]
	if old == nil {
		return nil
	}
	delete(own(&e.d.byUID[s], &e.owned.byUID[s]), uid)
	m := e.ownHashes(&old.hashKey)
	m.set(&old.hashKey, without(m.get(&old.hashKey), uid), 0)
	n := e.consumer(old.principal.Consumer)
	n.credentials = slices.DeleteFunc(n.credentials, func(u string) bool { return u == uid })
	e.prune(n)
	return &old.principal
}

// consumer returns an entry of that name that may be written to.
func (e *Editor) consumer(name string) *consumerEntry {
	s := nameShard(name)
	m := own(&e.d.consumers[s], &e.owned.consumers[s])
	n := &consumerEntry{Consumer: Consumer{Name: name}, edit: e.d.edit}
	if old := m[name]; old != nil {
		if old.edit == e.d.edit {
			return old // nobody else has seen it yet
		}
		n.Consumer, n.attributes, n.present, n.credentials = old.Consumer, old.attributes, old.present, slices.Clone(old.credentials)
	}
	m[name] = n
	return n
}

func (e *Editor) prune(n *consumerEntry) {
	if !n.present && len(n.credentials) == 0 {
		delete(e.d.consumers[nameShard(n.Name)], n.Name)
	}
}

// rebind gives every credential of the consumer a new principal.
func (e *Editor) rebind(n *consumerEntry) {
	for _, uid := range n.credentials {
		old := e.d.byUID[nameShard(uid)][uid]
		m := e.ownHashes(&old.hashKey)
		m.set(&old.hashKey, without(m.get(&old.hashKey), uid), 0)
		e.place(newEntry(old.credential(), n))
	}
}

// place enters ent into both tables.
func (e *Editor) place(ent *entry) {
	s := nameShard(ent.uid())
	if e.d.byUID[s] == nil && e.each > 0 {
		e.d.byUID[s], e.owned.byUID[s] = make(map[string]*entry, e.each), true
	}
	own(&e.d.byUID[s], &e.owned.byUID[s])[ent.uid()] = ent
	m := e.ownHashes(&ent.hashKey)
	if first := m.get(&ent.hashKey); first != nil {
		ent = ent.clone() // entries are shared with older directories: chains are made of copies
		ent.twin = first
	}
	m.set(&ent.hashKey, ent, e.each)
}

// ownHashes returns the shard of the key for writing.
func (e *Editor) ownHashes(k *hashKey) *hashShard {
	i := k.shard()
	if !e.owned.byHash[i] {
		e.owned.byHash[i] = true
		e.d.byHash[i].slots = slices.Clone(e.d.byHash[i].slots)
	}
	return &e.d.byHash[i]
}

// without returns the chain without uid, leaving the old one as it is.
func without(chain *entry, uid string) *entry {
	if chain == nil {
		return nil
	}
	rest := without(chain.twin, uid)
	if chain.uid() == uid {
		return rest
	}
	if rest == chain.twin {
		return chain
	}
	copied := chain.clone()
	copied.twin = rest
	return copied
}

// newEntry is the credential as it speaks for the consumer.
func newEntry(c Credential, n *consumerEntry) *entry {
	e := &entry{
		// Equal types are one string, so that comparing them does not look at it.
		hashKey: hashKey{typ: unique.Make(c.Type).Value(), term: c.Term, hash: c.Hash},
		present: n.present,
	}
	e.principal = n.principal()
	e.principal.Standing = n.Standing
	e.principal.Consumer = c.Consumer // the same, and where the credential's own name is
	e.principal.Credential, e.principal.CredentialUID, e.principal.How, e.principal.Expires = c.Name, c.UID, e.typ, c.Expires
	if c.Subject != "" || c.Bound != "" {
		own := e.principal.Own()
		own.Subject, own.Bound = c.Subject, c.Bound
	}
	if c.Used != nil {
		e.noted, e.principal.Used = true, &e.used
		e.used.Follow(c.Used)
	}
	e.found = exchange.Credential{NotBefore: c.NotBefore, Principal: &e.principal, Material: c.Material}
	return e
}

// credential is what the entry was made of.
func (ent *entry) credential() Credential {
	return Credential{
		UID: ent.uid(), Name: ent.principal.Credential, Type: ent.typ, Consumer: ent.principal.Consumer, Term: ent.term, Hash: ent.hash,
		NotBefore: ent.found.NotBefore, Expires: ent.principal.Expires, Bound: ent.principal.Bound(), Subject: ent.principal.Subject(), Material: ent.found.Material,
		Used: ent.principal.Used,
	}
}

// clone is the same credential in another chain; its use is noted in the mark of ent.
func (ent *entry) clone() *entry {
	c := &entry{hashKey: ent.hashKey, present: ent.present, twin: ent.twin, found: ent.found, principal: ent.principal}
	c.found.Principal = &c.principal
	return c
}

// own makes sure the shard is this editor's own copy.
func own[K comparable, V any](shard *map[K]V, owned *bool) map[K]V {
	if !*owned {
		*owned = true
		if *shard = maps.Clone(*shard); *shard == nil {
			*shard = map[K]V{}
		}
	}
	return *shard
}
