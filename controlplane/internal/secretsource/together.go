package secretsource

import (
	"sync"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
)

// answers are what providers have answered in a run, by provider and path. User and password are two references to one place:
// of each place all that is wanted is read at once, so that they belong together.
type answers struct {
	mu  sync.Mutex
	all map[spot]*answer // guarded by mu
}

type spot struct {
	of   *Provider
	path string
}

type answer struct {
	once sync.Once
	reply
	err error
}

// reply is what is in a place. With a lease, it was made for us; then no data says that it is what is kept.
type reply struct {
	data  map[string]any
	lease *systemv1.SecretLease
}

func newAnswers() *answers { return &answers{all: map[spot]*answer{}} }

func (a *answers) at(s spot) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all[s] == nil {
		a.all[s] = &answer{}
	}
	return a.all[s]
}

// once asks for the place of a question, unless that was done before in this run. What is answered must not be changed.
func (q question) once(ask func() (reply, error)) (reply, error) {
	if q.answers == nil {
		return ask()
	}
	a := q.answers.at(spot{q.of, q.reference.Path})
	a.once.Do(func() { a.reply, a.err = ask() })
	return a.reply, a.err
}

// read is once for what has no lease.
func (q question) read(ask func() (map[string]any, error)) (map[string]any, error) {
	g, err := q.once(func() (reply, error) {
		data, err := ask()
		return reply{data: data}, err
	})
	return g.data, err
}

// beside are the records of all that is read of the same place.
func (a asking) beside(due map[string]want) map[spot][]*systemv1.ResolvedSecret {
	out := map[spot][]*systemv1.ResolvedSecret{}
	for name, w := range due {
		if p, reason := a.find(w.reference); reason == "" {
			at := spot{p, w.reference.Path}
			out[at] = append(out[at], a.kept(name))
		}
	}
	return out
}

// together adds to what is due all that is wanted of the same places.
func (a asking) together(due, wanted map[string]want) {
	places := map[spot]bool{}
	at := func(w want) (spot, bool) {
		p, reason := a.find(w.reference)
		return spot{p, w.reference.Path}, reason == "" && w.reference.Field != ""
	}
	for _, w := range due {
		if s, ok := at(w); ok {
			places[s] = true
		}
	}
	for name, w := range wanted {
		if s, ok := at(w); ok && places[s] {
			due[name] = w
		}
	}
}
