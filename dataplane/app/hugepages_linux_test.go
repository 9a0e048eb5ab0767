package app

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"
)

func TestParseMapping(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]mapping{
		"2f7d70800000-2f7d77000000 rw-p 00000000 00:00 0":                                {0x2f7d70800000, 0x2f7d77000000},
		"c000000000-c000400000 rw-p 00000000 00:00 0                   [anon: Go: heap]": {0xc000000000, 0xc000400000},
		"2f7d70000000-2f7d70800000 ---p 00000000 00:00 0":                                {},
		"0058e000-00599000 rw-p 0018e000 fe:00 10002547                 /bin/x":          {},
		"7ffd0000-7ffe0000 rw-p 00000000 00:00 0                        [stack]":         {},
		"7f00-7fff rw-s 00000000 00:01 77":                                               {},
		"x-y rw-p 00000000 00:00 0":                                                      {},
		"2-1 rw-p 00000000 00:00 0":                                                      {},
		"":                                                                               {},
	} {
		got, ok := parseMapping([]byte(line))
		if ok != (want != mapping{}) || ok && got != want {
			t.Errorf("parseMapping(%q) = %x, %v, want %x", line, got, ok, want)
		}
	}
}

// Where the kernel makes huge pages, they hold what was there before, and what was not in use stays so.
func TestCompactHeap(t *testing.T) {
	blocks := make([][]byte, 64)
	for i := range blocks {
		blocks[i] = bytes.Repeat([]byte{byte(i + 1)}, 1<<20)
	}
	sparse := make([]byte, 64<<20)
	sparse[0] = 1
	before := resident(t)
	made := compactHeap()
	t.Logf("%d huge pages", made)
	for i, b := range blocks {
		if bytes.Count(b, []byte{byte(i + 1)}) != len(b) {
			t.Fatalf("block %d has changed", i)
		}
	}
	if after := resident(t); after > before+before/8+4<<20 {
		t.Errorf("the process grew from %d to %d bytes", before, after)
	}
	at := uintptr(unsafe.Pointer(&blocks[10][0]))
	if !inHeap(at) || !inHeap(uintptr(unsafe.Pointer(&sparse[1<<20]))) {
		t.Errorf("an object is in none of the heap's mappings")
	}
	runtime.KeepAlive(sparse)
}

func inHeap(at uintptr) bool {
	for _, m := range heapMappings() {
		if m.from <= at && at < m.to {
			return true
		}
	}
	return false
}

func resident(t *testing.T) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
