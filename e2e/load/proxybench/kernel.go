package proxybench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Proc reads what the kernel knows of processes; Root is "/proc".
type Proc struct{ Root string }

// CPU returns the time that the processes' threads have spent on processors, in user mode and in the kernel: what utime+stime of stat
// say in ticks of a hundredth of a second, schedstat says in nanoseconds. Threads that have ended are not in it.
func (p Proc) CPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		tasks, err := filepath.Glob(p.path(pid, "task", "*", "schedstat"))
		if err != nil || len(tasks) == 0 {
			return 0, fmt.Errorf("no threads of process %d: %w", pid, errors.Join(err, fs.ErrNotExist))
		}
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if gone(err) {
				continue
			}
			if err != nil {
				return 0, err
			}
			first, _, _ := strings.Cut(string(text), " ")
			ns, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", task, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// tick is the unit of /proc/stat, the same on all architectures.
const tick = 10 * time.Millisecond

// Busy returns the time that all processors together have been busy, for whomever.
func (p Proc) Busy() (time.Duration, error) { return p.spent(user, nice, system, irq, softirq, steal) }

// The columns of /proc/stat, where guests are part of user and nice.
const (
	user = iota + 1
	nice
	system
	_ // idle
	_ // iowait
	irq
	softirq
	steal
)

func (p Proc) spent(columns ...int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(p.Root, "stat"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) <= steal || fields[0] != "cpu" {
		return 0, fmt.Errorf("stat begins %q", line)
	}
	var sum time.Duration
	for _, column := range columns {
		ticks, err := strconv.ParseInt(fields[column], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		sum += time.Duration(ticks) * tick
	}
	return sum, nil
}

// Others returns the time that processors have spent on other processes than this one and its descendants, or that the machine's
// host has not given. Interrupts are nobody's. What a descendant that has ended did is the others'.
func (p Proc) Others(pid int) (time.Duration, error) {
	all, err := p.spent(user, nice, system, steal)
	if err != nil {
		return 0, err
	}
	ours, err := p.tree(pid)
	if err != nil {
		return 0, err
	}
	for _, one := range ours {
		d, err := p.CPU(one)
		if err != nil && !gone(err) {
			return 0, err
		}
		all -= d
	}
	return all, nil
}

func (p Proc) tree(pid int) ([]int, error) {
	family, err := p.Family(pid)
	if err != nil {
		return nil, err
	}
	tree := family[:1:1]
	for _, child := range family[1:] {
		below, err := p.tree(child)
		if err != nil {
			return nil, err
		}
		tree = append(tree, below...)
	}
	return tree, nil
}

// RSS returns the bytes of the processes that are in memory. What several of them share counts for each.
func (p Proc) RSS(pids ...int) (int64, error) { return p.status("VmRSS:", pids...) }

// PeakRSS returns the most bytes that were, since the start or ResetPeak.
func (p Proc) PeakRSS(pids ...int) (int64, error) { return p.status("VmHWM:", pids...) }

// ResetPeak makes PeakRSS begin anew.
func (p Proc) ResetPeak(pid int) error {
	return os.WriteFile(p.path(pid, "clear_refs"), []byte("5"), 0)
}

func (p Proc) status(field string, pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile(p.path(pid, "status"))
		if err != nil {
			return 0, err
		}
		_, rest, found := strings.Cut(string(text), field)
		if !found {
			return 0, fmt.Errorf("process %d: no %s", pid, field)
		}
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process %d: %s %w", pid, field, err)
		}
		sum += kib << 10
	}
	return sum, nil
}

// Family returns a process and its children, as of nginx its workers.
func (p Proc) Family(pid int) ([]int, error) {
	entries, err := os.ReadDir(p.Root)
	if err != nil {
		return nil, err
	}
	family := []int{pid}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(p.path(child, "stat"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// The name, in parentheses, may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			family = append(family, child)
		}
	}
	return family, nil
}

func (p Proc) path(pid int, elem ...string) string {
	return filepath.Join(append([]string{p.Root, strconv.Itoa(pid)}, elem...)...)
}

// gone says that a process or thread has ended meanwhile.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }
