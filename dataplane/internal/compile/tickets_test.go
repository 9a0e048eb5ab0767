package compile_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
)

func ticketKeys(key byte, size int) statetest.Record {
	return record("session-ticket-keys", "tickets", "keys", &systemv1.TicketKeys{Keys: []*systemv1.TicketKey{{
		Key: bytes.Repeat([]byte{key}, size), From: timestamppb.Now(), Until: timestamppb.New(time.Now().Add(time.Hour)),
	}}})
}

// TestTicketKeysAreThoseOfTheSet brings keys, other ones, ones that cannot be used, and none.
func TestTicketKeysAreThoseOfTheSet(t *testing.T) {
	t.Parallel()
	c, source, folder := newCompiler(), statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{})
	sealing := func(rt *runtime.Runtime) (key [32]byte) {
		if keys := rt.Tickets.At(time.Now(), ""); len(keys) > 0 {
			key = keys[0]
		}
		return key
	}
	first := ticketKeys('a', 32)
	source.Change([]statetest.Record{first}, nil)
	rt, faults := c.Build(statetest.Fold(t, folder, source.Reset()), nil)
	if len(faults) > 0 || sealing(rt) == [32]byte{} {
		t.Fatalf("keys %v, faults %v", rt.Tickets, faults)
	}
	service := record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:1"})
	other, _ := c.Build(statetest.Fold(t, folder, source.Change([]statetest.Record{service}, nil)), rt)
	again, _ := c.Build(statetest.Fold(t, folder, source.Reset()), other)
	if other.Tickets != rt.Tickets || again.Tickets != rt.Tickets {
		t.Error("keys that did not change were taken anew")
	}
	second, _ := c.Build(statetest.Fold(t, folder, source.Change([]statetest.Record{ticketKeys('b', 32)}, nil)), again)
	if sealing(second) == sealing(rt) || sealing(second) == [32]byte{} {
		t.Error("the keys of before seal")
	}
	broken, faults := c.Build(statetest.Fold(t, folder, source.Change([]statetest.Record{ticketKeys('c', 31)}, nil)), second)
	want := []runtime.Fault{{Kind: "session-ticket-keys", UID: "tickets", Name: "keys", Reason: "it holds something else than keys of session tickets"}}
	if diff := cmp.Diff(want, faults); diff != "" || broken.Tickets != nil || broken.Closed != "" {
		t.Errorf("keys %v, closed %q, faults (-want +got):\n%s", broken.Tickets, broken.Closed, diff)
	}
	none, _ := c.Build(statetest.Fold(t, folder, source.Change(nil, []statetest.Record{first})), broken)
	if none.Tickets != nil || len(compile.Faults(none)) > 0 {
		t.Errorf("keys %v, faults %v", none.Tickets, compile.Faults(none))
	}
}
