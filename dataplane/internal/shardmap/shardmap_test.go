package shardmap_test

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/shardmap"
)

// Every map ever made stays as it was, whatever is edited later.
func TestMapsAreIndependent(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	m, want := shardmap.New[int](), map[string]int{}
	var made []*shardmap.Map[int]
	var wants []map[string]int
	for range 50 {
		e := m.Edit()
		for range 40 {
			k := strconv.Itoa(rng.IntN(300))
			if rng.IntN(3) == 0 {
				e.Delete(k)
				delete(want, k)
				continue
			}
			v := rng.Int()
			e.Put(k, v)
			want[k] = v
		}
		m = e.Map()
		made, wants = append(made, m), append(wants, maps.Clone(want))
	}
	for i, m := range made {
		if diff := cmp.Diff(wants[i], maps.Collect(m.All())); diff != "" || m.Len() != len(wants[i]) {
			t.Fatalf("map %d has %d keys (-want +got):\n%s", i, m.Len(), diff)
		}
	}
}

func TestGetDoesNotAllocate(t *testing.T) {
	e := shardmap.New[int]().Edit()
	e.Put("api.test", 7)
	m := e.Map()
	key := []byte("api.test")
	if n := testing.AllocsPerRun(100, func() {
		if v, ok := m.GetBytes(key); !ok || v != 7 {
			t.Error("key is missing")
		}
	}); n != 0 {
		t.Errorf("GetBytes makes %v allocations, want 0", n)
	}
}
