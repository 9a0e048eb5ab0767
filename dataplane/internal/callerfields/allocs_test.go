//go:build !race

package callerfields_test

import (
	"testing"

	"keyward.dev/dataplane/internal/callerfields"
	"keyward.dev/dataplane/internal/exchange"
)

func TestFieldsDoNotAllocate(t *testing.T) {
	f, x := callerfields.New(all()), &exchange.Exchange{}
	who := &exchange.Principal{Kind: exchange.KindUser, Consumer: "alice", ConsumerUID: "uid", Groups: []string{"gold", "a b"}, How: "key-auth"}
	claim := exchange.Field("x_groups", "root")
	pass := func() {
		x.Reset()
		x.Principal = who
		x.Request.Header.Add(claim)
		f.Remove(&x.Request.Header)
		f.Add(x)
	}
	pass()
	pass()
	if got := testing.AllocsPerRun(500, pass); got != 0 || len(x.Request.Header) != 5 {
		t.Errorf("telling who calls allocates %v times; header %v", got, x.Request.Header)
	}
}
