package directory

import (
	"testing"
	"unsafe"
)

// What an allocation takes is the next of the sizes that Go's allocator knows: 288 is one.
func TestACredentialTakesNoMoreMemoryThanItHas(t *testing.T) {
	if got := unsafe.Sizeof(entry{}); got > 288 {
		t.Errorf("a credential takes %d bytes, want at most 288: there are gateways with a million", got)
	}
}
