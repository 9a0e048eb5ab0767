//go:build profile

package main

import (
	"log"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"time"
)

// For `make pgo` alone, and in no program that is released: a profile of the gateway's first minute and a half, from which
// the compiler learns what is called often.
const profiled = 90 * time.Second

func init() {
	f, err := os.Create(filepath.Join(os.Getenv("PROFILE_DIR"), strconv.Itoa(os.Getpid())+".prof"))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		log.Fatal(err)
	}
	time.AfterFunc(profiled, func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	})
}
