package compile

import (
	"hash/fnv"
	"slices"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/shardmap"
)

// buckets is into how many parts the routes of one service are divided, so that a change of one route among a hundred
// thousand of one service copies a short list.
const buckets = 64

// users keeps, for each service name, the uids of the routes to it, so that the change of a service costs as much as it
// has routes; likewise for certificates and authorities the uids of what is made from them.
type users struct {
	edit *shardmap.Editor[[]string]
	own  map[string]bool // lists that were made here and may be changed
}

func usersOf(prev *shardmap.Map[[]string]) *users {
	return &users{edit: prev.Edit(), own: map[string]bool{}}
}

func bucketOf(service string, n byte) string { return service + "\x00" + string(rune(n)) }

func keyOf(service, uid string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uid))
	return bucketOf(service, byte(h.Sum32()%buckets))
}

// move takes a route from one service to another. Most changes do not.
func (u *users) move(uid string, before, after *runtime.Route) {
	from, to := serviceOf(before), serviceOf(after)
	if from == to {
		return
	}
	if from != "" {
		u.remove(from, uid)
	}
	if to != "" {
		u.add(to, uid)
	}
}

// serviceOf returns the service a route names; none if there is no route or it cannot be read.
func serviceOf(r *runtime.Route) string {
	if r == nil {
		return ""
	}
	return r.ServiceName
}

func (u *users) add(service, uid string) {
	key := keyOf(service, uid)
	u.edit.Put(key, append(u.list(key), uid))
}

func (u *users) remove(service, uid string) {
	key := keyOf(service, uid)
	list := u.list(key)
	if i := slices.Index(list, uid); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		u.edit.Delete(key)
		return
	}
	u.edit.Put(key, list)
}

// list returns a list that may be changed.
func (u *users) list(key string) []string {
	list, ok := u.edit.Get(key)
	if !ok || u.own[key] {
		u.own[key] = true
		return list
	}
	u.own[key] = true
	return slices.Clone(list)
}

// eachUser visits what is kept for a name.
func eachUser(users *shardmap.Map[[]string], name string, visit func(uid string)) {
	for n := range byte(buckets) {
		list, _ := users.Get(bucketOf(name, n))
		for _, uid := range list {
			visit(uid)
		}
	}
}
