package directory

import (
	"sync"

	"keyward.dev/dataplane/internal/exchange"
)

// sampleSize is how many credentials Sample returns at most, one of each part of the table.
const sampleSize = 64

// samples are what Sample returned before. A directory and those that are edited from it have one each.
type samples struct {
	mu     sync.Mutex
	byType map[string][]*exchange.Credential
}

// Sample returns some credentials of a type, chosen as if by chance: what they have in common those of the group have. It looks
// at the whole table, once.
func (d *Directory) Sample(typ string) []*exchange.Credential {
	s := d.samples
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.byType[typ]
	if ok {
		return found
	}
	const part = shardCount / sampleSize
	for first := 0; first < shardCount; first += part {
		if c := sample(d.byHash[first:first+part], typ); c != nil {
			found = append(found, c)
		}
	}
	if s.byType == nil {
		s.byType = map[string][]*exchange.Credential{}
	}
	s.byType[typ] = found
	return found
}

func sample(shards []hashShard, typ string) *exchange.Credential {
	for _, s := range shards {
		for i := range s.slots {
			if e := s.slots[i].entry; e != nil && e.typ == typ && e.present {
				return &e.found
			}
		}
	}
	return nil
}
