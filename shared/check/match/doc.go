// Package match says what a request means to a gateway: how its target and host are normalised and which route takes it.
// The gateway normalises with the very functions of this package; its router is tested against Routes, and the control
// plane answers "which route would take this?" with it. Routes is written to be read, not to be fast.
//
// The package is pure: no sockets, no files, no clock.
package match
