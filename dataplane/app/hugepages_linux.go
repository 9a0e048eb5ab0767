package app

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	page     = 4 << 10
	hugePage = 2 << 20
	// full is how many pages of a huge one have to be in use already: the others are filled up, a tenth of a heap as it is
	// after a large configuration was compiled.
	full = hugePage / page * 5 / 8
	// heapSpan is how far from one of its objects the heap may reach: Go places all of it side by side.
	heapSpan = 64 << 30
)

// compactHeap has the kernel put the heap into huge pages where it is in use (MADV_COLLAPSE, Linux 6.1), and returns how
// many it made. Go leaves that to the system's settings, and those mostly leave it to the program. A kernel that cannot do
// it leaves everything as it is.
func compactHeap() (made int) {
	if os.Getpagesize() != page {
		return 0
	}
	for _, m := range heapMappings() {
		for at := (m.from + hugePage - 1) &^ (hugePage - 1); at+hugePage <= m.to; at += hugePage {
			if inUse(at) && collapse(at) {
				made++
			}
		}
	}
	return made
}

// inUse says whether nearly all of the memory that a huge page would take is there.
func inUse(at uintptr) bool {
	var there [hugePage / page]byte
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, at, hugePage, uintptr(unsafe.Pointer(&there))) //nolint:gosec // the kernel's interface
	n := 0
	for _, b := range there {
		n += int(b & 1)
	}
	return errno == 0 && n >= full
}

func collapse(at uintptr) bool {
	_, _, errno := unix.Syscall(unix.SYS_MADVISE, at, hugePage, unix.MADV_COLLAPSE)
	return errno == 0
}

type mapping struct{ from, to uintptr }

// heapMappings returns the heap's memory as the process sees it mapped.
func heapMappings() []mapping {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	object := uintptr(unsafe.Pointer(new([64]byte))) //nolint:gosec // only where it lies
	var out []mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		m, ok := parseMapping(lines.Bytes())
		if ok && m.to-m.from >= hugePage && m.from < object+heapSpan && m.to+heapSpan > object {
			out = append(out, m)
		}
	}
	return out
}

// parseMapping reads a line of /proc/PID/maps; ok is false for what is not private, anonymous and writable memory.
func parseMapping(line []byte) (m mapping, ok bool) {
	fields := bytes.Fields(line)
	anonymous := len(fields) == 5 || len(fields) > 5 && bytes.HasPrefix(fields[5], []byte("[anon:"))
	if !anonymous || string(fields[1]) != "rw-p" || string(fields[4]) != "0" {
		return mapping{}, false
	}
	low, high, _ := bytes.Cut(fields[0], []byte("-"))
	from, err := strconv.ParseUint(string(low), 16, 64)
	if err != nil {
		return mapping{}, false
	}
	to, err := strconv.ParseUint(string(high), 16, 64)
	return mapping{uintptr(from), uintptr(to)}, err == nil && to > from
}
