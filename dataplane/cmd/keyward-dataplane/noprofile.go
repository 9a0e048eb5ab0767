//go:build !profile

package main

// profile does nothing but in the program that `make pgo` builds.
func profile() error { return nil }
