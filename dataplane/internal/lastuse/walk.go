package lastuse

import "math/rand/v2"

const (
	// maxUses bounds a report: 24 bytes each, and with a report each 10 seconds more than a million in a Period.
	maxUses = 4000
	// maxVisited bounds the look at credentials for one report, of which few have something to report: 100,000 are looked at in
	// some milliseconds, and a million within ten reports.
	maxVisited = 100_000
)

// Table holds the marks of credentials by their uids, in parts; *directory.Directory does.
type Table interface {
	Parts() int
	// Marks calls yield with those of a part, while it wants more.
	Marks(part int, yield func(uid string, m *Mark) bool)
}

// Walk goes around tables, each time from where it was, so that every credential has its turn. It is used by one goroutine.
type Walk struct{ next uint }

// NewWalk begins anywhere, so that gateways do not report the same credentials at the same time.
func NewWalk() *Walk { return &Walk{next: rand.Uint()} }

// Take answers some of the uses that are to be reported. Whoever reports them says so of each.
func (w *Walk) Take(t Table) []Use {
	var uses []Use
	visited := 0
	look := func(uid string, m *Mark) bool { // one for all parts: there are many, and mostly nothing in them
		visited++
		if u, ok := m.use(uid); ok {
			uses = append(uses, u)
		}
		return len(uses) < maxUses
	}
	for range t.Parts() {
		t.Marks(int(w.next%uint(t.Parts())), look)
		if len(uses) == maxUses {
			return uses // the rest of this part has its turn when these are reported
		}
		w.next++
		if visited >= maxVisited {
			break
		}
	}
	return uses
}
