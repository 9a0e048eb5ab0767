package exchange_test

import (
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
)

func TestParseIDReadsWhatAppendWrites(t *testing.T) {
	t.Parallel()
	x := &exchange.Exchange{}
	id := x.ID()
	if got, ok := exchange.ParseID(id.Append(nil)); !ok || got != id {
		t.Errorf("ParseID(%s) = %s, %v", id, got, ok)
	}
	const text = "c2d7f0a4-6b1e-4d55-9f5d-0123456789ab"
	if got, ok := exchange.ParseID([]byte(text)); !ok || got.String() != text {
		t.Errorf("ParseID(%s) = %s, %v", text, got, ok)
	}
	for _, bad := range []string{
		"", text[1:], text + "0", strings.ToUpper(text), strings.ReplaceAll(text, "-", "_"), strings.Replace(text, "a", "g", 1),
		"00000000-0000-0000-0000-000000000000", "{" + text[1:35] + "}", strings.ReplaceAll(text, "-", "") + "0000",
	} {
		if got, ok := exchange.ParseID([]byte(bad)); ok {
			t.Errorf("ParseID(%q) = %s, want it refused", bad, got)
		}
	}
}

func TestIDAppendsToWhatIsThere(t *testing.T) {
	t.Parallel()
	id := exchange.ID{0x01, 0x23, 15: 0xef}
	if got, want := string(id.Append([]byte("urn:uuid:"))), "urn:uuid:01230000-0000-0000-0000-0000000000ef"; got != want {
		t.Errorf("Append() = %q, want %q", got, want)
	}
}

func TestTraceIDIsPartOfTheParent(t *testing.T) {
	t.Parallel()
	x := &exchange.Exchange{}
	if got := x.Trace.ID(); got != nil {
		t.Errorf("ID() = %q without a trace", got)
	}
	x.Trace.Parent = []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if got := string(x.Trace.ID()); got != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("ID() = %q", got)
	}
	x.Reset()
	if x.Trace.Parent != nil || x.Trace.RequestID != nil {
		t.Errorf("trace %q is there after Reset", x.Trace.Parent)
	}
}
