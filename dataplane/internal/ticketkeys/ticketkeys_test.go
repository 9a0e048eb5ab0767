package ticketkeys_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/ticketkeys"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// keyOf is one that seals from some hours after noon, and opens for two hours more than the one in which it seals.
func keyOf(name byte, hour int) *systemv1.TicketKey {
	from := noon.Add(time.Duration(hour) * time.Hour)
	return &systemv1.TicketKey{Key: bytes.Repeat([]byte{name}, 32), From: timestamppb.New(from), Until: timestamppb.New(from.Add(3 * time.Hour))}
}

func newKeys(t *testing.T, keys ...*systemv1.TicketKey) *ticketkeys.Keys {
	t.Helper()
	k, err := ticketkeys.New(&systemv1.TicketKeys{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTheKeyThatSealsIsTheNewestWhoseTimeHasCome writes down which keys there are by their names, that which seals in front.
func TestTheKeyThatSealsIsTheNewestWhoseTimeHasCome(t *testing.T) {
	t.Parallel()
	a, b, c := keyOf('a', 0), keyOf('b', 1), keyOf('c', 2)
	all := newKeys(t, c, a, b)
	names := map[[32]byte]string{}
	for name, k := range map[string]*systemv1.TicketKey{"a": a, "b": b, "c": c} {
		names[newKeys(t, k).At(k.GetFrom().AsTime(), "")[0]] = name
	}
	for _, tt := range []struct {
		after       time.Duration
		seals, with string // with: in any order
	}{
		{-time.Hour, "a", "bc"}, // a clock that is late
		{0, "a", "bc"},
		{59 * time.Minute, "a", "bc"},
		{time.Hour, "b", "ac"},
		{2*time.Hour + 59*time.Minute, "c", "ab"},
		{3 * time.Hour, "c", "b"},
		{4*time.Hour + 30*time.Minute, "c", ""}, // nothing has come after it
		{5 * time.Hour, "", ""},
	} {
		keys := all.At(noon.Add(tt.after), "")
		got := ""
		for _, k := range keys {
			got += names[k]
		}
		if len(got) != len(tt.seals)+len(tt.with) || got != "" && got[:1] != tt.seals {
			t.Errorf("after %v: %q, want %s in front of %q", tt.after, got, tt.seals, tt.with)
		}
		for _, one := range tt.with {
			if !bytes.ContainsRune([]byte(got), one) {
				t.Errorf("after %v: %q lacks %c", tt.after, got, one)
			}
		}
	}
}

func TestKeysAreDerived(t *testing.T) {
	t.Parallel()
	a := keyOf('a', 0)
	k := newKeys(t, a)
	plain, strict := k.At(noon, "")[0], k.At(noon, "strict")[0]
	if bytes.Equal(plain[:], a.GetKey()) || plain == strict {
		t.Error("a key is what the record says, or the same for all terms")
	}
	if again := newKeys(t, keyOf('a', 0)); again.At(noon, "")[0] != plain || again.At(noon, "strict")[0] != strict || k.At(noon, "")[0] != plain {
		t.Error("gateways derive different keys")
	}
}

func TestWhatIsNoKeyIsRefused(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(k *systemv1.TicketKey){
		"short":         func(k *systemv1.TicketKey) { k.Key = k.GetKey()[1:] },
		"long":          func(k *systemv1.TicketKey) { k.Key = append(k.GetKey(), 0) },
		"no beginning":  func(k *systemv1.TicketKey) { k.From = nil },
		"a broken time": func(k *systemv1.TicketKey) { k.Until = &timestamppb.Timestamp{Nanos: -1} },
	} {
		bad := keyOf('b', 1)
		breaks(bad)
		if _, err := ticketkeys.New(&systemv1.TicketKeys{Keys: []*systemv1.TicketKey{keyOf('a', 0), bad}}); !errors.Is(err, ticketkeys.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, none := range map[string]*ticketkeys.Keys{"no keys": nil, "an empty record": newKeys(t)} {
		if got := none.At(noon, ""); len(got) > 0 {
			t.Errorf("%s: %d keys", name, len(got))
		}
	}
}
