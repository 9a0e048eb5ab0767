package shardmap

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
)

// A shard holds what was put and not removed, also when many keys want the same slot.
func TestShardOfKeysThatCollide(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		homes := 1 + rng.Uint64N(8)
		hash := func(k string) uint64 { return (uint64(len(k)) + uint64(k[0])) % homes << shardBits }
		var s shard[int]
		want := map[string]int{}
		for step := range 300 {
			k := strconv.Itoa(rng.IntN(40))
			switch _, there := want[k]; {
			case rng.IntN(3) > 0:
				if s.put(slot[int]{used(hash(k)), k, step}, int(seed)%64) == there {
					t.Fatalf("put(%s) says that it is new: %v", k, !there)
				}
				want[k] = step
			case there:
				s.remove(s.find(hash(k), k))
				delete(want, k)
			}
			for k := range 40 {
				key := strconv.Itoa(k)
				i, j := s.find(hash(key), key), s.findBytes(hash(key), []byte(key))
				if v, there := want[key]; i != j || i >= 0 != there || there && s.slots[i].value != v {
					t.Fatalf("seed %d, step %d: %s is at %d and %d, want %v", seed, step, key, i, j, maps.Collect(maps.All(want)))
				}
			}
		}
	}
}
