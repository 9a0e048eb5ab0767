package runtime_test

import (
	"fmt"
	goruntime "runtime"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/shared/testkit"
)

func TestGenerationsThatNothingUsesAreForgotten(t *testing.T) {
	t.Parallel()
	var h runtime.Holder
	if n := h.Generations(); n != 0 {
		t.Fatalf("%d generations before the first", n)
	}
	held := &runtime.Runtime{}
	h.Store(held)
	h.Store(held) // the same again is not another one
	for range 10 {
		h.Store(&runtime.Runtime{})
	}
	testkit.Await(t, 10*time.Second, func() error {
		goruntime.GC()
		if n := h.Generations(); n != 2 {
			return fmt.Errorf("%d generations, want the one in force and the one that is held", n)
		}
		return nil
	})
	goruntime.KeepAlive(held)
	testkit.Await(t, 10*time.Second, func() error {
		goruntime.GC()
		if n := h.Generations(); n != 1 {
			return fmt.Errorf("%d generations, want the one in force", n)
		}
		return nil
	})
	goruntime.KeepAlive(&h)
}
