//go:build profile

package main

import (
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"time"
)

// profiled is how long the gateway is profiled from its start on.
const profiled = 90 * time.Second

// profile writes down, for `make pgo` alone and in no program that is released, what the gateway does: from that the compiler
// learns what is called often. It goes to the directory "profiles" beside the program.
func profile() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(filepath.Dir(program), "profiles", strconv.Itoa(os.Getpid())+".prof"))
	if err != nil {
		return err
	}
	time.AfterFunc(profiled, func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	})
	return pprof.StartCPUProfile(f)
}
